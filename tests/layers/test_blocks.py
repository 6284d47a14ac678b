"""Single layers against the official ones."""

import contextlib
import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_mhdeblur import layers, networks
from keras_mhdeblur.hypotheses.pairs import pair_indices
from keras_mhdeblur.layers.spatial import PadCentered
from keras_mhdeblur.layers.static_shapes import static_shapes
from keras_mhdeblur.networks.nafnet.official_names import nafblock_entries


@pytest.mark.parametrize("heads", [2, 4, 5])
def test_head_combination(golden, heads):
    blocks = golden("blocks")
    hypotheses = layers.HeadCombination()(blocks[f"combine_K{heads}/x0"])
    np.testing.assert_allclose(
        hypotheses, blocks[f"combine_K{heads}/out0"], rtol=0, atol=1e-6
    )


def test_pair_order():
    pairs = pair_indices(5)
    assert pairs[:6] == [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2)]
    assert all(pairs[i * (i + 1) // 2 + j] == (i, j) for i, j in pairs)


@pytest.mark.parametrize("context", [contextlib.nullcontext, static_shapes])
@pytest.mark.parametrize("case", ["even", "odd", "only_h", "only_w", "global"])
def test_local_average_pooling(golden, case, context):
    blocks = golden("blocks")
    window = blocks.config["blocks"][f"tlc_pool_{case}"]["info"]["kernel_hw"]
    x = blocks[f"tlc_pool_{case}/x0"]
    with context():
        pooled = layers.average_pool(x, window)
    assert pooled.shape == x.shape
    expected = np.broadcast_to(blocks[f"tlc_pool_{case}/out0"], x.shape)
    np.testing.assert_allclose(pooled, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("context", [contextlib.nullcontext, static_shapes])
@pytest.mark.parametrize(
    "rows, heights",
    # Sums are formed in blocks of rows; many rows are not pooled for LiteRT either.
    [(6, (14, 15, 16, 31, 50)), (34, (34, 47, 50))],
)
def test_local_average_pooling_of_many_rows(context, rows, heights):
    layer = functools.partial(layers.average_pool, window_size=(rows, 4))
    unknown = tf.function(layer, [tf.TensorSpec((None, None, None, 2))])
    for height in heights:
        x = np.random.default_rng(0).random((2, height, 9, 2), "float32")
        windows = np.lib.stride_tricks.sliding_window_view(x, (rows, 4), axis=(1, 2))
        padding = ((0, 0), (rows // 2 - 1, rows // 2), (1, 2), (0, 0))
        expected = np.pad(windows.mean(axis=(4, 5)), padding, mode="edge")
        with context():
            for call in layer, unknown:
                np.testing.assert_allclose(call(x), expected, rtol=0, atol=1e-6)


def test_local_average_pooling_sums_in_float32():
    x = np.full((1, 300, 300, 1), 10, "float16")  # sums overflow in float16
    np.testing.assert_array_equal(layers.average_pool(x, (200, 200)), x)


def test_naf_block(golden):
    blocks = golden("blocks")
    x = blocks["naf_block/x0"]
    block = networks.nafnet.NAFBlock(6)
    block.build(x.shape)
    for name, value in blocks.state("naf_block/sd/").items():
        variable, to_keras = nafblock_entries(block)[name]
        variable.assign(to_keras(value))
    np.testing.assert_allclose(block(x), blocks["naf_block/out0"], rtol=0, atol=5e-6)


def test_both_halves_of_a_new_naf_block_learn():
    keras.utils.set_random_seed(0)
    block = networks.nafnet.NAFBlock(128)
    x = keras.random.normal((1, 16, 16, 128))
    np.testing.assert_array_equal(block(x), x)
    for scale in (block.beta, block.gamma):
        scale.assign(0 * scale + 1)
        # PyTorch's initial values give 0.05 and 0.2, Keras' own 1e-6 for the first.
        assert 0.03 < np.std(block(x) - x) < 0.3
        scale.assign(0 * scale)


def test_layer_norm(golden):
    blocks = golden("blocks")
    norm = layers.ChannelNormalization(epsilon=1e-6)
    norm.build((None, None, None, 6))
    norm.set_weights(list(blocks.state("naf_layernorm2d/sd/").values()))
    y = norm(blocks["naf_layernorm2d/x0"])
    np.testing.assert_allclose(y, blocks["naf_layernorm2d/out0"], rtol=0, atol=5e-6)


def test_pixel_shuffle(golden):
    blocks = golden("blocks")
    order = np.arange(12).reshape(3, 4).T.ravel()
    y = layers.PixelShuffle(2)(blocks["pixel_shuffle2/x0"][..., order])
    np.testing.assert_array_equal(y, blocks["pixel_shuffle2/out0"])


def test_pixel_unshuffle(golden):
    blocks = golden("blocks")
    x = blocks["pixel_unshuffle2/x0"]
    layer = layers.PixelUnshuffle(2)
    np.testing.assert_array_equal(layer(x), blocks["pixel_unshuffle2/out0"])
    assert layer.compute_output_shape((None, 6, None, 3)) == (None, 3, None, 12)


@pytest.mark.parametrize("kernel_size", [2, 4])
@pytest.mark.parametrize("use_bias", [False, True])
def test_conv_transpose(kernel_size, use_bias, tmp_path):
    arguments = {"use_bias": use_bias, "bias_initializer": "normal"}
    layer = layers.Conv2DTranspose(5, kernel_size, activation="relu", **arguments)
    assert type(layer).from_config(layer.get_config()).get_config() == (
        layer.get_config()
    )
    usual = keras.layers.Conv2DTranspose(
        5, kernel_size, strides=2, padding="same", activation="relu", **arguments
    )
    # Files of weights hold names of classes.
    models = [keras.Sequential([keras.Input((4, 7, 3)), up]) for up in (usual, layer)]
    models[0].save_weights(tmp_path / "model.weights.h5")
    models[1].load_weights(tmp_path / "model.weights.h5")
    x = np.random.default_rng(0).normal(size=(2, 4, 7, 3)).astype("float32")
    expected = usual(x)
    np.testing.assert_array_equal(layer(x), expected)
    with static_shapes():
        np.testing.assert_allclose(layer(x), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("mode", ["constant", "reflect"])
def test_pad_to_multiple(mode):
    layer = layers.PadToMultiple(8, mode)
    unknown = tf.function(layer, [tf.TensorSpec((None, None, None, 3))])
    for size in (5, 6), (8, 16), (1, 1), (2, 3), (17, 1):
        x = np.random.default_rng(0).random((2, *size, 3), "float32")
        bottom, right = (-n % 8 for n in size)
        expected = np.pad(x, ((0, 0), (0, bottom), (0, right), (0, 0)), mode=mode)
        for call in layer, unknown, tf.function(layer):
            np.testing.assert_array_equal(call(x), expected)
        known = layer(keras.Input((*size, 3)))
        assert known.shape == (None, *expected.shape[1:])


@pytest.mark.parametrize(
    "layer",
    [layers.PadToMultiple(8), layers.PadToMultiple(8, "reflect"), PadCentered(8)],
)
def test_padding_vanishes_where_sizes_need_none(layer):
    """GPUs of phones and browsers refuse files with the gathers of padding."""

    def operators(height, width):
        spec = tf.TensorSpec((1, height, width, 3))
        graph = tf.function(layer).get_concrete_function(spec).graph
        return [operator.type for operator in graph.get_operations()]

    assert set(operators(256, 256)) <= {"Placeholder", "Const", "Identity"}
    assert operators(256, 250).count("GatherV2") == 1
    # As many as before where nothing is known.
    assert operators(None, None).count("GatherV2") == 2
    x = np.random.default_rng(0).random((1, 16, 24, 3), "float32")
    np.testing.assert_array_equal(layer(x), x)


@pytest.mark.parametrize(
    "make, argument",
    [
        (lambda: layers.MultiHeadOutput(0), "num_heads=0"),
        (lambda: layers.PadToMultiple(8, "wrap"), "mode='wrap'"),
        (lambda: layers.Conv2DTranspose(4, 3), "kernel_size=3"),
    ],
)
def test_wrong_arguments(make, argument):
    with pytest.raises(ValueError, match=f"Received: {argument}"):
        make()
