"""The building blocks of MPRNet."""

import keras
from keras import ops

from keras_mhdeblur.layers.pooling import average_pool


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


class _AttentionLayer(keras.layers.Layer):
    """Options of the layers that attend to channels."""

    def __init__(self, channels, reduction=4, use_bias=False, **kwargs):
        super().__init__(**kwargs)
        if not 1 <= reduction <= channels:
            raise ValueError(
                f"`reduction` must be from 1 to the number of channels, {channels}. "
                f"Received: reduction={reduction}"
            )
        self.channels = channels
        self.reduction = reduction
        self.use_bias = use_bias

    def get_config(self):
        return {
            **super().get_config(),
            "channels": self.channels,
            "reduction": self.reduction,
            "use_bias": self.use_bias,
        }


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class ChannelAttention(_AttentionLayer):
    """Weights every channel by a number in (0, 1) made from all channels' means.

    Pooling, 1x1, ReLU, 1x1, sigmoid. Source: arXiv 1807.02758, section 3.3; MPRNet,
    arXiv 2102.02808, figure 3.

    Call arguments:
        x: (B, H, W, C).
        window_size: None for global pooling, or the window (height, width) of local
            pooling (`LocalAveragePooling2D`).

    Output: (B, H, W, C).

    Args:
        channels: number of channels C.
        reduction: the first convolution has C // reduction channels.
        use_bias: whether convolutions have a bias.
    """

    def __init__(self, channels, reduction=4, use_bias=False, **kwargs):
        super().__init__(channels, reduction, use_bias, **kwargs)
        conv = keras.layers.Conv2D
        common = {"use_bias": use_bias, "dtype": self.dtype_policy}
        self.squeeze = conv(
            channels // reduction, 1, activation="relu", name="squeeze", **common
        )
        self.excite = conv(channels, 1, activation="sigmoid", name="excite", **common)

    def build(self, x_shape):
        self.squeeze.build((None, None, None, self.channels))
        self.excite.build((None, None, None, self.channels // self.reduction))

    def call(self, x, window_size=None):
        return x * self.excite(self.squeeze(average_pool(x, window_size)))

    def compute_output_shape(self, x_shape):
        return x_shape


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class ChannelAttentionBlock(_AttentionLayer):
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

    def __init__(self, channels, reduction=4, use_bias=False, **kwargs):
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
class OriginalResolutionBlock(_AttentionLayer):
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
        use_bias: whether convolutions have a bias.
    """

    def __init__(self, channels, num_blocks=8, reduction=4, use_bias=False, **kwargs):
        super().__init__(channels, reduction, use_bias, **kwargs)
        self.num_blocks = num_blocks
        common = {"use_bias": use_bias, "dtype": self.dtype_policy}
        self.blocks = [
            ChannelAttentionBlock(channels, reduction, name=f"block_{index}", **common)
            for index in range(num_blocks)
        ]
        self.conv = keras.layers.Conv2D(
            channels, 3, padding="same", name="conv", **common
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
