"""Layer normalization over channels."""

from typing import Any

import keras
from keras import ops

from keras_mhdeblur.utils.types import Tensor


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class ChannelNormalization(keras.layers.Layer):
    """Layer normalization of every pixel over its channels, in float32.

    (x - mean) / sqrt(variance + epsilon) * gamma + beta, or, bias-free, without
    subtracting the mean and without beta. Source: the two norms of Restormer, arXiv
    2111.09881. On a CPU it takes about three quarters of the time of
    `keras.layers.LayerNormalization`.

    Input and output: (B, H, W, C).

    Args:
        center: whether to subtract the mean and to add beta.
        epsilon: number added to the variance.
    """

    def __init__(
        self, center: bool = True, epsilon: float = 1e-5, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.center = center
        self.epsilon = epsilon

    def build(self, input_shape):
        shape = input_shape[-1:]
        self.gamma = self.add_weight(shape, "ones", autocast=False, name="gamma")
        if self.center:
            self.beta = self.add_weight(shape, "zeros", autocast=False, name="beta")

    def call(self, x):
        y = self.standardize(x) * self.gamma
        return ops.cast(y + self.beta if self.center else y, x.dtype)

    def standardize(self, x: Tensor) -> Tensor:
        """The same without gamma and beta, in float32."""
        x = ops.cast(x, "float32")
        centered = x - ops.mean(x, axis=-1, keepdims=True)
        variance = ops.mean(ops.square(centered), axis=-1, keepdims=True)
        y = centered if self.center else x
        return y * ops.rsqrt(variance + self.epsilon)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "center": self.center,
            "epsilon": self.epsilon,
        }
