"""Cutting of images into halves, which become images of the batch, and back."""

import keras
from keras import ops

from keras_mhdeblur.layers.static_shapes import reshape


class _Halves(keras.layers.Layer):
    def __init__(self, axis, **kwargs):
        super().__init__(**kwargs)
        if axis not in (1, 2):
            raise ValueError(f"`axis` must be 1 or 2. Received: axis={axis}")
        self.axis = axis

    def get_config(self):
        return {**super().get_config(), "axis": self.axis}


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class SplitHalves(_Halves):
    """Cuts images into two halves; the halves of an image follow each other.

    Input: (B, H, W, C), the height or width of even size. Output: (2B, H / 2, W, C)
    or (2B, H, W / 2, C).

    Args:
        axis: 1 for an upper and a lower half, 2 for a left and a right one.
    """

    def call(self, x):
        halves = ops.stack(ops.split(x, 2, axis=self.axis), axis=1)
        return reshape(halves, (-1, *ops.shape(halves)[2:]))

    def compute_output_shape(self, input_shape):
        return _moved_factor(input_shape, self.axis, 0)


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class JoinHalves(_Halves):
    """Undoes `SplitHalves`.

    Input: (2B, H, W, C). Output: (B, 2H, W, C) or (B, H, 2W, C).

    Args:
        axis: 1 for an upper and a lower half, 2 for a left and a right one.
    """

    def call(self, x):
        halves = ops.split(reshape(x, (-1, 2, *ops.shape(x)[1:])), 2, axis=1)
        # Not `ops.unstack` first, which OpenVINO refuses of unknown sizes.
        return ops.squeeze(ops.concatenate(halves, axis=self.axis + 1), axis=1)

    def compute_output_shape(self, input_shape):
        return _moved_factor(input_shape, 0, self.axis)


def _moved_factor(shape, halved, doubled):
    """A shape with one axis half and another twice as long; unknown sizes stay so."""
    shape = list(shape)
    if shape[halved] is not None:
        shape[halved] //= 2
    if shape[doubled] is not None:
        shape[doubled] *= 2
    return tuple(shape)
