"""A SavedModel gives what `restore` gives, and TensorFlow is all it needs."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_mhdeblur import Deblurrer
from keras_mhdeblur.export.saved_model import to_saved_model
from keras_mhdeblur.networks import NAFNet
from keras_mhdeblur.photos import Photo, read_image, write_image

SIGNATURES = {"serving_default", "serving_uint8", "serving_bytes", "hypotheses"}


@pytest.fixture(scope="module")
def loaded(served_folder):
    return tf.saved_model.load(str(served_folder / "1"))


def run(loaded, signature, **inputs):
    inputs = {name: tf.constant(value) for name, value in inputs.items()}
    outputs = loaded.signatures[signature](**inputs)
    return {name: value.numpy() for name, value in outputs.items()}


def pixels(*shape):
    return np.random.default_rng(0).uniform(0.3, 0.7, shape).astype("float32")


@pytest.mark.parametrize("size", [(24, 36), (31, 45)])
def test_arrays(loaded, model, size):
    floats = pixels(2, *size, 3)
    (image,) = run(loaded, "serving_default", images=floats).values()
    expected = model.restore(floats, tile=None)
    np.testing.assert_allclose(image, expected.image, rtol=0, atol=1e-5)
    assert np.abs(expected.image - floats).mean() > 0.01

    integers = np.rint(255 * floats).astype("uint8")
    expected = model.restore(integers, tile=None)
    (image,) = run(loaded, "serving_uint8", images=integers).values()
    assert image.dtype == np.uint8
    np.testing.assert_allclose(image.astype(int), expected.image, rtol=0, atol=1)
    found = run(loaded, "hypotheses", images=integers)
    assert found["hypotheses"].dtype == np.uint8
    np.testing.assert_allclose(
        found["hypotheses"] / 255, expected.hypotheses, rtol=0, atol=0.51 / 255
    )
    np.testing.assert_allclose(
        found["uncertainty"], expected.uncertainty, rtol=0, atol=1e-5
    )


def image_files(folder):
    """Paths of image files of all kinds, each of another size."""
    folder.mkdir()
    photo = Photo(pixels(24, 33, 3), depth=16)
    write_image(folder / "rgb16.png", photo)
    gray = Photo(np.repeat(pixels(25, 32, 1), 3, axis=-1), depth=16, gray=True)
    write_image(folder / "gray16.png", gray)
    alpha = np.random.default_rng(1).integers(0, 65536, (26, 31), "uint16")
    write_image(folder / "alpha16.png", Photo(pixels(26, 31, 3), alpha, 16))
    alpha = np.random.default_rng(1).integers(0, 256, (27, 30), "uint8")
    write_image(folder / "alpha.png", Photo(pixels(27, 30, 3), alpha))
    write_image(folder / "gray_alpha.png", Photo(pixels(27, 30, 3), alpha, gray=True))
    rgb = Image.fromarray(np.rint(255 * pixels(28, 29, 3)).astype("uint8"))
    rgb.quantize(16).save(folder / "palette.png")
    rgb.save(folder / "rgb.jpg", quality=95)
    rgb.convert("L").save(folder / "gray.jpg")
    rgb.convert("CMYK").save(folder / "cmyk.jpg")
    rgb.convert("RGBA").save(folder / "unused_channel.bmp")
    rgb.save(folder / "palette.gif")
    return sorted(folder.iterdir())


def test_files_as_restore_gives_them(loaded, model, tmp_path):
    paths = image_files(tmp_path / "in")
    data = [path.read_bytes() for path in paths]
    (results,) = run(loaded, "serving_bytes", image_bytes=data).values()
    assert len(results) == 11
    for path, result in zip(paths, results):
        (tmp_path / "out.png").write_bytes(result)
        found = read_image(tmp_path / "out.png").to_array()
        expected = model.restore(path, tile=None).image
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape), path
        difference = np.abs(found.astype(int) - expected).max()
        assert difference <= (1 if found.dtype == np.uint8 else 3), path


def test_orientation_is_not_applied(loaded, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20), "red").save(tmp_path / "turned.jpg", exif=exif)
    data = [(tmp_path / "turned.jpg").read_bytes()]
    (results,) = run(loaded, "serving_bytes", image_bytes=data).values()
    assert tf.io.decode_png(results[0]).shape == (20, 40, 3)


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "Input is empty"),
        (b"no image", "Unknown image file format"),
        (b"\x89PNG\r\n\x1a\n", "Invalid PNG"),
        (b"\xff\xd8\xff" + 50 * b"x", "Invalid JPEG"),
    ],
    ids=["empty", "text", "png", "jpeg"],
)
def test_broken_files(loaded, data, message):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        run(loaded, "serving_bytes", image_bytes=[data])


def test_weights_are_stored_once(model, served_folder):
    """Four signatures, the weights, and one folded output convolution of K = 3."""
    checkpoint = str(served_folder / "1" / "variables" / "variables")
    shapes = dict(tf.train.list_variables(checkpoint))
    stored = sum(
        np.prod(shape, dtype=int) for name, shape in shapes.items() if "weights" in name
    )
    folded = model.network.get_layer("heads").count_params() // 3
    assert stored == model.network.count_params() + folded


def test_report(served_folder):
    report = json.loads((served_folder / "1.json").read_text())
    assert report["passed"] and report["format"] == "saved_model"
    files = [path for path in (served_folder / "1").rglob("*") if path.is_file()]
    assert report["num_bytes"] == sum(path.stat().st_size for path in files)
    sizes = {tuple(comparison["size"]) for comparison in report["comparisons"]}
    assert len(sizes) == 2
    for comparison in report["comparisons"]:
        assert comparison["differences"]["image"]["max"] < 1e-5


def test_choice_of_image_and_statistics(model, tmp_path):
    photo = pixels(40, 40, 3)
    report = to_saved_model(
        model, tmp_path, (2, 0), tlc_train_size=None, version=7, photo=photo
    )
    folder = tmp_path / "7"
    assert report.path == folder and report.passed
    images = pixels(1, 31, 45, 3)
    (found,) = run(
        tf.saved_model.load(str(folder)), "serving_default", images=images
    ).values()
    other = Deblurrer(model.network)
    expected = other.restore(images, select=(2, 0), tile=None).image
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    wrong = model.restore(images, select=(2, 0), tile=None).image
    assert np.abs(wrong - expected).max() > 1e-4


@pytest.mark.slow
def test_every_network(kind, adaptive, images, tmp_path):
    model = adaptive(kind.small(), tlc_train_size=kind.statistics((8, 12)))
    assert to_saved_model(model, tmp_path, photo=images(1, 16, 24)[0]).passed
    integers = np.rint(255 * images(2, 21, 30)).astype("uint8")
    loaded = tf.saved_model.load(str(tmp_path / "1"))
    found = run(loaded, "hypotheses", images=integers)
    expected = model.restore(integers, tile=None)
    np.testing.assert_allclose(
        found["hypotheses"] / 255, expected.hypotheses, rtol=0, atol=0.51 / 255
    )


@pytest.mark.slow
def test_adaptive_mean(model, adaptive, images, tmp_path):
    model = adaptive(model.network)
    assert to_saved_model(model, tmp_path, photo=images(1, 16, 24)[0]).passed
    found = run(
        tf.saved_model.load(str(tmp_path / "1")),
        "serving_default",
        images=images(2, 21, 30),
    )
    expected = model.restore(images(2, 21, 30), tile=None)
    np.testing.assert_allclose(found["image"], expected.image, atol=1e-5)


def test_versions_are_not_replaced(model, served_folder):
    def contents():
        files = [path for path in served_folder.rglob("*") if path.is_file()]
        return {path: path.read_bytes() for path in files}

    before = contents()
    with pytest.raises(FileExistsError, match="Received: version=1"):
        to_saved_model(model, served_folder)
    assert contents() == before


def test_failure_leaves_nothing(model, tmp_path, monkeypatch):
    def save(served, folder, signatures):
        os.mkdir(folder)
        raise OSError("disk full")

    monkeypatch.setattr(tf.saved_model, "save", save)
    (tmp_path / "there").mkdir()
    for path in (tmp_path / "new" / "deblurrer", tmp_path / "there"):
        with pytest.raises(OSError, match="disk full"):
            to_saved_model(model, path)
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"output": "hypotheses"}, "must be one image"),
        ({"output": "all"}, "must be one image"),
        ({"output": (3, 0)}, r"Received: output=\(3, 0\)"),
        ({"version": 0}, "Received: version=0"),
        ({"version": "1"}, "Received: version='1'"),
        ({"warm_up_sizes": [16]}, r"Received: warm_up_sizes=\[16\]"),
        ({"warm_up_sizes": (16, 16)}, r"Received: warm_up_sizes=\(16, 16\)"),
    ],
)
def test_wrong_arguments(model, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        to_saved_model(model, tmp_path, **options)
    assert not list(tmp_path.iterdir())


def test_needs_rgb(tmp_path):
    network = NAFNet(4, (1,), 1, (1,), num_heads=2, image_channels=1)
    with pytest.raises(ValueError, match="Received: .*image_channels=1"):
        to_saved_model(Deblurrer(network), tmp_path)


def test_needs_the_protocol_for_warm_up(model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_serving.apis", None)
    with pytest.raises(ImportError, match="pip install --no-deps tensorflow-serving"):
        to_saved_model(model, tmp_path / "new", warm_up_sizes=[(16, 16)])
    assert not (tmp_path / "new").exists()


PROCESS = """
import sys
import numpy as np
import tensorflow as tf
from tensorflow.python.tools import saved_model_cli

folder, images, result = sys.argv[1:]
loaded = tf.saved_model.load(folder)
outputs = loaded.signatures["serving_default"](images=np.load(images))
np.save(result, outputs["image"])
assert not {"keras", "keras_mhdeblur"} & set(sys.modules)
sys.argv = ["saved_model_cli", "show", "--dir", folder, "--tag_set", "serve"]
saved_model_cli.main()
"""


def test_tensorflow_is_all_it_needs(model, served_folder, tmp_path):
    # TensorFlow imports Keras if it is there; these packages cannot be imported.
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    for name in ("keras", "keras_mhdeblur"):
        (blocked / f"{name}.py").write_text("raise ImportError(__name__)")
    images = pixels(1, 31, 45, 3)
    np.save(tmp_path / "images.npy", images)
    paths = [served_folder / "1", tmp_path / "images.npy", tmp_path / "result.npy"]
    output = subprocess.run(
        [sys.executable, "-c", PROCESS, *map(str, paths)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(blocked)},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    expected = model.restore(images, tile=None).image
    np.testing.assert_allclose(np.load(paths[2]), expected, rtol=0, atol=1e-5)
    assert SIGNATURES <= {word.strip('"') for word in output.split()}
