"""`mhdeblur export`."""

import json

import numpy as np
import pytest
from PIL import Image

from keras_mhdeblur import cli
from keras_mhdeblur.export import litert
from keras_mhdeblur.export.parity import Bound


@pytest.fixture(scope="module")
def model(tlc_deblurrer):
    return tlc_deblurrer


@pytest.fixture(autouse=True)
def network_alone(without_guard):
    """Exports hold the network, which `restore` is compared with without its guard."""


@pytest.fixture(scope="module")
def preset(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("presets") / "tiny"
    model.save_to_preset(folder)
    return folder


@pytest.fixture(scope="module")
def photos(images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for index in range(2):
        pixels = np.uint8(255 * images(1, 20 + index, 26)[0])
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return folder


def run(*arguments):
    return cli.main(["export", *map(str, arguments)])


def test_litert_file(model, preset, photos, images, tmp_path, capfd):
    path = tmp_path / "new" / "model.tflite"
    command = [preset, "--format", "litert", "-o", path, "--output-kind", "2,0"]
    command += ["--size", "21x30", "--tlc-train-size", "none", "--check"]
    assert run(*command, "--photo", photos / "0.png") == 0
    printed, log = capfd.readouterr()
    assert "model.tflite: litert, heads 2+0, 21x30, local statistics None" in printed
    assert "within the bound" in printed and "Exporting" in log
    assert "WARNING" not in log
    assert json.loads((path.parent / "model.tflite.json").read_text())["passed"]
    image = images(1, 21, 30)
    (found,) = litert.load_litert(path)(images=image).values()
    expected = model.restore(image, select=(2, 0), tlc_train_size=None, engine="keras")
    np.testing.assert_allclose(found, expected.image, atol=1e-5)


@pytest.mark.filterwarnings("ignore:The export differs from Keras")
def test_check(preset, tmp_path, monkeypatch):
    monkeypatch.setitem(litert.BOUNDS, "float32", Bound(max_difference=0))
    command = [preset, "--format", "litert", "-o", tmp_path / "m.tflite"]
    command += ["--tlc-train-size", "none", "--size", "4x6"]
    assert run(*command, "--check") == 1
    assert run(*command) == 0


@pytest.mark.slow
def test_representative_photos(preset, photos, tmp_path, capfd):
    path = tmp_path / "m.tflite"
    command = [preset, "--format", "litert", "-o", path, "--weights", "full_int8"]
    assert run(*command, "--representative", photos) == 0
    assert "full_int8" in capfd.readouterr().out and path.is_file()
    assert run(*command, "--representative", tmp_path / "none") == 2
    assert "--representative" in capfd.readouterr().err
    assert run(*command) == 2
    assert "`representative_data` must be given" in capfd.readouterr().err


def test_saved_model(preset, photos, tmp_path, capfd):
    pytest.importorskip("tensorflow_serving")
    command = [preset, "--format", "saved_model", "-o", tmp_path / "served"]
    command += ["--warm-up", "16x16", "--photo", photos / "0.png"]
    assert run(*command, "--version", 3) == 0
    folder = tmp_path / "served" / "3"
    assert (folder / "saved_model.pb").is_file()
    assert (folder / "assets.extra" / "tf_serving_warmup_requests").is_file()
    assert "saved_model, selected" in capfd.readouterr().out
    assert run(*command, "--version", 3) == 2
    assert "version" in capfd.readouterr().err


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--output-kind", "medoid"], "must be selected, mean, single, adaptive"),
        (["--size", "64"], "must be a height and a width"),
        (["--size", "0x64"], "must be a positive number"),
        (["--weights", "int4"], "invalid choice"),
        (["--format", "tensorrt"], "invalid choice"),
    ],
)
def test_wrong_arguments(preset, arguments, message, capfd):
    with pytest.raises(SystemExit) as caught:
        run(preset, "--format", "litert", "-o", "m.tflite", *arguments)
    assert caught.value.code == 2
    assert message in capfd.readouterr().err


def test_errors_are_one_sentence(preset, tmp_path, capfd):
    assert run(preset, "--format", "onnx", "-o", tmp_path / "m.xml") == 2
    error = capfd.readouterr().err.splitlines()[-1]
    assert error.startswith("mhdeblur: error: `path` must end in .onnx.")
    photo = tmp_path / "none.png"
    command = [preset, "--format", "onnx", "-o", tmp_path / "m.onnx", "--photo", photo]
    assert run(*command) == 2
    error = capfd.readouterr().err.splitlines()[-1]
    assert error == f"mhdeblur: error: {photo}: there is no such file"
    assert run("no_preset", "--format", "onnx", "-o", tmp_path / "m.onnx") == 2
    assert "PRESET no_preset: " in capfd.readouterr().err
