"""The building block of NAFNet."""

from typing import Any

import keras
from keras import ops

from keras_mhdeblur.layers.channel_normalization import ChannelNormalization
from keras_mhdeblur.layers.conv_parts import conv_part_of_norm, depthwise_conv_part
from keras_mhdeblur.layers.initializers import torch_uniform
from keras_mhdeblur.layers.pooling import average_pool


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class NAFBlock(keras.layers.Layer):
    """Nonlinear-activation-free block: gated convolutions with channel attention.

    Two residual halves, each scaled by a learned vector that starts at zero:
    norm, 1x1, depthwise 3x3, gate, simplified channel attention, 1x1; then norm,
    1x1, gate, 1x1. Source: arXiv 2204.04676, figure 3.

    Call arguments:
        x: (B, H, W, C).
        window_size: None for attention by global pooling, or the window (height,
            width) of local pooling (`layers.average_pool`).

    Output: (B, H, W, C).

    Args:
        channels: number of channels C.
    """

    def __init__(self, channels: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.channels = channels
        policy = {"dtype": self.dtype_policy}

        def pointwise(filters, name):
            return keras.layers.Conv2D(
                filters,
                1,
                kernel_initializer=torch_uniform(channels),
                bias_initializer=torch_uniform(channels),
                name=name,
                **policy,
            )

        self.norm1 = ChannelNormalization(epsilon=1e-6, name="norm1", **policy)
        self.conv1 = pointwise(2 * channels, "conv1")
        self.conv2 = keras.layers.DepthwiseConv2D(
            3,
            padding="same",
            depthwise_initializer=torch_uniform(9),
            bias_initializer=torch_uniform(9),
            name="conv2",
            **policy,
        )
        self.attention = pointwise(channels, "attention")
        self.conv3 = pointwise(channels, "conv3")
        self.norm2 = ChannelNormalization(epsilon=1e-6, name="norm2", **policy)
        self.conv4 = pointwise(2 * channels, "conv4")
        self.conv5 = pointwise(channels, "conv5")

    def build(self, input_shape):
        image = (None, None, None)
        narrow, wide = (*image, self.channels), (*image, 2 * self.channels)
        for layer in (self.norm1, self.norm2, self.conv1, self.conv4):
            layer.build(narrow)
        for layer in (self.attention, self.conv3, self.conv5):
            layer.build(narrow)
        self.conv2.build(wide)
        self.beta = self.add_weight((self.channels,), "zeros", name="beta")
        self.gamma = self.add_weight((self.channels,), "zeros", name="gamma")

    def call(self, x, window_size=None):
        # The gate (`SimpleGate`) multiplies two halves of channels, made one by one.
        halves = slice(self.channels), slice(self.channels, None)
        y = self.norm1.standardize(x)
        first, second = (
            depthwise_conv_part(
                self.conv2, conv_part_of_norm(self.norm1, self.conv1, y, half), half
            )
            for half in halves
        )
        y = first * second
        y = y * self.attention(average_pool(y, window_size))
        x = x + self.conv3(y) * ops.cast(self.beta, x.dtype)
        y = self.norm2.standardize(x)
        first, second = (
            conv_part_of_norm(self.norm2, self.conv4, y, half) for half in halves
        )
        return x + self.conv5(first * second) * ops.cast(self.gamma, x.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "channels": self.channels}
