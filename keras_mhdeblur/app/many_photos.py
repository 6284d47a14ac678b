"""The second tab: a folder's worth of photos, a table of results, a zip file."""

import gradio as gr

from keras_mhdeblur.app import words
from keras_mhdeblur.app.one_photo import PHOTOS, PRIVATE, quality_radio
from keras_mhdeblur.app.studio import SUFFIXES

_HIDE, _SHOW = gr.update(visible=False), gr.update(visible=True)


class ManyPhotos:
    """Builds the tab inside a `gradio.Blocks` and connects it with a `Studio`."""

    def __init__(self, studio, default):
        self.studio = studio
        with gr.Row(elem_classes="mh-room"):
            with gr.Column(scale=3, min_width=320, elem_classes="mh-stage"):
                self.files = gr.File(
                    file_count="multiple",
                    file_types=PHOTOS,
                    show_label=False,
                    elem_id="mh-files",
                )
                self.table = gr.HTML(elem_id="mh-results")
            with gr.Column(scale=1, min_width=280, elem_classes="mh-panel"):
                self._build_panel(default)
        self._connect()

    def _build_panel(self, default):
        studio = self.studio
        self.status = gr.HTML(words.welcome_many(), elem_id="mh-many-status")
        self.quality = quality_radio(studio, default)
        self.format = gr.Radio(choices=list(SUFFIXES), value="PNG", label="Save as")
        self.start = gr.Button(
            "Restore all", variant="primary", elem_id="mh-start", interactive=False
        )
        self.cancel = gr.Button("Cancel", elem_id="mh-many-cancel", visible=False)
        self.zip = gr.DownloadButton(
            "Save all as a zip file", elem_id="mh-zip", visible=False
        )
        gr.HTML(words.limits(studio.max_megapixels))

    def _connect(self):
        outputs = [self.status, self.table, self.start, self.cancel, self.zip]
        self.files.change(self.chosen, self.files, outputs, **PRIVATE)
        inputs = [self.files, self.quality, self.format]
        self.start.click(self.run, inputs, outputs, **PRIVATE)
        self.cancel.click(self.stop, queue=False, **PRIVATE)

    def chosen(self, paths):
        """Photos were added or taken away."""
        return {
            self.start: gr.update(interactive=bool(paths)),
            self.zip: _HIDE,
            self.status: words.chosen(len(paths or [])),
        }

    def run(self, paths, name, kind, request: gr.Request):
        """Restore all was clicked."""
        visitor = self.studio.visitor(request.session_hash)
        yield {self.start: _HIDE, self.cancel: _SHOW, self.zip: _HIDE}
        ready = {self.start: _SHOW, self.cancel: _HIDE}
        works = self.studio.restore_all(visitor, name, paths or [], kind)
        rows, archive, before = [], None, None
        try:
            while True:
                rows, step = next(works)
                table = words.table(rows)
                # The table goes over the wire only when it has changed.
                news = {} if table == before else {self.table: table}
                before = table
                yield {**news, self.status: words.batch_progress(rows, step)}
        except StopIteration as end:
            archive = end.value
        except Exception as error:
            yield {**ready, self.status: words.note(words.sentence(error), "bad")}
            return
        yield {
            **ready,
            self.table: words.table(rows),
            self.status: words.batch_done(rows),
            self.zip: gr.update(
                value=archive and str(archive), visible=archive is not None
            ),
        }

    def stop(self, request: gr.Request):
        """Cancel was clicked."""
        self.studio.visitor(request.session_hash).stop()
