"""Exported files in their real runtimes, against `restore`."""

import os
import re
import sys

import keras
import numpy as np
import onnx as onnx_package
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from keras import ops

from keras_mhdeblur import Deblurrer, export
from keras_mhdeblur.export import litert, onnx_format, openvino_format
from keras_mhdeblur.layers.spatial import PadCentered
from keras_mhdeblur.networks import NAFNet, Restormer

SUFFIXES = {"litert": ".tflite", "onnx": ".onnx", "openvino": ".xml"}
LOAD = {
    "litert": litert.load_litert,
    "onnx": onnx_format.load_onnx,
    "openvino": openvino_format.load_openvino,
}
formats = pytest.mark.parametrize("format", SUFFIXES)


@pytest.fixture
def photo(images):
    return images(1, 16, 24)[0]


def check(model, format, images, folder, output, size=None):
    """Exports, and compares what the file gives with what `restore` gives."""
    path = folder / f"model{SUFFIXES[format]}"
    photo = images(1, 16, 24)[0]
    report = export.export_as(
        model, path, format, output=output, size=size, photo=photo
    )
    assert report.passed and report.tlc_train_size == model.tlc_train_size
    sizes = [comparison.size for comparison in report.comparisons]
    assert sizes == ([size] if size else [(16, 24), (11, 21)])
    run = LOAD[format](path)
    for shape in [(1, *size)] if size else [(2, 21, 30), (1, 2, 3)]:
        image = images(*shape)
        result = model.restore(image, tile=None, engine="keras")
        found = run(images=image)
        if "heads" in found:
            combined = list(map(model.head_info.pairs.combined, found["heads"]))
            found = {"hypotheses": np.clip(combined, 0, 1)}
        for name, value in found.items():
            np.testing.assert_allclose(value, getattr(result, name), atol=1e-5)
    return set(found)


# Format, local statistics and size of the quick test. LiteRT files of all networks are
# in tests/networks, and all formats below.
COVERING = {
    "NAFNet": ("openvino", (8, 12), None),
    "HINet": ("openvino", None, None),
    # OpenVINO gets it wrong where the number of images is fixed, too.
    "MPRNet": ("openvino", None, (21, 30)),
    "Restormer": ("openvino", None, None),
    "XYDeblur": ("onnx", None, None),
    "MAXIM": ("openvino", None, None),
}


@pytest.mark.quick_kinds("HINet", "XYDeblur")
def test_network(kind, images, tmp_path):
    format, tlc_train_size, size = COVERING[kind.cls.__name__]
    network = kind.small()
    model = Deblurrer(network, tlc_train_size=tlc_train_size)
    names = check(model, format, images, tmp_path, "all", size)
    assert names == {"image", "hypotheses", "uncertainty"}


# LiteRT: tests/networks
@pytest.mark.parametrize(
    "format", [pytest.param("onnx", marks=pytest.mark.slow), "openvino"]
)
def test_adaptive_mean(model, adaptive, format, images, tmp_path):
    model = adaptive(model.network)
    assert check(model, format, images, tmp_path, "selected") == {"image"}


def test_adaptive_mean_in_float16(adaptive, images, tmp_path):
    """A head that is the photo changes nothing, and float16 has no FLOOR."""
    network = NAFNet(4, (0,), 1, (0,), num_heads=2)
    for index, weight in enumerate(network.get_layer("heads").weights):
        values = 1e-3 * np.array(keras.random.normal(weight.shape, seed=index))
        values[..., 3:] = 0
        weight.assign(values)
    model = adaptive(network)
    path = tmp_path / "model.tflite"
    export.to_litert(model, path, "adaptive", size=(32, 32), weights="float16")
    image = images(1, 32, 32)
    found = litert.load_litert(path)(images=image)["image"] - image
    expected = model.restore(image, tile=None, engine="keras").image - image
    np.testing.assert_allclose(found, expected, atol=0.01 * np.abs(expected).max())


@pytest.mark.slow
def test_weights_may_be_an_array(model, images, tmp_path):
    assert check(model, "onnx", images, tmp_path, np.full(6, 1 / 6)) == {"image"}


