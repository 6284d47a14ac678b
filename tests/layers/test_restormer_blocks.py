"""The layers of Restormer against the official ones and against direct definitions."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_mhdeblur import layers, networks
from keras_mhdeblur.networks.restormer import official_names as convert
from keras_mhdeblur.networks.restormer.windows import (
    average_windows,
    cut_windows,
    window_starts,
)
from keras_mhdeblur.networks.torch_layouts import conv_entries, shuffled_conv


def loaded(layer, entries_of, x, state):
    """The layer, built for x, with all the variables of the state."""
    layer.build(x.shape)
    entries = entries_of(layer)
    assert entries.keys() == state.keys()
    for name, (variable, to_keras) in entries.items():
        variable.assign(to_keras(state[name]))
    return layer


NORM = layers.ChannelNormalization, convert.channel_normalization_entries
ATTENTION = networks.restormer.TransposedAttention, convert.attention_entries
FEED_FORWARD = networks.restormer.GatedFeedForward, convert.feed_forward_entries
BLOCK = networks.restormer.TransformerBlock, convert.transformer_block_entries


@pytest.mark.parametrize(
    "name, kind, arguments",
    [
        ("ln_withbias", NORM, {}),
        ("ln_biasfree", NORM, {"center": False}),
        ("attention", ATTENTION, {"channels": 8, "num_heads": 2}),
        (
            "attention_bias",
            ATTENTION,
            {"channels": 8, "num_heads": 4, "use_bias": True},
        ),
        ("ffn", FEED_FORWARD, {"channels": 6}),
        ("ffn_bias", FEED_FORWARD, {"channels": 7, "use_bias": True}),
        ("block", BLOCK, {"channels": 8, "num_heads": 2}),
    ],
)
def test_layer(golden, name, kind, arguments):
    blocks, name = golden("blocks"), f"rest_{name}"
    x, state = blocks[f"{name}/x0"], blocks.state(f"{name}/sd/")
    cls, entries_of = kind
    layer = loaded(cls(**arguments), entries_of, x, state)
    np.testing.assert_allclose(layer(x), blocks[f"{name}/out0"], rtol=0, atol=5e-6)
    copy = cls.from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()
    copy.build(x.shape)
    copy.set_weights(layer.get_weights())
    np.testing.assert_array_equal(copy(x), layer(x))


@pytest.mark.parametrize(
    "name, filters, shuffle, to_keras",
    [
        ("rest_down", 3, layers.PixelUnshuffle, None),
        ("rest_up", 12, layers.PixelShuffle, shuffled_conv),
    ],
)
def test_change_of_resolution(golden, name, filters, shuffle, to_keras):
    blocks = golden("blocks")
    x, state = blocks[f"{name}/x0"], blocks.state(f"{name}/sd/")
    conv = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False)
    loaded(conv, lambda conv: conv_entries("body.0", conv, to_keras), x, state)
    y = shuffle(2)(conv(x))
    np.testing.assert_allclose(y, blocks[f"{name}/out0"], rtol=0, atol=5e-6)


def slow_starts(size, window):
    """Window starts, and the window size."""
    window = min(window, size)
    starts = [0]
    while starts[-1] + window < size:
        starts.append(min(starts[-1] + window, size - window))
    return starts, window


def test_windows_lie_side_by_side_and_at_most_two_overlap():
    for size in range(1, 30):
        for window in range(1, 32):
            starts, length = window_starts(size, window)
            expected = slow_starts(size, window)
            assert (np.array(starts).tolist(), int(length)) == expected
            holders = np.zeros(size)
            for start in expected[0]:
                holders[start : start + length] += 1
            assert holders.min() == 1 and holders.max() <= 2


def slow_local_attention(layer, x, window_size):
    """By loops over windows, heads and channels, in float64."""
    query, key, value = (np.array(y, "float64") for y in layer.projection(x))
    batch, height, width, channels = x.shape
    of_head = channels // layer.num_heads
    total, count = np.zeros(x.shape), np.zeros((height, width, 1))
    rows, h = slow_starts(height, window_size[0])
    columns, w = slow_starts(width, window_size[1])
    for window in np.ndindex(batch, len(rows), len(columns)):
        top, left = rows[window[1]], columns[window[2]]
        place = (window[0], slice(top, top + h), slice(left, left + w))
        for i in range(channels):
            head = i // of_head
            others = range(head * of_head, (head + 1) * of_head)
            a = query[place][..., i]
            logits = []
            for j in others:
                b = key[place][..., j]
                cosine = (a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum())
                logits.append(np.array(layer.temperature)[head, 0, 0] * cosine)
            weights = np.exp(logits) / np.exp(logits).sum()
            for j, weight in zip(others, weights):
                total[place][..., i] += weight * value[place][..., j]
        if window[0] == 0:
            count[place[1:]] += 1
    kernel, bias = (np.array(weight, "float64") for weight in layer.out.weights)
    return total / count @ kernel[0, 0] + bias


@pytest.mark.parametrize(
    "size, window_size",
    [((12, 13), (5, 6)), ((9, 20), (16, 7)), ((21, 4), (5, 4)), ((7, 8), (9, 9))],
)
def test_local_attention(size, window_size):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, *size, 6)).astype("float32")
    layer = networks.restormer.TransposedAttention(6, 2, use_bias=True)
    layer.build(x.shape)
    for weight in layer.weights:
        weight.assign(rng.standard_normal(weight.shape))
    expected = slow_local_attention(layer, x, window_size)
    tolerance = {"rtol": 0, "atol": 1e-5 * np.abs(expected).max()}
    np.testing.assert_allclose(layer(x, window_size=window_size), expected, **tolerance)
    unknown = tf.function(
        lambda x: layer(x, window_size=window_size),
        [tf.TensorSpec((None, None, None, 6))],
    )
    np.testing.assert_allclose(unknown(x), expected, **tolerance)
    known = layer(keras.Input((*size, 6)), window_size=window_size)
    assert known.shape == (None, *size, 6)
    difference = np.abs(expected - np.array(layer(x))).max()
    assert (difference > 0.01) == (window_size != (9, 9))


def test_windows_come_back_where_they_were():
    x = np.random.default_rng(0).random((2, 23, 9, 3), "float32")
    grid = [window_starts(23, 7), window_starts(9, 4)]
    windows = cut_windows(x, grid)
    assert windows.shape == (2 * 4 * 3, 7, 4, 3)
    np.testing.assert_array_equal(windows[1], x[0, :7, 4:8])
    back = average_windows(windows, grid, 23, 9)
    np.testing.assert_array_equal(back, x)


def test_scalar_products_of_large_maps_do_not_overflow_in_float16():
    x = np.random.default_rng(0).standard_normal((1, 96, 96, 4)).astype("float32")
    layer = networks.restormer.TransposedAttention(4, 2)
    half = networks.restormer.TransposedAttention(4, 2, dtype="mixed_float16")
    expected = np.array(layer(100 * x))
    half.build(x.shape)
    half.set_weights(layer.get_weights())
    y = half(100 * x)
    assert y.dtype == "float16"
    np.testing.assert_allclose(y, expected, rtol=0, atol=0.01 * np.abs(expected).max())


def test_black_images_have_finite_attention():
    layer = networks.restormer.TransposedAttention(4)
    np.testing.assert_array_equal(layer(np.zeros((1, 8, 8, 4), "float32")), 0)


@pytest.mark.parametrize(
    "make, argument",
    [
        (
            lambda: networks.restormer.TransposedAttention(6, 4),
            "num_heads=4, channels=6",
        ),
        (lambda: networks.restormer.TransformerBlock(4, norm="none"), "norm='none'"),
    ],
)
def test_wrong_arguments(make, argument):
    with pytest.raises(ValueError, match=f"Received: {argument}"):
        make()
