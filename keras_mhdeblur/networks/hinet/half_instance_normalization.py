"""Instance normalization of half of the channels, with global or local statistics."""

from typing import Any

import keras
from keras import ops

from keras_mhdeblur.layers.pooling import average_pool


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class HalfInstanceNormalization(keras.layers.Layer):
    """Normalizes the first half of the channels per image, keeps the second half.

    Each of the first C // 2 channels of each image is shifted and scaled to mean 0
    and variance 1 over the image, then by learned numbers. Source: HINet, arXiv
    2105.06086, section 3.2. Statistics are formed in float32 under every dtype
    policy.

    Call arguments:
        x: (B, H, W, C).
        window_size: None for statistics over the image, or the window (height,
            width) of local ones (TLC): mean P(x) and variance P(x^2) - P(x)^2 with P
            the pooling of `layers.average_pool`.

    Output: (B, H, W, C).

    Args:
        epsilon: number added to the variance.
    """

    def __init__(self, epsilon: float = 1e-5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, input_shape):
        self.half = input_shape[-1] // 2
        self.gamma = self.add_weight((self.half,), "ones", name="gamma")
        self.beta = self.add_weight((self.half,), "zeros", name="beta")

    def call(self, x, window_size=None):
        y = ops.cast(x[..., : self.half], "float32")
        y = y - average_pool(y)
        variance = average_pool(ops.square(y), window_size)
        if window_size is not None:
            # Around the global mean, which changes no variance, the two squares
            # whose difference is taken are small.
            mean = average_pool(y, window_size)
            y = y - mean
            variance = ops.maximum(variance - ops.square(mean), 0)
        y = y * ops.rsqrt(variance + self.epsilon)
        y = y * ops.cast(self.gamma, "float32") + ops.cast(self.beta, "float32")
        return ops.concatenate([ops.cast(y, x.dtype), x[..., self.half :]], axis=-1)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "epsilon": self.epsilon}
