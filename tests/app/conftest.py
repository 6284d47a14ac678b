"""A page that is served by this process, with a model that comes with the package."""

import shutil
import socket
import types

import pytest
from PIL import Image

from keras_mhdeblur.app.studio import Choice, Studio
from keras_mhdeblur.presets.litert import litert_from_preset

PHOTO = "examples/photos/gopro_street.jpg"


@pytest.fixture(scope="package")
def model():
    pytest.importorskip("ai_edge_litert")
    return litert_from_preset("nafnet_mh_c")


@pytest.fixture(scope="session")
def photo(pytestconfig, tmp_path_factory):
    """The path of a small blurry photo with EXIF."""
    path = tmp_path_factory.mktemp("photos") / "street.jpg"
    exif = Image.Exif()
    exif[0x010F] = "Maker of cameras"
    with Image.open(pytestconfig.rootpath / PHOTO) as image:
        image.crop((520, 300, 712, 428)).save(path, quality=95, exif=exif)
    return path


@pytest.fixture(scope="session")
def large_photo(pytestconfig, tmp_path_factory):
    """The path of a photo of many tiles of 64 pixels: hundreds of them."""
    path = tmp_path_factory.mktemp("photos") / "large.png"
    with Image.open(pytestconfig.rootpath / PHOTO) as image:
        image.crop((0, 0, 720, 560)).save(path)
    return path


@pytest.fixture
def make_studio(model, tmp_path):
    """Builds a `Studio`; `options` go to `restore`."""

    def make(max_megapixels=60, **options):
        choices = [Choice("fast", 1.0), Choice("good", 17.0)]
        folder = tmp_path / "visitors"
        return Studio(lambda name: (model, options), choices, max_megapixels, folder)

    return make


@pytest.fixture
def text_file(tmp_path):
    path = tmp_path / "letter.jpg"
    path.write_text("Dear reader, this is no photo.")
    return path


@pytest.fixture(scope="session")
def chromium():
    """A Chromium that tests drive."""
    playwright = pytest.importorskip("playwright.sync_api")
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with playwright.sync_playwright() as programs:
        options = {"executable_path": path, "args": ["--no-sandbox"]}
        with programs.chromium.launch(**options) as browser:
            yield browser


@pytest.fixture
def new_page(chromium):
    """Opens pages; none may ask another machine for anything, or have an error."""
    contexts, requests, errors = [], [], []

    def open_page(url, width=1280):
        context = chromium.new_context(viewport={"width": width, "height": 900})
        contexts.append((context, url))
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("request", lambda request: requests.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(url)
        page.wait_for_selector("#mh-drop")
        return page

    yield open_page
    origins = tuple(url for _, url in contexts)
    for context, _ in contexts:
        context.close()
    assert requests
    assert [
        url for url in requests if not url.startswith((*origins, "data:", "blob:"))
    ] == []
    assert errors == []


@pytest.fixture(scope="package")
def served(model, tmp_path_factory):
    """The page on the loopback, of choices "fast" and "tiles", many small ones."""
    pytest.importorskip("gradio")
    from keras_mhdeblur.app import create_app

    patch = pytest.MonkeyPatch()
    for name in ("GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_ENABLED"):
        patch.setenv(name, "")  # what it was comes back at the end
    outside = _watch_connections(patch)
    folder = tmp_path_factory.mktemp("app")
    options = {"fast": {}, "tiles": {"tile": 64}}
    app = create_app(
        lambda name: (model, options[name]),
        [Choice(name, 1.0) for name in options],
        folder=folder,
        max_megapixels=2,
    )
    from keras_mhdeblur.app.page import serve

    url = serve(app)
    yield types.SimpleNamespace(
        url=url, studio=app.studio, folder=folder, outside=outside
    )
    app.studio.close()
    app.close(verbose=False)
    patch.undo()
    assert outside == []


def _watch_connections(patch):
    """A list of the addresses outside of this machine that the process asks for."""
    outside = []
    connect = socket.socket.connect

    def watched(self, address):
        local = not isinstance(address, tuple) or address[0] in (
            *("127.0.0.1", "::1", "localhost", "0.0.0.0"),
        )
        if not local:
            outside.append(address)
        return connect(self, address)

    patch.setattr(socket.socket, "connect", watched)
    return outside
