"""The parts of the U-Net and of the structure guidance."""

import functools
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from keras_mhdeblur.layers.static_shapes import crop

# Of 5000 times the level even the slow waves of the embedding see a difference.
_LEVEL_SCALE = 5000.0
_LUMA = (0.299, 0.587, 0.114)


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class NoiseEmbedding(keras.layers.Layer):
    """Features of a noise level: sines, cosines and two dense layers.

    Input: noise levels (B,), 1 for no noise, 0 for nothing but noise. Output:
    (B, size). It computes in float32 under every dtype policy. Source: WaveGrad (arXiv
    2009.00713), section 3.1.

    Args:
        size: number of features, even.
    """

    def __init__(self, size: int, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.size = size
        self.dense1 = keras.layers.Dense(4 * size, "silu", name="dense1")
        self.dense2 = keras.layers.Dense(size, name="dense2")

    def build(self, input_shape):
        self.dense1.build((None, self.size))
        self.dense2.build((None, 4 * self.size))

    def call(self, noise_level):
        half = self.size // 2
        frequencies = _LEVEL_SCALE * 10.0 ** (-4 * np.arange(half) / half)
        angles = noise_level[:, None] * ops.convert_to_tensor(frequencies, "float32")
        waves = ops.concatenate([ops.sin(angles), ops.cos(angles)], axis=-1)
        return self.dense2(self.dense1(waves))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.size)

    def get_config(self):
        return {**super().get_config(), "size": self.size}


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class UNetBlock(keras.layers.Layer):
    """Residual block of the U-Net: twice swish and a 3x3 convolution.

    It has no normalization. The second convolution starts at zero. Source: DvSR (arXiv
    2112.02475); with `structure` the guided block of arXiv 2212.01789.

    Call arguments:
        x: (B, H, W, F).
        noise: features of the noise level (B, N), or None. A dense layer of them is
            added behind the first convolution.
        structure: guidance features (B, H, W, G), or None. A 1x1 convolution of them,
            which starts at zero, is added there, too.

    Output: (B, H, W, channels), of half or twice the height and width if resampled.

    Args:
        channels: output channels.
        resample: "down" halves even heights and widths, "up" doubles them.
    """

    def __init__(
        self,
        channels: int,
        resample: Literal["down", "up"] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.channels = channels
        self.resample = resample
        conv = functools.partial(
            keras.layers.Conv2D, channels, padding="same", dtype=self.dtype_policy
        )
        strides = 2 if resample == "down" else 1
        zeros = {"kernel_initializer": "zeros"}
        self.conv1 = conv(3, strides=strides, name="conv1")
        self.conv2 = conv(3, name="conv2", **zeros)
        self.skip = conv(1, strides=strides, name="skip")
        self.noise = keras.layers.Dense(channels, dtype=self.dtype_policy, name="noise")
        self.structure = conv(1, name="structure", **zeros)

    def build(self, x_shape, noise_shape=None, structure_shape=None):
        self.conv1.build(x_shape)
        self.conv2.build((*x_shape[:-1], self.channels))
        if self.resample is None and x_shape[-1] == self.channels:
            self.skip = None
        else:
            self.skip.build(x_shape)
        for name, shape in ("noise", noise_shape), ("structure", structure_shape):
            if shape is None:
                setattr(self, name, None)
            else:
                getattr(self, name).build(shape)

    def call(self, x, noise=None, structure=None):
        if self.resample == "up":
            # Every pixel four times, in a form that exports.
            x = ops.nn.depth_to_space(ops.concatenate([x] * 4, axis=-1), 2)
        y = self.conv1(ops.silu(x))
        if noise is not None:
            y = y + self.noise(noise)[:, None, None]
        if structure is not None:
            y = y + self.structure(structure)
        y = self.conv2(ops.silu(y))
        return y + (x if self.skip is None else self.skip(x))

    def compute_output_shape(self, x_shape, noise_shape=None, structure_shape=None):
        batch, *size, _ = x_shape
        scale = {"down": lambda n: n // 2, "up": lambda n: 2 * n, None: lambda n: n}
        size = [None if n is None else scale[self.resample](n) for n in size]
        return (batch, *size, self.channels)

    def get_config(self):
        own = {"channels": self.channels, "resample": self.resample}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class ImageOutput(keras.layers.Layer):
    """Swish, a 3x3 convolution to an image, and cropping to the size of another.

    It computes in float32 under every dtype policy.

    Call arguments:
        features: (B, H', W', F) with H' >= H and W' >= W.
        image: (B, H, W, C).

    Output: (B, H, W, C).
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})

    def build(self, features_shape, image_shape):
        self.conv = keras.layers.Conv2D(
            image_shape[-1], 3, padding="same", dtype="float32", name="conv"
        )
        self.conv.build(features_shape)

    def call(self, features, image):
        return crop(self.conv(ops.silu(features)), image, axis=1)

    def compute_output_shape(self, features_shape, image_shape):
        return image_shape


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class GrayPyramid(keras.layers.Layer):
    """Gray images of a half, a quarter and an eighth of the size, by averages.

    Input: (B, H, W, C), H and W multiples of 8; of C = 3 the luma is taken, else the
    mean. Output: list of (B, H/2, W/2, 1), (B, H/4, W/4, 1) and (B, H/8, W/8, 1). It
    computes in float32 under every dtype policy.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})

    def call(self, image):
        if image.shape[-1] == 3:
            weights = ops.convert_to_tensor(_LUMA, "float32")
            gray = ops.sum(image * weights, axis=-1, keepdims=True)
        else:
            gray = ops.mean(image, axis=-1, keepdims=True)
        return [ops.average_pool(gray, size, size) for size in (2, 4, 8)]

    def compute_output_shape(self, input_shape):
        batch, *size, _ = input_shape
        return [
            (batch, *[None if n is None else n // scale for n in size], 1)
            for scale in (2, 4, 8)
        ]
