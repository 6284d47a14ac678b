"""The building block of Restormer: attention across channels, gated feed-forward."""

from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from keras_mhdeblur.layers.channel_normalization import ChannelNormalization
from keras_mhdeblur.layers.conv_parts import conv_part, depthwise_conv_part
from keras_mhdeblur.layers.initializers import torch_uniform
from keras_mhdeblur.layers.static_shapes import reshape, static_shapes_wanted
from keras_mhdeblur.networks.restormer.windows import (
    average_windows,
    cut_windows,
    window_starts,
)


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class SplitProjection(keras.layers.Layer):
    """A 1x1 and a depthwise 3x3 convolution whose output channels come in parts.

    Input: (B, H, W, C). Output: list of `parts` tensors (B, H, W, channels).

    Args:
        parts: number of parts.
        channels: channels of each part.
        use_bias: whether the convolutions have biases.
    """

    def __init__(
        self, parts: int, channels: int, use_bias: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.parts = parts
        self.channels = channels
        self.use_bias = use_bias
        arguments = {"use_bias": use_bias, "dtype": self.dtype_policy}
        self.pointwise = keras.layers.Conv2D(
            parts * channels, 1, name="pointwise", **arguments
        )
        self.depthwise = keras.layers.DepthwiseConv2D(
            3,
            padding="same",
            depthwise_initializer=torch_uniform(9),
            name="depthwise",
            **arguments,
        )

    def build(self, input_shape):
        self.pointwise.build(input_shape)
        self.depthwise.build((*input_shape[:-1], self.parts * self.channels))

    def call(self, x):
        outputs = []
        for index in range(self.parts):
            part = slice(index * self.channels, (index + 1) * self.channels)
            y = conv_part(self.pointwise, x, part)
            outputs.append(depthwise_conv_part(self.depthwise, y, part))
        return outputs

    def compute_output_shape(self, input_shape):
        return [(*input_shape[:-1], self.channels)] * self.parts

    def get_config(self):
        return {
            **super().get_config(),
            "parts": self.parts,
            "channels": self.channels,
            "use_bias": self.use_bias,
        }


class _Branch(keras.layers.Layer):
    """Base of both branches of the block: projections first, a 1x1 convolution last.

    Args:
        channels: number of channels C of input and output.
        parts, part_channels: number and channels of the `SplitProjection`.
        use_bias: whether the convolutions have biases.
    """

    def __init__(self, channels, parts, part_channels, use_bias, **kwargs):
        super().__init__(**kwargs)
        self.channels = channels
        self.use_bias = use_bias
        common = {"use_bias": use_bias, "dtype": self.dtype_policy}
        self.projection = SplitProjection(
            parts, part_channels, name="projection", **common
        )
        self.out = keras.layers.Conv2D(channels, 1, name="out", **common)

    def build(self, input_shape):
        self.projection.build(input_shape)
        self.out.build((*input_shape[:-1], self.projection.channels))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "channels": self.channels,
            "use_bias": self.use_bias,
        }


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class TransposedAttention(_Branch):
    """Multi-head attention across channels: MDTA of Restormer, arXiv 2111.09881.

    Queries, keys and values are feature maps. With q_i and k_j the maps of two
    channels of a head as vectors over all pixels, the attention of channel i to j is
    softmax_j(temperature * q_i . k_j / (|q_i| |k_j|)), so that the cost is linear in
    the number of pixels. The scalar products are formed in float32 under every dtype
    policy.

    Call arguments:
        x: (B, H, W, C).
        window_size: None for attention over the whole image, or the window (height,
            width) of local attention (TLC, see `layers.average_pool`): the maps
            are cut into windows side by side, of which the last ends with the image
            (`layers.windows`), each attends by itself, and where two overlap the mean
            of them counts.

    Output: (B, H, W, C).

    Args:
        channels: number of channels C.
        num_heads: number of attention heads; it divides C.
        use_bias: whether the convolutions have biases.
    """

    def __init__(
        self, channels: int, num_heads: int = 1, use_bias: bool = False, **kwargs: Any
    ) -> None:
        if channels % num_heads:
            raise ValueError(
                "`num_heads` must divide `channels`. "
                f"Received: num_heads={num_heads}, channels={channels}"
            )
        super().__init__(channels, 3, channels, use_bias, **kwargs)
        self.num_heads = num_heads

    def build(self, input_shape):
        super().build(input_shape)
        self.temperature = self.add_weight(
            (self.num_heads, 1, 1), "ones", autocast=False, name="temperature"
        )

    def call(self, x, window_size=None):
        maps = self.projection(x)
        if window_size is None:
            return self._attend(*maps)
        height, width = ops.shape(x)[1:3]
        grid = [
            window_starts(size, window)
            for size, window in zip((height, width), window_size)
        ]
        y = self._attend(*(cut_windows(y, grid) for y in maps))
        return average_windows(y, grid, height, width)

    def _attend(self, query, key, value):
        """Attention and output convolution, (B, H, W, C) each.

        Neither the maps are transposed or normalized nor are the heads taken apart:
        all is done to matrices (C, C), and attention and the output convolution
        become one matrix.
        """
        height, width = ops.shape(value)[1:3]
        pixels = _pixels(value)
        query, key, value = (
            reshape(y, (-1, pixels, self.channels)) for y in (query, key, value)
        )
        mixing = ops.matmul(
            ops.transpose(self._attention(query, key), (0, 2, 1)),
            ops.cast(self.out.kernel[0], "float32"),
        )
        y = ops.matmul(value, ops.cast(mixing, value.dtype))
        if self.use_bias:
            y = y + self.out.bias
        return reshape(y, (-1, height, width, self.channels))

    def _attention(self, query, key):
        """Attention (B, C, C) of channels to channels, zero between heads."""
        head = np.arange(self.channels) // (self.channels // self.num_heads)
        query, key = ops.cast(query, "float32"), ops.cast(key, "float32")
        products = ops.matmul(ops.transpose(query, (0, 2, 1)), key)
        temperature = ops.take(ops.reshape(self.temperature, (-1,)), head)
        rows = _inverse_norm(query) * temperature
        logits = products * rows[:, :, None] * _inverse_norm(key)[:, None]
        other_head = ops.convert_to_tensor(head[:, None] != head, "float32")
        return ops.softmax(logits - 1e9 * other_head, axis=-1)

    def get_config(self):
        return {**super().get_config(), "num_heads": self.num_heads}


