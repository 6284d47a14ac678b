"""The page, and how it is served.

Importing this module imports Gradio; see `serving.prepare_gradio`.
"""

from pathlib import Path

import gradio as gr
from starlette.responses import PlainTextResponse

from keras_mhdeblur.app import words
from keras_mhdeblur.app.many_photos import ManyPhotos
from keras_mhdeblur.app.one_photo import OnePhoto

_HERE = Path(__file__).parent
_SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
_MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")
_COLOURS = {
    "background_fill_primary": "var(--mh-card)",
    "background_fill_secondary": "var(--mh-well)",
    "block_background_fill": "var(--mh-card)",
    "block_border_color": "var(--mh-line)",
    "block_label_text_color": "var(--mh-soft)",
    "block_info_text_color": "var(--mh-soft)",
    "block_shadow": "none",
    "block_title_text_color": "var(--mh-soft)",
    "body_background_fill": "var(--mh-paper)",
    "body_text_color": "var(--mh-ink)",
    "body_text_color_subdued": "var(--mh-soft)",
    "border_color_accent": "var(--mh-accent)",
    "border_color_primary": "var(--mh-line)",
    "button_primary_background_fill": "var(--mh-accent)",
    "button_primary_background_fill_hover": "var(--mh-accent-deep)",
    "button_primary_border_color": "transparent",
    "button_primary_text_color": "var(--mh-on-accent)",
    "button_secondary_background_fill": "var(--mh-card)",
    "button_secondary_background_fill_hover": "var(--mh-well)",
    "button_secondary_border_color": "var(--mh-line)",
    "button_secondary_text_color": "var(--mh-ink)",
    "checkbox_background_color": "var(--mh-card)",
    "checkbox_background_color_selected": "var(--mh-accent)",
    "checkbox_border_color": "var(--mh-soft)",
    "checkbox_border_color_focus": "var(--mh-accent)",
    "checkbox_border_color_selected": "var(--mh-accent)",
    "checkbox_label_background_fill": "var(--mh-card)",
    "checkbox_label_background_fill_hover": "var(--mh-card)",
    "checkbox_label_background_fill_selected": "var(--mh-tint)",
    "checkbox_label_text_color": "var(--mh-ink)",
    "checkbox_label_text_color_selected": "var(--mh-ink)",
    "color_accent_soft": "var(--mh-tint)",
    "error_background_fill": "var(--mh-bad-tint)",
    "error_border_color": "var(--mh-bad)",
    "error_text_color": "var(--mh-bad)",
    "input_background_fill": "var(--mh-card)",
    "input_border_color": "var(--mh-line)",
    "input_border_color_focus": "var(--mh-accent)",
    "link_text_color": "var(--mh-accent)",
    "link_text_color_hover": "var(--mh-accent-deep)",
    "slider_color": "var(--mh-accent)",
    "table_even_background_fill": "var(--mh-card)",
    "table_odd_background_fill": "var(--mh-card)",
}
# The browser follows the system: one name colours its own bars, too.
_HEAD = '<meta name="color-scheme" content="light dark">'


def create_page(studio, default, local=True):
    """The page of a `Studio`, not yet served.

    Args:
        studio: `Studio`.
        default: name of the choice that is set at first.
        local: whether the page is for this machine only, which it then says.

    Returns:
        `gradio.Blocks`, with the `studio` as an attribute.
    """

    def left(request: gr.Request):
        studio.leave(request.session_hash)

    with gr.Blocks(title=words.TITLE, delete_cache=(1800, 4 * 3600)) as page:
        gr.HTML(words.header(local), elem_id="mh-header")
        with gr.Tabs(elem_id="mh-tabs"):
            with gr.Tab("One photo"):
                OnePhoto(studio, default)
            with gr.Tab("Many photos"):
                ManyPhotos(studio, default)
        page.unload(left)
    # The studio's own turns are the queue: one photo at a time.
    page.queue(default_concurrency_limit=None)
    page.studio = studio
    return page


def serve(page, host="127.0.0.1", port=None, open_browser=False):
    """Serves a page in a thread.

    Args:
        page: what `create_page` returned.
        host, port, open_browser: as of `launch`.

    Returns:
        The page's address.

    Raises:
        OSError: if the port is taken, or there is no such address.
    """
    try:
        _, address, _ = page.launch(
            server_name=host,
            server_port=port,
            inbrowser=open_browser,
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            run_history=False,
            enable_monitoring=False,
            footer_links=[],
            max_file_size=f"{words.MAX_MEGABYTES}mb",
            theme=_theme(),
            css_paths=_HERE / "style.css",
            favicon_path=_HERE / "icon.svg",
            head=_HEAD,
            app_kwargs={"exception_handlers": {OSError: _refused_upload}},
        )
    except OSError as error:
        raise OSError(
            "The page cannot be served: the port is taken, or this machine has no such "
            f"address. Received: host={host}, port={port}"
        ) from error
    return address


async def _refused_upload(request, error):
    """The answer where an upload cannot be written."""
    return PlainTextResponse(words.sentence(error), status_code=507)


def _theme():
    theme = gr.themes.Base(font=_SANS, font_mono=_MONO, radius_size="lg")
    # The style sheet has light and dark colours of one name.
    dark = {f"{name}_dark": value for name, value in _COLOURS.items()}
    return theme.set(**_COLOURS, **dark, color_accent="var(--mh-accent)")
