"""Gates."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class SimpleGate(keras.layers.Layer):
    """Product of the two halves of the channels: (..., 2C) to (..., C).

    Source: NAFNet, arXiv 2204.04676, eq. 4.
    """

    def call(self, x):
        first, second = ops.split(x, 2, axis=-1)
        return first * second

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], input_shape[-1] // 2)
