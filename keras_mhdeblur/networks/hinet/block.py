"""The building block of HINet."""

from typing import Any

import keras
from keras import ops

from keras_mhdeblur.networks.hinet.half_instance_normalization import (
    HalfInstanceNormalization,
)


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class HINBlock(keras.layers.Layer):
    """Two 3x3 convolutions with leaky ReLUs and a 1x1 convolution beside them.

    The first convolution's result is half instance normalized, or not: then this is
    the residual block of HINet's other levels. Source: arXiv 2105.06086, figure 3.

    Call arguments:
        x: (B, H, W, C').
        window_size: see `HalfInstanceNormalization`; unused without one.

    Output: (B, H, W, C).

    Args:
        channels: number of output channels C.
        normalize: whether there is a `HalfInstanceNormalization`.
        relu_slope: slope of the leaky ReLUs below zero.
    """

    def __init__(
        self,
        channels: int,
        normalize: bool = True,
        relu_slope: float = 0.2,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.channels = channels
        self.normalize = normalize
        self.relu_slope = relu_slope
        policy = {"dtype": self.dtype_policy}
        conv = keras.layers.Conv2D
        self.conv1 = conv(channels, 3, padding="same", name="conv1", **policy)
        if normalize:
            self.norm = HalfInstanceNormalization(name="norm", **policy)
        self.conv2 = conv(channels, 3, padding="same", name="conv2", **policy)
        self.identity = conv(channels, 1, name="identity", **policy)

    def build(self, input_shape):
        wide = (*input_shape[:-1], self.channels)
        self.conv1.build(input_shape)
        if self.normalize:
            self.norm.build(wide)
        self.conv2.build(wide)
        self.identity.build(input_shape)

    def call(self, x, window_size=None):
        y = self.conv1(x)
        if self.normalize:
            y = self.norm(y, window_size=window_size)
        y = self.conv2(ops.leaky_relu(y, self.relu_slope))
        return ops.leaky_relu(y, self.relu_slope) + self.identity(x)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.channels)

    def get_config(self):
        return {
            **super().get_config(),
            "channels": self.channels,
            "normalize": self.normalize,
            "relu_slope": self.relu_slope,
        }
