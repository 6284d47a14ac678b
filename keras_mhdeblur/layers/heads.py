"""The multi-head output layer and the combination of its heads into hypotheses."""

import keras
import numpy as np
from keras import ops


def pair_indices(num_heads):
    """Head pairs (i, j) of the combined hypotheses, in order.

    The order is the lower triangle row by row, (0, 0), (1, 0), (1, 1), (2, 0), ...,
    so that the pair (i, j) with j <= i has index `i * (i + 1) // 2 + j`.

    Args:
        num_heads: number of heads K.

    Returns:
        List of K * (K + 1) / 2 tuples.
    """
    return [(i, j) for i in range(num_heads) for j in range(i + 1)]


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class HeadCombination(keras.layers.Layer):
    """Averages every pair of head images: K images become K(K+1)/2 hypotheses.

    Input: (B, K, H, W, C). Output: (B, K(K+1)/2, H, W, C) in the order of
    `pair_indices`; the pair (i, i) is head i itself. Source: arXiv 2208.13029,
    section 3.3. There are no weights.
    """

    def call(self, stack):
        num_heads = stack.shape[1]
        if num_heads == 1:
            return stack
        first, second = zip(*pair_indices(num_heads))
        first = ops.take(stack, ops.convert_to_tensor(first, "int32"), axis=1)
        second = ops.take(stack, ops.convert_to_tensor(second, "int32"), axis=1)
        return 0.5 * (first + second)

    def compute_output_shape(self, stack_shape):
        batch, num_heads, *image = stack_shape
        return (batch, num_heads * (num_heads + 1) // 2, *image)


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class MultiHeadOutput(keras.layers.Layer):
    """K head images: a convolution predicts K residuals, each is added to the input.

    The convolution has K * C output channels, head-major (channels k * C to
    k * C + C - 1 belong to head k). It computes in float32 under every dtype
    policy, so that the image that passes through is not rounded.

    Call arguments:
        features: (B, H', W', F) with H' >= H and W' >= W: padding at the bottom and
            the right is cropped away after the convolution.
        image: (B, H, W, C), the blurry input.

    Output: (B, K, H, W, C), head images `image + residual_k`.

    Args:
        num_heads: number of heads K.
        channels: image channels C.
        kernel_size: size of the convolution kernel.
    """

    def __init__(self, num_heads, channels=3, kernel_size=3, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        if num_heads < 1:
            raise ValueError(
                f"`num_heads` must be at least 1. Received: num_heads={num_heads}"
            )
        self.num_heads = num_heads
        self.channels = channels
        self.kernel_size = kernel_size
        self.conv = keras.layers.Conv2D(
            num_heads * channels,
            kernel_size,
            padding="same",
            # Heads start near the input and near each other: one that starts far
            # behind never wins and is never trained.
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
            dtype=self.dtype_policy,
            name="conv",
        )

    def build(self, features_shape, image_shape):
        self.conv.build(features_shape)

    def call(self, features, image):
        height, width = ops.shape(image)[1:3]
        residuals = self.conv(features)[:, :height, :width]
        residuals = ops.reshape(
            residuals, (-1, height, width, self.num_heads, self.channels)
        )
        residuals = ops.transpose(residuals, (0, 3, 1, 2, 4))
        return ops.expand_dims(image, 1) + residuals

    def fold_into(self, single, head_weights):
        """Sets a built one-head layer to the weighted mean of these heads.

        Args:
            single: a `MultiHeadOutput` with `num_heads=1`.
            head_weights: array (K,).
        """
        for source, target in zip(self.conv.weights, single.conv.weights):
            values = ops.convert_to_numpy(source).astype("float64")
            values = values.reshape(values.shape[:-1] + (self.num_heads, -1))
            target.assign(np.tensordot(values, head_weights, axes=(-2, 0)))

    def compute_output_shape(self, features_shape, image_shape):
        return (image_shape[0], self.num_heads, *image_shape[1:])

    def get_config(self):
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "channels": self.channels,
            "kernel_size": self.kernel_size,
        }
