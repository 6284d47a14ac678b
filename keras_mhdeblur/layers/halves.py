"""Cutting of images into halves, which become images of the batch, and back."""

import keras
from keras import ops


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
        height, width = ops.shape(x)[1:3]
        if self.axis == 1:
            return ops.reshape(x, (-1, height // 2, width, x.shape[3]))
        x = ops.reshape(x, (-1, height, 2, width // 2, x.shape[3]))
        x = ops.transpose(x, (0, 2, 1, 3, 4))
        return ops.reshape(x, (-1, height, width // 2, x.shape[4]))

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
        height, width = ops.shape(x)[1:3]
        if self.axis == 1:
            return ops.reshape(x, (-1, 2 * height, width, x.shape[3]))
        x = ops.reshape(x, (-1, 2, height, width, x.shape[3]))
        x = ops.transpose(x, (0, 2, 1, 3, 4))
        return ops.reshape(x, (-1, height, 2 * width, x.shape[4]))

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