def _pixels(x):
    """Number H * W of pixels of feature maps (B, H, W, C)."""
    if static_shapes_wanted():  # Sizes are read off tensors, not multiplied.
        return ops.shape(ops.reshape(x[:1, :, :, :1], (-1,)))[0]
    height, width = ops.shape(x)[1:3]
    return height * width


def _inverse_norm(x):
    """1 / |x| of every channel, (B, C), at most 1e12."""
    return ops.rsqrt(ops.maximum(ops.sum(ops.square(x), axis=1), 1e-24))


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class GatedFeedForward(_Branch):
    """Gated feed-forward with depthwise convolutions: GDFN of Restormer.

    Two projections a and b of the input (1x1 and depthwise 3x3) make GELU(a) * b,
    with the exact GELU; a 1x1 convolution follows. Source: arXiv 2111.09881.

    Input and output: (B, H, W, C).

    Args:
        channels: number of channels C.
        expansion: hidden channels per channel; a fraction of a channel is dropped.
        use_bias: whether the convolutions have biases.
    """

    def __init__(
        self,
        channels: int,
        expansion: float = 2.66,
        use_bias: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(channels, 2, int(channels * expansion), use_bias, **kwargs)
        self.expansion = expansion

    def call(self, x):
        a, b = self.projection(x)
        # Not `ops.gelu`: it becomes Erfc, which ONNX lacks. LiteRT knows this form.
        return self.out(0.5 * a * (1 + ops.erf(a * 0.5**0.5)) * b)

    def get_config(self):
        return {**super().get_config(), "expansion": self.expansion}


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class TransformerBlock(keras.layers.Layer):
    """Restormer's block: attention across channels, then a gated feed-forward.

    Both see the normalized input and are added to it. Source: arXiv 2111.09881,
    figure 2.

    Call arguments:
        x: (B, H, W, C).
        window_size: None, or the window (height, width) of local attention, see
            `TransposedAttention`.

    Output: (B, H, W, C).

    Args:
        channels: number of channels C.
        num_heads: number of attention heads; it divides C.
        expansion: hidden channels of the feed-forward per channel.
        use_bias: whether the convolutions have biases.
        norm: "with_bias" (layer normalization) or "bias_free" (scaling only), see
            `ChannelNormalization`.
    """

    def __init__(
        self,
        channels: int,
        num_heads: int = 1,
        expansion: float = 2.66,
        use_bias: bool = False,
        norm: Literal["with_bias", "bias_free"] = "with_bias",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if norm not in ("with_bias", "bias_free"):
            raise ValueError(
                f'`norm` must be "with_bias" or "bias_free". Received: norm={norm!r}'
            )
        self.channels = channels
        self.num_heads = num_heads
        self.expansion = expansion
        self.use_bias = use_bias
        self.norm = norm
        policy = {"dtype": self.dtype_policy}
        center = norm == "with_bias"
        self.norm1 = ChannelNormalization(center, name="norm1", **policy)
        self.attention = TransposedAttention(
            channels, num_heads, use_bias, name="attention", **policy
        )
        self.norm2 = ChannelNormalization(center, name="norm2", **policy)
        self.feed_forward = GatedFeedForward(
            channels, expansion, use_bias, name="feed_forward", **policy
        )

    def build(self, input_shape):
        for layer in (self.norm1, self.attention, self.norm2, self.feed_forward):
            layer.build(input_shape)

    def call(self, x, window_size=None):
        x = x + self.attention(self.norm1(x), window_size=window_size)
        return x + self.feed_forward(self.norm2(x))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "channels": self.channels,
            "num_heads": self.num_heads,
            "expansion": self.expansion,
            "use_bias": self.use_bias,
            "norm": self.norm,
        }
