"""The layers of HINet against the official ones and against direct definitions."""

import keras
import numpy as np
import pytest

from keras_mhdeblur import layers, networks
from keras_mhdeblur.networks.hinet.official_names import hinblock_entries
from keras_mhdeblur.networks.torch_layouts import conv_entries

TOLERANCE = {"rtol": 0, "atol": 5e-6}


def load(entries, state, prefix=""):
    """Sets the variables of the entries, which are all below the prefix."""
    assert entries.keys() == {name for name in state if name.startswith(prefix)}
    for name, (variable, to_keras) in entries.items():
        variable.assign(to_keras(state[name]))


def conv(cls, name, x, state, *args, **kwargs):
    layer = cls(*args, **kwargs)
    layer.build(x.shape)
    load(conv_entries(name, layer), state, f"{name}.")
    return layer(x)


def test_plain_block(golden):
    blocks = golden("blocks")
    x = blocks["hin_convblock_plain/x0"]
    block = networks.hinet.HINBlock(6, normalize=False)
    block.build(x.shape)
    load(hinblock_entries(block), blocks.state("hin_convblock_plain/sd/"))
    np.testing.assert_allclose(
        block(x), blocks["hin_convblock_plain/out0"], **TOLERANCE
    )


def test_normalizing_block_fused_features_and_downscaling(golden):
    blocks = golden("blocks")
    name = "hin_convblock_hin_csff_down"
    x, *features = (blocks[f"{name}/x{i}"] for i in range(3))
    state = blocks.state(f"{name}/sd/")
    others = ("csff_enc", "csff_dec", "downsample")
    block = networks.hinet.HINBlock(6)
    block.build(x.shape)
    own = {k: v for k, v in state.items() if not k.startswith(others)}
    load(hinblock_entries(block), own)
    conv2d = keras.layers.Conv2D
    y = block(x)
    for part, other in zip(others, features):
        y += conv(conv2d, part, other, state, 6, 3, padding="same")
    kwargs = {"strides": 2, "padding": "same", "use_bias": False}
    down = conv(conv2d, others[2], y, state, 6, 4, **kwargs)
    np.testing.assert_allclose(down, blocks[f"{name}/out0"], **TOLERANCE)
    np.testing.assert_allclose(y, blocks[f"{name}/out1"], **TOLERANCE)


def test_upscaling(golden):
    blocks = golden("blocks")
    x, skip = blocks["hin_upblock/x0"], blocks["hin_upblock/x1"]
    state = blocks.state("hin_upblock/sd/")
    up = conv(layers.Conv2DTranspose, "up", x, state, 4, 2)
    y = np.concatenate([up, skip], axis=-1)
    block = networks.hinet.HINBlock(4, normalize=False)
    block.build(y.shape)
    load(hinblock_entries(block, "conv_block."), state, "conv_block.")
    np.testing.assert_allclose(block(y), blocks["hin_upblock/out0"], **TOLERANCE)


def test_supervised_attention(golden):
    blocks = golden("blocks")
    features, image = blocks["hin_sam_K3/x0"], blocks["hin_sam_K3/x1"]
    state = blocks.state("hin_sam_K3/sd/")
    heads, attention = layers.MultiHeadOutput(3), layers.SupervisedAttention()
    stack = heads(features, image)
    attention.build(features.shape, stack.shape)
    entries = {
        **conv_entries("conv1", attention.conv),
        **conv_entries("conv2", heads.conv),
        **conv_entries("conv3", attention.mask),
    }
    load(entries, state)
    stack = heads(features, image)
    expected = blocks["hin_sam_K3/out1"].reshape(2, 7, 5, 3, 3).transpose(0, 3, 1, 2, 4)
    np.testing.assert_allclose(stack, expected, **TOLERANCE)
    y = attention(features, stack)
    np.testing.assert_allclose(y, blocks["hin_sam_K3/out0"], **TOLERANCE)


