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
        # The four pixels that a pixel becomes, side by side as channels.
        pixels = [part for row in _doubled(x, 1) for part in _doubled(row, 2)]
        return ops.nn.depth_to_space(ops.concatenate(pixels, axis=-1), 2)

    def compute_output_shape(self, input_shape):
        batch, *size, channels = input_shape
        return (batch, *(None if n is None else 2 * n for n in size), channels)


def _doubled(x, axis):
    """Linear interpolation a quarter of a step before and after all values."""

    def part(start, stop):
        return x[(slice(None),) * axis + (slice(start, stop),)]

    before = ops.concatenate([part(None, 1), part(None, -1)], axis)
    after = ops.concatenate([part(1, None), part(-1, None)], axis)
    near = 0.75 * x
    return near + 0.25 * before, near + 0.25 * after
