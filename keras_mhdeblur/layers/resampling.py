"""Bilinear upsampling, in a form that survives export."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class BilinearUpsampling2D(keras.layers.Layer):
    """Doubles height and width by bilinear interpolation.

    Pixels are areas: the result is that of PyTorch's `interpolate` with
    `align_corners=False` and of `tf.image.resize`, whose Keras form does not take
    sizes that are unknown when the graph is built. Downsampling by two in the same
    way is `keras.layers.AveragePooling2D(2)`.

    Input: (B, H, W, C), any H and W. Output: (B, 2H, 2W, C).
    """

    def call(self, x):
        return _double(_double(x, 2), 1)

    def compute_output_shape(self, input_shape):
        batch, *size, channels = input_shape
        return (batch, *(None if n is None else 2 * n for n in size), channels)


def _double(x, axis):
    """Linear interpolation of twice as many values along an axis."""

    def part(start, stop):
        return x[(slice(None),) * axis + (slice(start, stop),)]

    # New values lie a quarter of a step before and after the old ones.
    before = ops.concatenate([part(None, 1), part(None, -1)], axis)
    after = ops.concatenate([part(1, None), part(-1, None)], axis)
    near = 0.75 * x
    y = ops.stack([near + 0.25 * before, near + 0.25 * after], axis + 1)
    shape = [-1, *ops.shape(x)[1:3], x.shape[3]]
    shape[axis] *= 2
    return ops.reshape(y, shape)
