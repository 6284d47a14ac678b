"""LiteRT files of a fixed size, and the example that restores photos with them."""

import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from PIL import Image

from keras_mhdeblur import export

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "restore_tiles.py"


@pytest.fixture(scope="module")
def model(model, adaptive):
    """Its image is an adaptive mean, as that of `nafnet_mh_c`."""
    return adaptive(model.network)


@pytest.fixture(scope="module")
def tile_file(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("tiles") / "tile.tflite"
    export.to_litert(model, path, size=(96, 80))
    return path


@pytest.mark.parametrize("size", [(96, 80), (97, 81), (40, 300), (211, 96), (1, 1)])
def test_tiles_cover_the_image(size):
    image = np.random.default_rng(1).random((*size, 3), "float32")
    in_tiles = runpy.run_path(str(EXAMPLE))["in_tiles"]
    tiles = []

    def darker(tile):
        tiles.append(tile.shape)
        return tile / 2

    found = in_tiles(darker, image, (96, 80))
    assert set(tiles) == {(96, 80, 3)}
    np.testing.assert_allclose(found, image / 2, atol=1e-6)


def test_example(model, images, tile_file, tmp_path):
    """The middle of a photo of one tile; more photos are more tiles."""
    photo = np.uint8(255 * images(1, 96, 80)[0])
    Image.fromarray(photo).save(tmp_path / "photo.png")
    run = [sys.executable, EXAMPLE, tile_file, tmp_path / "photo.png"]
    subprocess.run([*run, tmp_path / "out.png"], check=True, capture_output=True)
    expected = model.restore(photo, engine="keras").image
    found = np.asarray(Image.open(tmp_path / "out.png"))
    assert np.abs(found.astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    "name, message", [("photo.png", "No such file"), ("model.tflite", "Could not open")]
)
def test_example_without_files(tile_file, name, message, tmp_path):
    model = tile_file if name == "photo.png" else tmp_path / name
    run = [sys.executable, EXAMPLE, model, tmp_path / "photo.png", tmp_path / "o.png"]
    result = subprocess.run(run, capture_output=True, text=True)
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert f"error: {message}" in result.stderr.replace("[Errno 2] ", "")


def test_operators_are_those_of_the_page(tile_file):
    interpreter = Interpreter(
        str(tile_file),
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    names = {entry["op_name"] for entry in interpreter._get_ops_details()}
    (listed,) = [
        line
        for line in (ROOT / "docs" / "export.md").read_text().splitlines()
        if line.startswith("`ADD` ")
    ]
    assert names <= set(listed.replace("`", "").split())
