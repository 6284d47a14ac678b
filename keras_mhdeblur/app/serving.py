"""Serves the page, from a folder of its own that goes with the server."""

import contextlib
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from keras_mhdeblur.app.studio import Choice, Studio
from keras_mhdeblur.photos import pixel_limit
from keras_mhdeblur.utils.types import PathLike

MAX_MEGAPIXELS = 60
# A model and further arguments of `restore`, of the name of a choice.
LoadModel = Callable[[str], tuple[Any, dict[str, Any]]]
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def create_app(
    load_model: LoadModel,
    choices: Sequence[Choice],
    *,
    folder: PathLike,
    default: str | None = None,
    max_megapixels: float = MAX_MEGAPIXELS,
    local: bool = True,
) -> Any:
    """The page as a `gradio.Blocks` that is not served yet.

    Args:
        load_model, choices, default, max_megapixels: as of `launch`.
        folder: for uploads and results; whoever made it deletes it.
        local: whether only this machine sees the page, which it then says.

    Returns:
        `gradio.Blocks`; `app.page.serve` serves it.

    Raises:
        ImportError: if Gradio is not installed.
    """
    prepare_gradio(folder)
    from keras_mhdeblur.app.page import create_page

    studio = Studio(load_model, choices, max_megapixels, Path(folder) / "visitors")
    return create_page(studio, default or choices[0].name, local)


def launch(
    load_model: LoadModel,
    choices: Sequence[Choice],
    *,
    default: str | None = None,
    host: str = "127.0.0.1",
    port: int | None = None,
    max_megapixels: float = MAX_MEGAPIXELS,
    open_browser: bool = False,
    ready: Callable[[str], Any] = print,
) -> None:
    """Serves the page until the process is interrupted.

    Uploads and results lie in a temporary folder that is deleted at the end, also after
    Ctrl-C or SIGTERM. No other machine is asked for anything.

    Args:
        load_model: function from the name of a choice to a model and a dict of further
            arguments of `restore`. The default's is loaded before the page is served.
        choices: list of `Choice`.
        default: name of the choice that is set at first; the first one when None.
        host: address to listen at; "127.0.0.1": this machine only.
        port: port to listen at; None: the first free one from 7860 on.
        max_megapixels: refuse larger photos.
        open_browser: whether to show the page in a browser of this machine.
        ready: called with the page's address once it is served.

    Raises:
        ImportError: if Gradio is not installed.
        OSError: if the port is taken, or there is no such address.
    """
    with own_folder() as folder, stopped_by_signals() as stopped:
        page = create_app(
            load_model,
            choices,
            folder=folder,
            default=default,
            max_megapixels=max_megapixels,
            local=host in _LOOPBACK,
        )
        from keras_mhdeblur.app.page import serve

        page.studio.model(default or choices[0].name)
        # Pillow's own limit would come first where more is asked for.
        with pixel_limit(max(max_megapixels, 179) * 10**6):
            address = serve(page, host, port, open_browser)
            try:
                ready(address)
                stopped.wait()
            except KeyboardInterrupt:
                if not stopped.is_set():  # not ours
                    raise
            finally:
                page.studio.close()
                page.close(verbose=False)


def prepare_gradio(folder):
    """Sets what Gradio reads when it is imported: no statistics, files in `folder`.

    Raises:
        ImportError: if Gradio is not installed.
    """
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    # It asks the page once whether it is there: not through a proxy.
    for name in ("NO_PROXY", "no_proxy"):
        places = filter(None, (os.environ.get(name), "localhost,127.0.0.1,::1"))
        os.environ[name] = ",".join(places)
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        raise ImportError(
            'The app needs Gradio: pip install "keras-mhdeblur[app]"'
        ) from error


@contextlib.contextmanager
def own_folder():
    """A temporary folder for this user alone, which is deleted at the end.

    Large arrays, which `restore` keeps in temporary files, lie in it, too.
    """
    folder = Path(tempfile.mkdtemp(prefix="mhdeblur-app-"))
    before = tempfile.tempdir
    tempfile.tempdir = str(folder)
    try:
        yield folder
    finally:
        tempfile.tempdir = before
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def stopped_by_signals():
    """An event that SIGINT and SIGTERM set, in the main thread of a process."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return

    def stop(number, frame):
        if stopped.is_set():  # impatience: the folder is being deleted already
            return
        stopped.set()
        raise KeyboardInterrupt

    before = {
        number: signal.signal(number, stop)
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