@pytest.mark.slow
def test_windows_of_local_attention_in_onnx(images, tmp_path):
    """Their number is a quotient rounded up, without the negative numbers of Python."""
    network = Restormer(4, (1,), 0, (1,), num_heads=1)
    model = Deblurrer(network, tlc_train_size=8)
    check(model, "onnx", images, tmp_path, "mean")


@pytest.mark.slow
@formats
@pytest.mark.parametrize("tlc_train_size", [None, (8, 12)])
@pytest.mark.parametrize("output, size", [("all", None), ("mean", (21, 30))])
def test_every_combination(
    kind, format, tlc_train_size, output, size, images, tmp_path
):
    if kind.statistics(tlc_train_size) != tlc_train_size:
        pytest.skip("There are no local statistics.")
    model = Deblurrer(kind.small(), tlc_train_size=tlc_train_size)
    check(model, format, images, tmp_path, output, size)


@formats
def test_fixed_size(model, format, images, photo, tmp_path):
    path = tmp_path / f"model{SUFFIXES[format]}"
    report = export.export_as(
        model,
        path,
        format,
        output=(2, 0),
        size=(21, 30),
        tlc_train_size=[8, 10],
        photo=photo,
    )
    assert report.passed and [c.size for c in report.comparisons] == [(21, 30)]
    run, image = LOAD[format](path), images(1, 21, 30)
    expected = model.restore(
        image, select=(2, 0), tlc_train_size=(8, 10), tile=None, engine="keras"
    )
    np.testing.assert_allclose(run(images=image)["image"], expected.image, atol=1e-5)


def test_onnx_file(model, images, tmp_path):
    check(model, "onnx", images, tmp_path, "heads")
    proto = onnx_package.load(tmp_path / "model.onnx")
    assert [opset.version for opset in proto.opset_import if not opset.domain] == [15]
    shapes = {
        value.name: [dim.dim_param or dim.dim_value for dim in dims(value)]
        for value in (*proto.graph.input, *proto.graph.output)
    }
    assert shapes == {
        "images": ["batch", "height", "width", 3],
        "heads": ["batch", 3, "height", "width", 3],
    }


def dims(value):
    return value.type.tensor_type.shape.dim


def test_litert_file(model, images, tmp_path):
    check(model, "litert", images, tmp_path, "heads")
    interpreter = Interpreter(str(tmp_path / "model.tflite"))
    operators = {entry["op_name"] for entry in interpreter._get_ops_details()}
    assert "CONV_2D" in operators
    assert not [name for name in operators if name.startswith("Flex")]
    runner = interpreter.get_signature_runner("serving_default")
    assert list(runner.get_input_details()) == ["images"]
    assert list(runner.get_output_details()) == ["heads"]


@pytest.fixture(scope="module")
def wide():
    """Wide enough that LiteRT's converter finds it worth quantizing."""
    network = NAFNet(32, (0,), 1, (0,), num_heads=2)
    for index, weight in enumerate(network.weights):
        weight.assign(0.1 * keras.random.normal(weight.shape, seed=index))
    return Deblurrer(network)


@pytest.mark.slow
def test_smaller_weights(wide, photo, images, tmp_path):
    sizes, losses = {}, {}
    for weights in litert.BOUNDS:
        path = tmp_path / f"{weights}.tflite"
        data = None
        if weights == "full_int8":
            data = [photo, images(1, 300, 20)[0], np.zeros((24, 32, 3), "uint8")]
        report = export.to_litert(
            wide,
            path,
            weights=weights,
            representative_data=data,
            photo=photo,
        )
        assert report.passed and report.weights == weights
        assert report.num_bytes == path.stat().st_size
        sizes[weights] = report.num_bytes
        losses[weights] = min(
            comparison.differences["image"].psnr for comparison in report.comparisons
        )
        # The interface is the same.
        image = images(1, 13, 30)
        (found,) = litert.load_litert(path)(images=image).values()
        assert found.dtype == np.float32 and found.shape == image.shape
    assert sizes["float16"] < 0.8 * sizes["float32"]
    assert sizes["int8"] < 0.7 * sizes["float32"]
    assert losses["float32"] > 110 > losses["float16"] > losses["int8"] + 5
    assert losses["int8"] > losses["full_int8"]


