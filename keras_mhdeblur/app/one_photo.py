"""The first tab: one photo, its hypotheses, and a brush to choose among them."""

import gradio as gr

from keras_mhdeblur.app import brush, pictures, words
from keras_mhdeblur.app.retouching import RESTORED
from keras_mhdeblur.app.studio import SUFFIXES
from keras_mhdeblur.app.turns import CancelledError
from keras_mhdeblur.app.uploads import RefusedError

# What the file picker offers; the contents count, and are looked at by the server.
PHOTOS = ["image", ".avif", ".jp2", ".heic", ".tif", ".tiff"]
# Of events: for this page and not for programs.
PRIVATE = {"api_visibility": "private", "show_progress": "hidden"}
_HIDE, _SHOW = gr.update(visible=False), gr.update(visible=True)
# Starts the download of a file that a hidden button holds.
CLICK = "() => setTimeout(() => document.querySelector('#{}').click(), 100)"


class OnePhoto:
    """Builds the tab inside a `gradio.Blocks` and connects it with a `Studio`."""

    def __init__(self, studio, default):
        self.studio = studio
        with gr.Row(elem_classes="mh-room"):
            with gr.Column(scale=3, min_width=320, elem_classes="mh-stage"):
                self._build_stage()
            with gr.Column(scale=1, min_width=280, elem_classes="mh-panel"):
                self._build_panel(default)
        self._connect()

    def _build_stage(self):
        self.drop = gr.File(
            label="Photo", elem_id="mh-drop", file_types=PHOTOS, show_label=False
        )
        self.about = gr.HTML(elem_id="mh-about", visible=False)
        self.before = gr.Image(
            elem_id="mh-before",
            visible=False,
            show_label=False,
            interactive=False,
            format="png",
            buttons=[],
        )
        with gr.Tabs(elem_id="mh-views", visible=False) as self.views:
            with gr.Tab("Compare"):
                self.slider = gr.ImageSlider(
                    elem_id="mh-slider",
                    type="pil",
                    format="png",
                    interactive=False,
                    show_label=False,
                    buttons=["fullscreen"],
                )
                with gr.Row(elem_classes="mh-line"):
                    self.overlay = gr.Checkbox(
                        label="Show where the answers differ", elem_id="mh-overlay"
                    )
                    self.legend = gr.HTML(elem_id="mh-legend")
                self.caption = gr.HTML(words.caption(), elem_classes="mh-caption")
                self.gallery = self._gallery("mh-gallery")
            with gr.Tab("Retouch"):
                self.board = gr.HTML(
                    elem_id="mh-board-box", js_on_load=brush.SCRIPT, padding=False
                )
                self.hint = gr.HTML(elem_id="mh-hint")
                self.answers = self._gallery("mh-answers")
                with gr.Row(elem_classes="mh-line"):
                    self.base = gr.Dropdown(
                        label="Everything else shows", elem_id="mh-base"
                    )
                    self.feather = gr.Slider(
                        *(0, 64, 8), step=1, label="Soft edge, pixels"
                    )
                    self.undo = gr.Button(
                        "Undo", elem_id="mh-undo", interactive=False, min_width=90
                    )

    def _gallery(self, name):
        return gr.Gallery(
            elem_id=name,
            show_label=False,
            allow_preview=False,
            interactive=False,
            columns=11,
            object_fit="cover",
            format="png",
            buttons=[],
        )

    def _build_panel(self, default):
        studio = self.studio
        self.status = gr.HTML(words.welcome(), elem_id="mh-status")
        self.quality = quality_radio(studio, default, elem_id="mh-quality")
        self.restore = gr.Button(
            "Restore", variant="primary", elem_id="mh-restore", interactive=False
        )
        self.cancel = gr.Button("Cancel", elem_id="mh-cancel", visible=False)
        with gr.Group(visible=False, elem_id="mh-saving") as self.saving:
            self.format = gr.Radio(
                choices=list(SUFFIXES),
                value="PNG",
                label="Save as",
                elem_id="mh-format",
            )
            self.save = gr.Button("Save full size", elem_id="mh-save")
        self.file = gr.DownloadButton(visible="hidden", elem_id="mh-file")
        self.another = gr.UploadButton(
            "Another photo", elem_id="mh-another", file_types=PHOTOS, visible=False
        )
        gr.HTML(words.limits(studio.max_megapixels), elem_id="mh-limits")

    def _connect(self):
        opened = [
            *(self.status, self.drop, self.about, self.before, self.views),
            *(self.quality, self.restore, self.saving, self.another),
        ]
        for source in (self.drop, self.another):
            source.upload(self.open, source, opened, **PRIVATE)
        self.shown = gr.State(RESTORED)
        seen = [
            *(self.status, self.restore, self.cancel, self.before, self.views),
            *(self.slider, self.legend, self.gallery, self.answers, self.board),
            *(self.hint, self.base, self.undo, self.saving, self.quality),
            *(self.shown, self.overlay, self.caption),
        ]
        self.restore.click(self.run, self.quality, seen, **PRIVATE)
        self.cancel.click(self.stop, queue=False, **PRIVATE)
        after = [self.slider, self.legend]
        self.gallery.select(self.choose, self.overlay, [self.shown, *after], **PRIVATE)
        self.overlay.input(self.look, [self.shown, self.overlay], after, **PRIVATE)
        self.board.input(self.brushed, None, self.hint, queue=False, **PRIVATE)
        changed = [self.board, self.hint, self.undo, self.answers, self.gallery]
        changed += [self.shown, self.slider, self.legend]
        self.answers.select(self.give, self.overlay, changed, **PRIVATE)
        self.undo.click(self.take_back, self.overlay, changed, **PRIVATE)
        settings = [self.base, self.feather, self.overlay]
        self.base.input(self.set_rest, settings, changed, **PRIVATE)
        self.feather.release(self.set_rest, settings, changed, **PRIVATE)
        self.save.click(
            self.write, [self.format, self.shown], [self.file, self.status], **PRIVATE
        ).success(None, js=CLICK.format("mh-file"), **PRIVATE)

    # What happens. Every function returns the sentence that a person reads when it
    # does not work.

    def open(self, path, request: gr.Request):
        """A photo was dropped."""
        visitor = self.studio.visitor(request.session_hash)
        try:
            photo = self.studio.open(visitor, path)
            visitor.before = self._picture(visitor, photo.values)
        except Exception as error:
            return {
                self.status: words.note(words.sentence(error), "bad"),
                self.drop: gr.update(value=None),
            }
        choices = quality_choices(self.studio, visitor.size)
        return {
            self.status: "",
            self.drop: gr.update(value=None, visible=False),
            self.about: gr.update(
                value=words.about_photo(path, visitor.size, pictures.SCREEN),
                visible=True,
            ),
            self.before: gr.update(value=visitor.before, visible=True),
            **dict.fromkeys((self.views, self.saving), _HIDE),
            self.quality: gr.update(choices=choices),
            self.restore: gr.update(interactive=True),
            self.another: _SHOW,
        }

    def run(self, name, request: gr.Request):
        """Restore was clicked."""
        visitor = self.studio.visitor(request.session_hash)
        yield {
            self.restore: _HIDE,
            self.cancel: _SHOW,
            self.status: words.note("Starting"),
        }
        ready = {self.restore: _SHOW, self.cancel: _HIDE}
        try:
            expected = visitor.size and self.studio.estimate(name, visitor.size)
            for step in self.studio.restore(visitor, name):
                yield {self.status: words.progress(step, expected)}
            yield {self.status: words.note("Preparing the pictures")}
            result = self._result(visitor)
        except CancelledError:
            yield {**ready, self.status: words.note("Cancelled. Nothing was changed.")}
        except Exception as error:
            yield {**ready, self.status: words.note(words.sentence(error), "bad")}
        else:
            yield {**ready, **result}

    def stop(self, request: gr.Request):
        """Cancel was clicked."""
        self.studio.visitor(request.session_hash).stop()

    def choose(self, overlay, event: gr.SelectData, request: gr.Request):
        """A thumbnail was clicked: it is compared with the photo."""
        shown = event.index - 1
        slider, legend = self.look(shown, overlay, request)
        return shown, slider, legend

    def look(self, shown, overlay, request: gr.Request):
        """The picture beside the photo, and what its colours mean."""
        visitor, retouched = self._retouched(request)
        try:
            if retouched is None:
                raise RefusedError(words.FORGOTTEN)
            return self._pair(visitor, retouched.shown(shown), shown, overlay)
        except Exception as error:
            return gr.skip(), words.note(words.sentence(error), "bad")

    def brushed(self, event: gr.EventData, request: gr.Request):
        """A stroke has ended."""
        visitor, retouched = self._retouched(request)
        if retouched is None:
            return words.note(words.FORGOTTEN, "bad")
        try:
            visitor.mask = brush.mask_of(event.mask, visitor.size)
        except RefusedError as error:
            return words.note(str(error), "bad")
        return words.hint(visitor.mask is not None)

    def give(self, overlay, event: gr.SelectData, request: gr.Request):
        """A thumbnail was clicked: the brushed region shows it."""
        visitor, retouched = self._retouched(request)
        if retouched is not None and visitor.mask is None:
            yield {self.hint: words.note(words.BRUSH_FIRST, "bad")}
            return
        yield {self.hint: words.composing()}
        if retouched is not None:
            retouched.add(visitor.mask, event.index - 1)
        yield self._changed(visitor, overlay)

    def take_back(self, overlay, request: gr.Request):
        """Undo was clicked."""
        visitor, retouched = self._retouched(request)
        yield {self.hint: words.composing()}
        if retouched is not None:
            retouched.undo()
        yield self._changed(visitor, overlay)

    def set_rest(self, base, feather, overlay, request: gr.Request):
        """Another hypothesis for all that is not brushed, or another soft edge."""
        visitor, retouched = self._retouched(request)
        yield {self.hint: words.composing()}
        if retouched is not None:
            names = retouched.names
            retouched.base = names.index(base) if base in names else RESTORED
            retouched.feather = int(feather)
        yield self._changed(visitor, overlay)

    def write(self, kind, shown, request: gr.Request):
        """Save was clicked."""
        visitor, retouched = self._retouched(request)
        yield None, words.note("Writing the file")
        try:
            if retouched is None:
                raise RefusedError(words.FORGOTTEN)
            path = visitor.new_file(f"{visitor.path.stem}_restored{SUFFIXES[kind]}")
            retouched.save(path, shown)
        except Exception as error:
            text = words.sentence(error)
            yield None, words.note(text, "bad")
            # What follows, the download, does not.
            raise gr.Error(text, visible=False, print_exception=False) from None
        yield str(path), words.note(f"Saved as {path.name}.", "good")

    # What is shown.

    def _retouched(self, request):
        visitor = self.studio.visitor(request.session_hash)
        return visitor, visitor.retouched

    def _result(self, visitor):
        """Everything that a restored photo brings."""
        retouched = visitor.retouched
        visitor.spot = pictures.spot(retouched.uncertainty)
        visitor.thumbnails = _thumbnails(retouched, visitor.spot)
        names = retouched.names
        several = len(names) > 1
        return {
            **self._composed(visitor, overlay=False),
            self.status: words.restored(visitor.seconds, retouched.result),
            self.before: _HIDE,
            self.views: gr.update(
                visible=True, elem_classes=[] if several else ["mh-alone"]
            ),
            self.caption: gr.update(visible=several),
            self.overlay: gr.update(value=False, visible=several),
            self.hint: words.hint(False),
            self.base: gr.update(choices=["Restored", *names], value="Restored"),
            self.saving: _SHOW,
            self.quality: gr.update(choices=quality_choices(self.studio, visitor.size)),
        }

    def _changed(self, visitor, overlay):
        """The page after regions have changed."""
        try:
            if visitor.retouched is None:
                raise RefusedError(words.FORGOTTEN)
            visitor.mask = None
            hint = words.regions(len(visitor.retouched))
            return {**self._composed(visitor, overlay), self.hint: hint}
        except Exception as error:
            return {self.hint: words.note(words.sentence(error), "bad")}

    def _composed(self, visitor, overlay):
        """The photo as it is now, wherever it is shown."""
        retouched = visitor.retouched
        photo = retouched.composed()
        slider, legend = self._pair(visitor, photo, RESTORED, overlay)
        small = pictures.preview(photo.values[visitor.spot], pictures.THUMBNAIL)
        items = [(small, "Restored"), *visitor.thumbnails]
        several = len(retouched.names) > 1
        return {
            self.board: brush.board(pictures.preview(photo.values)),
            self.undo: gr.update(interactive=len(retouched) > 0),
            self.shown: RESTORED,
            self.slider: slider,
            self.legend: legend,
            self.gallery: gr.update(value=items, selected_index=0, visible=several),
            self.answers: gr.update(value=items, selected_index=None),
        }

    def _pair(self, visitor, photo, shown, overlay):
        """Before and after, and the legend of the after's colours."""
        retouched = visitor.retouched
        uncertainty = retouched.uncertainty if overlay else None
        after, level = self._picture(visitor, photo.values, uncertainty), None
        if overlay:
            level = pictures.scale(uncertainty)
        return (visitor.before, after), words.legend(retouched, shown, level)

    def _picture(self, visitor, values, uncertainty=None):
        """Path of a picture for the screen."""
        picture = pictures.preview(values)
        if uncertainty is not None:
            picture = pictures.with_uncertainty(picture, uncertainty)
        path = visitor.new_file("picture.png")
        picture.save(path, compress_level=1)
        return str(path)


def _thumbnails(retouched, spot):
    """(picture, name) of every hypothesis at a place."""
    return [
        (
            pictures.preview(retouched.hypothesis(i).values[spot], pictures.THUMBNAIL),
            name,
        )
        for i, name in enumerate(retouched.names)
    ]


def quality_radio(studio, default, elem_id=None):
    """The choice between seconds and sharpness, where there is one."""
    return gr.Radio(
        choices=quality_choices(studio),
        value=default,
        label="Quality",
        elem_id=elem_id,
        elem_classes="mh-choices",
        visible=len(studio.choices) > 1,
    )


def quality_choices(studio, size=None):
    """(words, name) of every choice, with the time that a photo of a size takes."""
    each = size or (1000, 1000)
    return [
        (words.choice(name, studio.estimate(name, each), size is not None), name)
        for name in studio.choices
    ]
