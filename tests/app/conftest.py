"""A page that is served by this process, with a model that comes with the package."""

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
