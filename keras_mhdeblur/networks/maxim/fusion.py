"""1x1 convolutions of features of several resolutions."""

import keras
from keras import ops

from keras_mhdeblur.layers.resampling import (
    BilinearDownsampling2D,
    BilinearUpsampling2D,
)
from keras_mhdeblur.networks.maxim.mixing import product


def conv1x1(filters, name, dtype):
    """A 1x1 convolution with a bias and the official initial values."""
    return keras.layers.Conv2D(
        filters,
        1,
        kernel_initializer=keras.initializers.LecunNormal(),
        dtype=dtype,
        name=name,
    )


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class ScaleFusion(keras.layers.Layer):
    """Features of several levels resized to one, each by a 1x1 convolution, and merged.

    The official network resizes (UpSampleRatio), convolves and concatenates; a 1x1
    convolution follows. All of this is linear, so here each level has one product with
    the product of both kernels, before it is enlarged or after it is reduced.
    Source: MAXIM, arXiv 2201.02973, section 3.4.

    Call arguments:
        features: list of (B, H_j, W_j, C_j).
        kernel: (len(features) * channels, channels) of the merging convolution.
        bias: (channels,) of it.

    Output: (B, H, W, channels).

    Args:
        channels: channels of the merged features.
        ratios: H / H_j of each level: 4, 2, 1, 0.5 or 0.25.
    """

    def __init__(self, channels, ratios, **kwargs):
        super().__init__(**kwargs)
        self.channels = channels
        self.ratios = tuple(ratios)

    def build(self, features_shape, kernel_shape=None, bias_shape=None):
        self.convs = [
            conv1x1(self.channels, f"conv_{index}", self.dtype_policy)
            for index in range(len(self.ratios))
        ]
        self.resizes = [_resize(ratio) for ratio in self.ratios]
        for conv, shape in zip(self.convs, features_shape):
            conv.build(shape)

    def call(self, features, kernel, bias):
        kernels = ops.split(ops.cast(kernel, "float32"), len(features))
        bias = ops.cast(bias, "float32")
        terms = []
        for x, conv, resize, ratio, part in zip(
            features, self.convs, self.resizes, self.ratios, kernels
        ):
            both = ops.matmul(ops.cast(conv.kernel, "float32")[0, 0], part)
            both = ops.cast(both, x.dtype)
            if ratio < 1:
                terms.append(product(resize(x), both))
            else:
                y = product(x, both)
                terms.append(y if resize is None else resize(y))
            # Weights of a resize sum to one: a bias passes through it.
            bias = bias + ops.matmul(ops.cast(conv.bias, "float32"), part)
        return sum(terms) + ops.cast(bias, terms[0].dtype)

    def compute_output_shape(self, features_shape, kernel_shape=None, bias_shape=None):
        index = self.ratios.index(1)
        return (*features_shape[index][:-1], self.channels)

    def get_config(self):
        return {
            **super().get_config(),
            "channels": self.channels,
            "ratios": self.ratios,
        }


def _resize(ratio):
    if ratio == 1:
        return None
    if ratio > 1:
        return BilinearUpsampling2D(int(ratio))
    return BilinearDownsampling2D(round(1 / ratio))
