"""MAXIM's channel attention blocks."""

import keras
from keras import ops

from keras_mhdeblur.layers.channel_attention import ChannelAttention
from keras_mhdeblur.networks.maxim.mixing import Branch, gelu, project


class _AttentionBlock(Branch):
    """x + channel attention of what `features` makes of the normalized x.

    Args:
        reduction: see `ChannelAttention`.
    """

    def __init__(self, reduction=4, **kwargs):
        super().__init__(**kwargs)
        self.reduction = reduction

    def build(self, input_shape):
        self.norm_in = self.norm("norm_in")
        self.attention = ChannelAttention(
            input_shape[-1],
            self.reduction,
            use_bias=True,
            dtype=self.dtype_policy,
            name="attention",
        )
        for layer in (self.norm_in, *self.feature_layers(), self.attention):
            layer.build(input_shape)

    def call(self, x):
        return x + self.attention(self.features(x))

    def get_config(self):
        return {**super().get_config(), "reduction": self.reduction}


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class ResidualChannelAttention(_AttentionBlock):
    """x + attention(conv(leaky ReLU(conv(norm(x))))) with 3x3 convolutions (RCAB).

    Source: MAXIM, arXiv 2201.02973; slope 0.2 as in the official code.

    Input and output: (B, H, W, C).

    Args:
        reduction: see `ChannelAttention`.
    """

    def build(self, input_shape):
        conv = {"padding": "same", "dtype": self.dtype_policy}
        initializer = keras.initializers.LecunNormal()
        self.conv1, self.conv2 = (
            keras.layers.Conv2D(
                input_shape[-1], 3, kernel_initializer=initializer, name=name, **conv
            )
            for name in ("conv1", "conv2")
        )
        super().build(input_shape)

    def feature_layers(self):
        return self.conv1, self.conv2

    def features(self, x):
        y = ops.leaky_relu(self.conv1(self.norm_in(x)), 0.2)
        return self.conv2(y)


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class ResidualDenseChannelAttention(_AttentionBlock):
    """x + attention(dense(GELU(dense(norm(x))))) (RDCAB).

    Source: MAXIM, arXiv 2201.02973.

    Input and output: (B, H, W, C).

    Args:
        reduction: see `ChannelAttention`.
    """

    def build(self, input_shape):
        self.dense1, self.dense2 = (
            self.dense(input_shape[-1], name) for name in ("dense1", "dense2")
        )
        super().build(input_shape)

    def feature_layers(self):
        return self.dense1, self.dense2

    def features(self, x):
        y = project(self.dense1, self.norm_in.standardize(x), self.norm_in)
        return project(self.dense2, gelu(y))
