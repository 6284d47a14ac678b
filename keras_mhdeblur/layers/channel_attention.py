"""Channel attention."""

from typing import Any

import keras

from keras_mhdeblur.layers.pooling import average_pool


class AttentionLayer(keras.layers.Layer):
    """Options of the layers that attend to channels."""

    def __init__(
        self, channels: int, reduction: int = 4, use_bias: bool = False, **kwargs: Any
    ) -> None:
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
class ChannelAttention(AttentionLayer):
    """Weights every channel by a number in (0, 1) made from all channels' means.

    Pooling, 1x1, ReLU, 1x1, sigmoid. Source: arXiv 1807.02758, section 3.3; MPRNet,
    arXiv 2102.02808, figure 3.

    Call arguments:
        x: (B, H, W, C).
        window_size: None for global pooling, or the window (height, width) of local
            pooling (`layers.average_pool`).

    Output: (B, H, W, C).

    Args:
        channels: number of channels C.
        reduction: the first convolution has C // reduction channels.
        use_bias: whether convolutions have a bias.
    """

    def __init__(
        self, channels: int, reduction: int = 4, use_bias: bool = False, **kwargs: Any
    ) -> None:
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
