"""The layers of MPRNet against the official ones and against direct definitions."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_mhdeblur import layers, networks
from keras_mhdeblur.networks.mprnet.official_names import (
    channel_attention_block_entries,
    channel_attention_entries,
    original_resolution_block_entries,
)
from keras_mhdeblur.networks.torch_layouts import conv_entries

TOLERANCE = {"rtol": 0, "atol": 5e-6}


def load(entries, state):
    assert entries.keys() == state.keys()
    for name, (variable, to_keras) in entries.items():
        variable.assign(to_keras(state[name]))


def slope_layer():
    layer = networks.mprnet.SharedSlope()
    layer.build(())
    return layer


def test_channel_attention(golden):
    blocks = golden("blocks")
    x = blocks["mpr_calayer/x0"]
    attention = layers.ChannelAttention(8)
    attention.build(x.shape)
    load(channel_attention_entries(attention), blocks.state("mpr_calayer/sd/"))
    np.testing.assert_allclose(attention(x), blocks["mpr_calayer/out0"], **TOLERANCE)


def test_channel_attention_block(golden):
    blocks = golden("blocks")
    for name, use_bias in (("mpr_cab", False), ("mpr_cab_bias", True)):
        x, slope = blocks[f"{name}/x0"], slope_layer()
        block = networks.mprnet.ChannelAttentionBlock(8, use_bias=use_bias)
        block.build(x.shape, (1,))
        state = blocks.state(f"{name}/sd/")
        load(channel_attention_block_entries(block, slope.slope), state)
        y = block(x, slope(x))
        np.testing.assert_allclose(y, blocks[f"{name}/out0"], **TOLERANCE)


def test_original_resolution_block(golden):
    blocks = golden("blocks")
    x, slope = blocks["mpr_orb/x0"], slope_layer()
    block = networks.mprnet.OriginalResolutionBlock(8, 2)
    block.build(x.shape, (1,))
    state = blocks.state("mpr_orb/sd/")
    load(original_resolution_block_entries(block, slope.slope), state)
    y = block(x, slope(x))
    np.testing.assert_allclose(y, blocks["mpr_orb/out0"], **TOLERANCE)


def test_supervised_attention(golden):
    blocks = golden("blocks")
    features, image = blocks["mpr_sam_K3/x0"], blocks["mpr_sam_K3/x1"]
    heads = layers.MultiHeadOutput(3, kernel_size=1, use_bias=False)
    attention = layers.SupervisedAttention(1, use_bias=False)
    stack = heads(features, image)
    attention.build(features.shape, stack.shape)
    entries = {
        **conv_entries("conv1", attention.conv),
        **conv_entries("conv2", heads.conv),
        **conv_entries("conv3", attention.mask),
    }
    load(entries, blocks.state("mpr_sam_K3/sd/"))
    stack = heads(features, image)
    expected = blocks["mpr_sam_K3/out1"].reshape(2, 7, 5, 3, 3).transpose(0, 3, 1, 2, 4)
    np.testing.assert_allclose(stack, expected, **TOLERANCE)
    y = attention(features, stack)
    np.testing.assert_allclose(y, blocks["mpr_sam_K3/out0"], **TOLERANCE)


@pytest.mark.parametrize("case", ["down_even", "down_odd", "up", "skipup"])
def test_resampling(golden, case):
    blocks = golden("blocks")
    x, expected = blocks[f"mpr_{case}/x0"], blocks[f"mpr_{case}/out0"]
    ((name, weight),) = blocks.state(f"mpr_{case}/sd/").items()
    conv = keras.layers.Conv2D(len(weight), 1, use_bias=False)
    conv.build(x.shape)
    load(conv_entries(name.removesuffix(".weight"), conv), {name: weight})
    if case.startswith("down"):
        y = conv(keras.layers.AveragePooling2D(2)(x))
    else:
        y = layers.BilinearUpsampling2D()(conv(x))
    if case == "skipup":
        y += blocks["mpr_skipup/x1"]
    np.testing.assert_allclose(y, expected, **TOLERANCE)


def test_bilinear_upsampling_by_hand():
    x = np.array([[0, 4, 8], [8, 12, 4]], "float32")[None, :, :, None]
    rows = np.array([[0, 1, 3, 5, 7, 8], [8, 9, 11, 10, 6, 4]], "float32")
    expected = np.array([[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]]) @ rows
    y = layers.BilinearUpsampling2D()(x)
    np.testing.assert_array_equal(y[0, :, :, 0], expected)


def test_bilinear_upsampling_at_unknown_size():
    image = keras.Input((None, None, 2))
    model = keras.Model(image, layers.BilinearUpsampling2D()(image))
    graph = tf.function(model, [tf.TensorSpec((None, None, None, 2))])
    for height, width in (1, 1), (1, 4), (3, 1), (5, 7):
        x = np.random.default_rng(0).random((2, height, width, 2), "float32")
        expected = tf.image.resize(x, (2 * height, 2 * width))
        np.testing.assert_allclose(graph(x), expected, **TOLERANCE)


def test_halves():
    x = np.arange(2 * 4 * 6, dtype="float32").reshape(2, 4, 6, 1)
    top_and_bottom = [half for image in x for half in np.split(image, 2, axis=0)]
    left_and_right = [half for image in x for half in np.split(image, 2, axis=1)]
    for axis, expected in ((1, top_and_bottom), (2, left_and_right)):
        split, join = (
            networks.mprnet.SplitHalves(axis),
            networks.mprnet.JoinHalves(axis),
        )
        np.testing.assert_array_equal(split(x), expected)
        np.testing.assert_array_equal(join(split(x)), x)
        assert split.compute_output_shape(x.shape) == np.shape(expected)
        assert join.compute_output_shape(np.shape(expected)) == x.shape


def local_attention(attention, x, window):
    """Direct definition in float64, every window for itself, then padding."""
    x = x.astype("float64")
    squeeze, excite = (
        np.array(layer.kernel)[0, 0].astype("float64")
        for layer in (attention.squeeze, attention.excite)
    )
    size = np.array(x.shape[1:3])
    window = np.minimum(window, size)
    valid = size - window + 1
    weights = np.empty((len(x), *valid, x.shape[3]))
    for row, column in np.ndindex(*valid):
        part = x[:, row : row + window[0], column : column + window[1]]
        hidden = np.maximum(part.mean(axis=(1, 2)) @ squeeze, 0)
        weights[:, row, column] = 1 / (1 + np.exp(-hidden @ excite))
    before = (size - valid) // 2
    padding = [(0, 0), *zip(before, size - valid - before), (0, 0)]
    return x * np.pad(weights, padding, mode="edge")


@pytest.mark.parametrize("window", [(4, 4), (5, 3), (1, 6), (4, 99), (99, 99)])
def test_local_channel_attention(window):
    x = np.random.default_rng(0).normal(size=(2, 9, 12, 8)).astype("float32")
    attention = layers.ChannelAttention(8, 3)
    found = attention(x, window_size=window)
    np.testing.assert_allclose(found, local_attention(attention, x, window), atol=1e-6)
    if window == (99, 99):
        np.testing.assert_allclose(found, attention(x), atol=1e-6)


@pytest.mark.parametrize("slope", [-0.5, 0.0, 0.25, 1.75])
def test_slope_is_that_of_prelu(slope):
    """Also of more than one or less than zero, which training can make of it."""
    x = np.random.default_rng(0).normal(size=(1, 5, 6, 4)).astype("float32")
    block = networks.mprnet.ChannelAttentionBlock(4)
    found = block(x, np.array([slope], "float32"))
    y = np.array(block.conv1(x))
    y = block.attention(block.conv2(np.where(y > 0, y, slope * y)))
    np.testing.assert_allclose(found, x + y, atol=1e-6)


@pytest.mark.parametrize(
    "layer",
    [
        layers.ChannelAttention(9, 3, True),
        networks.mprnet.ChannelAttentionBlock(9, 3, True),
        networks.mprnet.OriginalResolutionBlock(9, 2, 3, True),
        layers.SupervisedAttention(1),
        layers.MultiHeadOutput(2, 1, 5, False),
        layers.BilinearUpsampling2D(),
        networks.mprnet.SharedSlope(),
        networks.mprnet.SplitHalves(2),
        networks.mprnet.JoinHalves(1),
    ],
)
def test_config_round_trip(layer):
    config = layer.get_config()
    assert type(layer).from_config(config).get_config() == config


@pytest.mark.parametrize(
    "make, argument",
    [
        (lambda: layers.ChannelAttention(4, 5), "reduction=5"),
        (lambda: networks.mprnet.ChannelAttentionBlock(4, 0), "reduction=0"),
        (lambda: networks.mprnet.SplitHalves(3), "axis=3"),
    ],
)
def test_wrong_arguments(make, argument):
    with pytest.raises(ValueError, match=f"Received: {argument}"):
        make()
