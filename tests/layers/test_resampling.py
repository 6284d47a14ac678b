"""Bilinear resampling against the definition of its weights (that of jax)."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_mhdeblur import layers
from keras_mhdeblur.export.tracing import write_saved_model
from keras_mhdeblur.layers.static_shapes import static_shapes

LAYERS = [layers.BilinearDownsampling2D, layers.BilinearUpsampling2D]
SIZES = {
    layers.BilinearDownsampling2D: [(4, 4), (8, 12), (4, 20), (64, 48)],
    layers.BilinearUpsampling2D: [(1, 1), (3, 5), (2, 1), (7, 16)],
}


def weights(size_in, size_out):
    """(size_out, size_in), as `jax.image.resize` with antialiasing defines them."""
    scale = size_in / size_out
    table = np.zeros((size_out, size_in))
    for o, i in np.ndindex(*table.shape):
        distance = abs((o + 0.5) * scale - 0.5 - i) / max(scale, 1)
        table[o, i] = max(0, 1 - distance)
    return table / table.sum(axis=1, keepdims=True)


def resized(image, height, width):
    rows, columns = weights(image.shape[1], height), weights(image.shape[2], width)
    return np.einsum("yh,bhwc,xw->byxc", rows, image, columns)


def output_size(layer, height, width):
    return layer.compute_output_shape((None, height, width, 1))[1:3]


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("kind", LAYERS)
def test_weights(kind, factor, images):
    layer = kind(factor)
    for height, width in SIZES[kind]:
        image = images(2, height, width)
        size = output_size(layer, height, width)
        expected = resized(image.astype("float64"), *size)
        np.testing.assert_allclose(layer(image), expected, rtol=0, atol=1e-6)
        tensorflow = tf.image.resize(image, size, "bilinear", antialias=True)
        np.testing.assert_allclose(layer(image), tensorflow, rtol=0, atol=1e-6)


@pytest.mark.parametrize("factor, taps, border", [
    (2, [1, 3, 3, 1], [3, 3, 1]),
    (4, [1, 3, 5, 7, 7, 5, 3, 1], [5, 7, 7, 5, 3, 1]),
])  # fmt: skip
def test_taps_of_downsampling(factor, taps, border):
    # What comes out of each row of an image that is 1 there and 0 elsewhere.
    rows = np.eye(4 * factor, dtype="float32")[:, :, None, None]
    rows = np.tile(rows, (1, 1, factor, 1))
    table = np.array(layers.bilinear_downsample(rows, factor))[:, :, 0, 0].T
    start = factor // 2
    inside = np.pad(taps, (start, len(table[1]) - start - len(taps))) / np.sum(taps)
    np.testing.assert_allclose(table[1], inside, atol=1e-7)
    first = np.pad(border, (0, len(table[0]) - len(border))) / np.sum(border)
    np.testing.assert_allclose(table[0], first, atol=1e-7)
    np.testing.assert_allclose(table[-1], first[::-1], atol=1e-7)


@pytest.mark.parametrize("factor", [2, pytest.param(4, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", LAYERS)
def test_export_at_unknown_size(kind, factor, images, tmp_path):
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    image = keras.Input((None, None, 3), name="images")
    # The convolution needs channels whose number the graph knows.
    mix = keras.layers.Conv2D(2, 3, padding="same")
    model = keras.Model(image, mix(kind(factor)(image)))
    with static_shapes():
        write_saved_model(model, tmp_path)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    interpreter = litert.Interpreter(model_content=converter.convert())
    run = interpreter.get_signature_runner("serving_default")
    for height, width in SIZES[kind]:
        x = images(1, height, width)
        (y,) = run(images=x).values()
        np.testing.assert_allclose(y, model(x), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("kind", LAYERS)
def test_half_precision(kind, dtype, images):
    image = images(1, 8, 16)
    y = kind(4, dtype=dtype)(image)
    assert y.dtype == dtype
    expected = resized(image, *y.shape[1:3])
    np.testing.assert_allclose(tf.cast(y, "float32"), expected, rtol=0, atol=2e-2)


@pytest.mark.parametrize("kind", LAYERS)
def test_config_round_trip(kind):
    layer = kind(factor=4)
    copy = kind.from_config(layer.get_config())
    assert copy.get_config() == layer.get_config() and copy.factor == 4
    # Layers that were saved before there was a factor.
    config = layer.get_config()
    del config["factor"]
    assert kind.from_config(config).factor == 2


@pytest.mark.parametrize("kind", LAYERS)
def test_wrong_factor(kind):
    with pytest.raises(ValueError, match="Received: factor=3$"):
        kind(3)


def test_downsampling_needs_multiples():
    with pytest.raises(ValueError, match=r"Received: x.shape=\(1, 8, 6, 3\)"):
        layers.bilinear_downsample(np.zeros((1, 8, 6, 3), "float32"), 4)
