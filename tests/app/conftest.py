"""A page that is served by this process, with a model that comes with the package."""

import io
import os
import shutil
import socket
import types

import numpy as np
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


class Driver:
    """What a person does on the page, and sees there.

    Attributes:
        page: of playwright.
    """

    def __init__(self, page):
        self.page = page

    def drop(self, path):
        self.page.set_input_files("#mh-drop input[type=file]", path)

    def another(self, path):
        """Chooses a photo in place of the one on the page."""
        with self.page.expect_file_chooser() as chooser:
            self.page.click("#mh-another")
        chooser.value.set_files(path)

    def start(self, path, quality="Fast"):
        self.drop(path)
        self.page.wait_for_selector("#mh-before img")
        self.page.locator("#mh-quality").get_by_text(quality).click()
        self.page.click("#mh-restore")

    def restore(self, path):
        self.start(path)
        self.says("Restored in")
        self.page.wait_for_selector("#mh-slider img")

    def says(self, text, place="#mh-status"):
        """Waits until a text is there."""
        self.page.locator(place).get_by_text(text).first.wait_for()

    def picture(self, selector):
        """The pixels of a picture on the page."""
        source = self.page.locator(selector).get_attribute("src")
        return pixels(self.page.request.get(source).body())

    def saved(self, button="#mh-save"):
        """Name and contents of the file that a button saves."""
        with self.page.expect_download() as download:
            self.page.click(button)
        return download.value.suggested_filename, download.value.path().read_bytes()

    def saved_pixels(self):
        return pixels(self.saved()[1])


def pixels(data):
    return np.asarray(Image.open(io.BytesIO(data)))


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
        return Driver(page)

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
    environment = dict(os.environ)
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
    _set_environment(environment)
    assert outside == []


@pytest.fixture
def own_environment():
    """What the test sets in the environment goes with it."""
    environment = dict(os.environ)
    yield
    _set_environment(environment)


def _set_environment(environment):
    os.environ.clear()
    os.environ.update(environment)


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