def test_integers_have_no_adaptive_mean(model, adaptive, photo, tmp_path):
    model = adaptive(model.network)
    options = {"weights": "full_int8", "representative_data": [photo], "photo": photo}
    report = export.to_litert(model, tmp_path / "model.tflite", **options)
    assert report.output == "mean"
    with pytest.raises(ValueError, match="no place.*Received: output='all'"):
        export.to_litert(model, tmp_path / "all.tflite", "all", **options)


class Bare(keras.layers.Layer):
    """Padding to an even size in a form that not every runtime takes."""

    def call(self, x):
        height, width = ops.shape(x)[1:3]
        return ops.pad(x, ((0, 0), (0, -height % 2), (0, -width % 2), (0, 0)))


@pytest.mark.parametrize(
    "format, reason",
    [
        ("litert", "no operator of its own for Conv2D.*features.*number of channels"),
        ("onnx", r"does not run in onnx with an image of size \(11, 21\)"),
    ],
)
def test_what_does_not_convert_is_refused(format, reason, photo, tmp_path):
    image = keras.Input((None, None, 3))
    features = keras.layers.Conv2D(3, 3, padding="same", name="features")(Bare()(image))
    stack = features[:, : ops.shape(image)[1], : ops.shape(image)[2]]
    network = keras.Model(image, (image + stack)[:, None])
    network.num_heads = 1
    path = tmp_path / f"model{SUFFIXES[format]}"
    path.write_bytes(b"an earlier export")
    with pytest.raises(export.ExportError, match=reason):
        export.export_as(Deblurrer(network), path, format, photo=photo)
    assert os.listdir(tmp_path) == [path.name]
    assert path.read_bytes() == b"an earlier export"


def test_a_network_of_ones_own(images, photo, tmp_path):
    image = keras.Input((None, None, 3))
    stack = keras.layers.Conv2D(6, 3, padding="same")(image)
    stack = ops.stack([image + stack[..., :3], image - stack[..., 3:]], axis=1)
    network = keras.Model(image, [stack, 0 * stack])
    network.num_heads = 2
    model = Deblurrer(network)
    export.to_litert(model, tmp_path / "model.tflite", (1, 0), photo=photo)
    (found,) = litert.load_litert(tmp_path / "model.tflite")(
        images=images(1, 8, 9)
    ).values()
    expected = model.restore(images(1, 8, 9), select=(1, 0), engine="keras").image
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_nothing_is_left_of_an_interrupted_export(model, photo, tmp_path, monkeypatch):
    """It ends when the files are written, and run for the first time."""

    def load(path):
        assert path.is_file() and path.with_suffix(".bin").is_file()
        raise KeyboardInterrupt

    monkeypatch.setattr(openvino_format, "load_openvino", load)
    with pytest.raises(KeyboardInterrupt):
        export.to_openvino(model, tmp_path / "new" / "model.xml", photo=photo)
    assert not os.listdir(tmp_path)
    for name in "model.xml", "model.bin", "model.xml.json":
        (tmp_path / name).write_text("an earlier export")
    with pytest.raises(KeyboardInterrupt):
        export.to_openvino(model, tmp_path / "model.xml", photo=photo)
    assert {path.read_text() for path in tmp_path.iterdir()} == {"an earlier export"}
    assert len(os.listdir(tmp_path)) == 3


