"""Bilinear resampling by two and by four, in forms that survive export."""

import keras
import numpy as np
from keras import ops

from keras_mhdeblur.utils.types import Tensor


class _Resampling2D(keras.layers.Layer):
    """Base of the layers that resample by a factor of 2 or 4."""

    def __init__(self, factor=2, **kwargs):
        super().__init__(**kwargs)
        _check_factor(factor)
        self.factor = factor

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class BilinearUpsampling2D(_Resampling2D):
    """Multiplies height and width by 2 or 4, by bilinear interpolation.

    Pixels are areas: the result is that of PyTorch's `interpolate` with
    `align_corners=False` and of `tf.image.resize` and `jax.image.resize`. Keras' own
    form does not take sizes that are unknown when the graph is built.

    Input: (B, H, W, C), any H and W. Output: (B, factor H, factor W, C).

    Args:
        factor: 2 or 4.

    Raises:
        ValueError: `factor` is another number.
    """

    def call(self, x):
        # The pixels that a pixel becomes, side by side as channels.
        pixels = [
            part
            for row in _interpolated(x, 1, self.factor)
            for part in _interpolated(row, 2, self.factor)
        ]
        return ops.nn.depth_to_space(ops.concatenate(pixels, axis=-1), self.factor)

    def compute_output_shape(self, input_shape):
        batch, *size, channels = input_shape
        size = [None if n is None else n * self.factor for n in size]
        return (batch, *size, channels)


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class BilinearDownsampling2D(_Resampling2D):
    """Divides height and width by 2 or 4, bilinearly with antialiasing.

    See `bilinear_downsample`. PyTorch's `interpolate` without antialiasing is
    `keras.layers.AveragePooling2D(2)` instead, for the factor 2.

    Input: (B, H, W, C), H and W multiples of the factor. Output:
    (B, H / factor, W / factor, C).

    Args:
        factor: 2 or 4.

    Raises:
        ValueError: `factor` is another number, or an image of known size has no
            multiple of it as height or width.
    """

    def call(self, x):
        return bilinear_downsample(x, self.factor)

    def compute_output_shape(self, input_shape):
        batch, *size, channels = input_shape
        size = [None if n is None else n // self.factor for n in size]
        return (batch, *size, channels)


def bilinear_downsample(x: Tensor, factor: int) -> Tensor:
    """Bilinear downsampling with antialiasing, as `jax.image.resize` does by default.

    A triangle as wide as two output pixels weights the input pixels; the part of it
    that lies outside the image is left out and the rest divided by its sum. Also what
    `tf.image.resize` does with `antialias=True`. MAXIM (arXiv 2201.02973) resizes
    with it.

    Args:
        x: (B, H, W, C), H and W multiples of `factor`, of any floating dtype.
        factor: 2 or 4.

    Returns:
        (B, H / factor, W / factor, C), of the dtype of `x`.

    Raises:
        ValueError: `factor` is another number, or H or W is known and no multiple of
            it.
    """
    _check_factor(factor)
    if any(size is not None and size % factor for size in x.shape[1:3]):
        raise ValueError(
            f"Height and width must be multiples of {factor}. "
            f"Received: x.shape={tuple(x.shape)}"
        )
    taps = 1 - np.abs(np.arange(0.5, 2 * factor) / factor - 1)
    kernel = np.outer(taps, taps)[:, :, None, None] / factor**2
    kernel = ops.cast(np.tile(kernel, (1, 1, x.shape[-1], 1)), x.dtype)
    # The padding is half a factor at each side. One convolution for both axes:
    # TensorFlow's have the same stride along both.
    x = ops.nn.depthwise_conv(x, kernel, strides=factor, padding="same")
    rows, columns = (_border_gain(size, x.dtype) for size in ops.shape(x)[1:3])
    return x * (rows[:, None, None] * columns[:, None])


def _border_gain(size, dtype):
    """One over the sum of the taps inside the image, of every output along an axis.

    An eighth lies before the first pixel, and after the last, for both factors.
    """
    index = ops.arange(size)
    outside = ops.cast(index == 0, "float32") + ops.cast(index == size - 1, "float32")
    return ops.cast(1 / (1 - outside / 8), dtype)


def _interpolated(x, axis, factor):
    """The values that all values become along an axis: `factor` tensors like `x`."""

    def part(start, stop):
        return x[(slice(None),) * axis + (slice(start, stop),)]

    before = ops.concatenate([part(None, 1), part(None, -1)], axis)
    after = ops.concatenate([part(1, None), part(-1, None)], axis)
    steps = [(index + 0.5) / factor for index in range(factor // 2)]
    near = [(1 - step) * x for step in steps]
    earlier = [value + step * before for value, step in zip(near, steps)]
    later = [value + step * after for value, step in zip(near, steps)]
    return earlier[::-1] + later


def _check_factor(factor):
    if factor not in (2, 4):
        raise ValueError(f"`factor` must be 2 or 4. Received: factor={factor}")
