"""The building blocks of MPRNet."""

from typing import Any

import keras
from keras import ops

from keras_mhdeblur.layers.channel_attention import AttentionLayer, ChannelAttention


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class SharedSlope(keras.layers.Layer):
    """One learned number that many blocks take as the slope of their PReLU.

    A layer of its own and an input of the blocks, so that the weight exists and is
    saved once, however many blocks there are.

    Input: any tensor, of which nothing is used: it makes the number part of a
    functional model. Output: (1,); the number starts at 0.25.
    """

    def build(self, input_shape):
        self.slope = self.add_weight(
            (1,), keras.initializers.Constant(0.25), name="slope"
        )

    def call(self, x):
        return ops.cast(self.slope, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return (1,)


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class ChannelAttentionBlock(AttentionLayer):
    """Residual block: 3x3, PReLU, 3x3, `ChannelAttention` (the CAB of MPRNet).

    Source: arXiv 2102.02808, figure 3b.

    Call arguments:
        x: (B, H, W, C).
        slope: (1,), slope of the PReLU below zero.
        window_size: see `ChannelAttention`.

    Output: (B, H, W, C).

    Args:
        channels: number of channels C.
        reduction: see `ChannelAttention`.
        use_bias: whether convolutions have a bias.
    """

    def __init__(
        self, channels: int, reduction: int = 4, use_bias: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(channels, reduction, use_bias, **kwargs)
        conv = keras.layers.Conv2D
        common = {"use_bias": use_bias, "dtype": self.dtype_policy}
        self.conv1 = conv(channels, 3, padding="same", name="conv1", **common)
        self.conv2 = conv(channels, 3, padding="same", name="conv2", **common)
        self.attention = ChannelAttention(
            channels, reduction, name="attention", **common
        )

    def build(self, x_shape, slope_shape):
        for layer in (self.conv1, self.conv2, self.attention):
            layer.build((None, None, None, self.channels))

    def call(self, x, slope, window_size=None):
        y = self.conv1(x)
        # PReLU in three cheap steps; `ops.where` costs several times as much.
        y = y + (slope - 1) * ops.minimum(y, 0)
        return x + self.attention(self.conv2(y), window_size=window_size)

    def compute_output_shape(self, x_shape, slope_shape):
        return x_shape


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class OriginalResolutionBlock(AttentionLayer):
    """Residual chain of `ChannelAttentionBlock`s and a 3x3 (the ORB of MPRNet).

    Source: arXiv 2102.02808, figure 3c.

    Call arguments:
        x: (B, H, W, C).
        slope: (1,), slope of the PReLUs below zero.
        window_size: see `ChannelAttention`.

    Output: (B, H, W, C).

    Args:
        channels: number of channels C.
        num_blocks: number of `ChannelAttentionBlock`s.
        reduction: see `ChannelAttention`.
        use_bias: whether the blocks' convolutions have a bias. The last convolution
            never has one, as in the official code.
    """

    def __init__(
        self,
        channels: int,
        num_blocks: int = 8,
        reduction: int = 4,
        use_bias: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(channels, reduction, use_bias, **kwargs)
        self.num_blocks = num_blocks
        common = {"use_bias": use_bias, "dtype": self.dtype_policy}
        self.blocks = [
            ChannelAttentionBlock(channels, reduction, name=f"block_{index}", **common)
            for index in range(num_blocks)
        ]
        self.conv = keras.layers.Conv2D(
            channels,
            3,
            padding="same",
            use_bias=False,
            name="conv",
            dtype=self.dtype_policy,
        )

    def build(self, x_shape, slope_shape):
        shape = (None, None, None, self.channels)
        for block in self.blocks:
            block.build(shape, slope_shape)
        self.conv.build(shape)

    def call(self, x, slope, window_size=None):
        y = x
        for block in self.blocks:
            y = block(y, slope, window_size=window_size)
        return x + self.conv(y)

    def compute_output_shape(self, x_shape, slope_shape):
        return x_shape

    def get_config(self):
        return {**super().get_config(), "num_blocks": self.num_blocks}