@pytest.mark.parametrize(
    "suffix, package, install",
    [
        (".tflite", "ai_edge_litert", "pip install ai-edge-litert"),
        (".onnx", "tf2onnx", 'pip install "keras-mhdeblur[onnx]"'),
        (".onnx", "onnxruntime", 'pip install "keras-mhdeblur[onnx]"'),
        (".xml", "openvino", 'pip install "keras-mhdeblur[openvino]"'),
    ],
)
def test_missing_package(model, suffix, package, install, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    (format,) = [name for name in SUFFIXES if SUFFIXES[name] == suffix]
    with pytest.raises(ImportError, match=re.escape(install)):
        export.export_as(model, tmp_path / f"model{suffix}", format)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    "format, name, options, message",
    [
        ("litert", "m.onnx", {}, r"must end in \.tflite. Received: path='.*m.onnx'"),
        ("onnx", "folder.onnx", {}, "must be a file, not a folder"),
        ("litert", "m.tflite", {"weights": "int4"}, "Received: weights='int4'"),
        ("litert", "m.tflite", {"weights": "full_int8"}, "representative_data=None"),
        ("litert", "m.tflite", {"representative_data": []}, "weights='float32'"),
        (
            "litert",
            "m.tflite",
            {"weights": "full_int8", "representative_data": []},
            r"Received: representative_data=\[\]",
        ),
        (
            "litert",
            "m.tflite",
            {"weights": "full_int8", "representative_data": [np.zeros((4, 5, 2))]},
            r"`representative_data` must have .* shape \(4, 5, 2\)",
        ),
        ("onnx", "m.onnx", {"photo": "none.png"}, "there is no such file"),
        ("openvino", "m.xml", {"output": "medoid"}, "depends on the image"),
        ("openvino", "m.xml", {"size": (0, 4)}, r"Received: size=\(0, 4\)"),
        (
            "litert",
            "m.tflite",
            {"weights": "full_int8", "representative_data": "photos"},
            "representative_data='photos'",
        ),
        (
            "litert",
            "m.tflite",
            {"size": 64, "weights": "full_int8", "representative_data": ["a.png"]},
            "Received: size=64",
        ),
        ("onnx", "m.onnx", {"weights": "int8"}, "`weights` is not an option of .*onnx"),
        ("onnx", "m.onnx", {"sise": (4, 4)}, "Did you mean 'size'"),
        ("tensorrt", "m", {}, "must be one of litert, .* Received: format='tensorrt'"),
    ],
)
def test_wrong_arguments(model, format, name, options, message, tmp_path):
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(ValueError, match=message):
        model.export(tmp_path / name, format, **options)
    assert os.listdir(tmp_path) == ["folder.onnx"]


def test_path_that_cannot_be_written(model, photo, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OSError, match="file"):
        export.to_litert(model, tmp_path / "file" / "m.tflite", photo=photo)


def test_other_backends_and_precisions_are_refused(model, tmp_path, monkeypatch):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        half = Deblurrer(NAFNet(4, (1,), 1, (1,)))
    finally:
        keras.config.set_dtype_policy("float32")
    with pytest.raises(ValueError, match="must compute in float32.*bfloat16"):
        export.to_onnx(half, tmp_path / "m.onnx")
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ValueError, match="KERAS_BACKEND=tensorflow.*'jax'"):
        export.to_onnx(model, tmp_path / "m.onnx")


def test_only_rgb(photo, tmp_path):
    gray = Deblurrer(NAFNet(4, (1,), 1, (1,), image_channels=1))
    for use in (
        lambda: export.to_litert(gray, tmp_path / "m.tflite", photo=photo),
        lambda: export.to_saved_model(gray, tmp_path / "served", photo=photo),
        lambda: gray.restore(photo[..., :1]),
    ):
        with pytest.raises(ValueError, match="RGB.*image_channels=1"):
            use()


def test_keras_own_formats(model, images, tmp_path):
    image = images(1, 8, 9)
    expected = model(image)
    assert model.export(tmp_path / "saved", verbose=False) is None
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    np.testing.assert_allclose(loaded.serve(image), expected, atol=1e-5)


@pytest.mark.parametrize("size", [(171, 231), (5, 7), (64, 128)])
def test_centred_padding_in_onnx(tmp_path, size):
    """Files had remainders of negative numbers wrong, and so the upper left margin."""
    ort = pytest.importorskip("onnxruntime")
    image = keras.Input((None, None, 3))
    model = keras.Model(image, PadCentered(64)(image))
    x = np.random.default_rng(0).random((1, *size, 3), "float32")
    expected = np.asarray(model(x))
    model.export(tmp_path / "pad.onnx", format="onnx", verbose=False)
    session = ort.InferenceSession(tmp_path / "pad.onnx")
    (found,) = session.run(None, {session.get_inputs()[0].name: x})
    np.testing.assert_array_equal(found, expected)