def normalized(x, window_size):
    """Direct definition in float64, every window for itself, gamma 1, beta 0."""
    x = x.astype("float64")
    y = x.copy()
    half = x.shape[-1] // 2
    size = x.shape[1:3]
    window = np.minimum(window_size or size, size)
    valid = size - window + 1
    for row, column in np.ndindex(*size):
        # Positions beyond the complete windows take the nearest of them.
        start = np.clip((row, column) - (size - valid) // 2, 0, valid - 1)
        (top, left), (bottom, right) = start, start + window
        part = x[:, top:bottom, left:right, :half]
        value = x[:, row, column, :half] - part.mean(axis=(1, 2))
        y[:, row, column, :half] = value / np.sqrt(part.var(axis=(1, 2)) + 1e-5)
    return y


@pytest.mark.parametrize(
    "window", [None, (4, 4), (5, 3), (1, 6), (4, 99), (99, 3), (99, 99)]
)
@pytest.mark.parametrize("channels", [4, 5])
def test_half_instance_normalization(window, channels):
    x = np.random.default_rng(0).normal(size=(2, 9, 12, channels)).astype("float32")
    norm = networks.hinet.HalfInstanceNormalization()
    np.testing.assert_allclose(
        norm(x, window_size=window), normalized(x, window), **TOLERANCE
    )
    half = channels // 2
    norm.gamma.assign(np.arange(half) + 2.0)
    norm.beta.assign(np.arange(half) - 1.0)
    expected = normalized(x, window)
    expected[..., :half] = expected[..., :half] * (np.arange(half) + 2.0)
    expected[..., :half] += np.arange(half) - 1.0
    np.testing.assert_allclose(norm(x, window_size=window), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("window", [None, (24, 24)])
def test_large_means_do_not_cancel_the_variance(window):
    """In float32 the mean of squares would be wrong by more than the variance."""
    rng = np.random.default_rng(0)
    x = (1000 + 0.1 * rng.normal(size=(1, 40, 50, 2))).astype("float32")
    found = networks.hinet.HalfInstanceNormalization()(x, window_size=window)
    np.testing.assert_allclose(found, normalized(x, window), rtol=0, atol=1e-2)


@pytest.mark.parametrize("window", [None, (2, 3)])
def test_constant_image_is_normalized_to_zero(window):
    x = np.full((1, 6, 7, 2), 300, "float32")
    y = np.array(networks.hinet.HalfInstanceNormalization()(x, window_size=window))
    assert np.abs(y[..., 0]).max() < 1e-2
    np.testing.assert_array_equal(y[..., 1], 300)


@pytest.mark.parametrize("window", [None, (250, 250)])
def test_statistics_in_float32(window):
    norm = networks.hinet.HalfInstanceNormalization(dtype="mixed_float16")
    x = np.random.default_rng(0).normal(3, 20, (1, 300, 300, 2)).astype("float16")
    y = norm(x, window_size=window)  # sums of squares overflow in float16
    assert y.dtype == "float16"
    expected = networks.hinet.HalfInstanceNormalization()(x, window_size=window)
    np.testing.assert_allclose(y, expected, rtol=1e-3, atol=1e-3)


def test_crop_stack():
    stack = np.arange(2 * 3 * 5 * 6, dtype="float32").reshape(1, 2, 3, 5, 6)
    cropped = layers.CropStack(dtype="mixed_float16")(stack, stack[:, 0, :2, :4])
    np.testing.assert_array_equal(cropped, stack[:, :, :2, :4])


@pytest.mark.parametrize(
    "layer",
    [
        networks.hinet.HINBlock(6, normalize=False, relu_slope=0.1),
        networks.hinet.HalfInstanceNormalization(epsilon=1e-3),
        layers.SupervisedAttention(1, use_bias=False),
        layers.CropStack(),
    ],
)
def test_config_round_trip(layer):
    assert type(layer).from_config(layer.get_config()).get_config() == (
        layer.get_config()
    )
