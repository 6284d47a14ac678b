"""Attention that the images of a supervised stage steer."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mhdeblur.layers.static_shapes import reshape


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class SupervisedAttention(keras.layers.Layer):
    """Weights the features for the next stage by a mask from this stage's images.

    Features + convolution of the features * sigmoid(convolution of the K head
    images, not combined, side by side as K * C channels). The images are outputs
    with a loss of their own: they come from a `MultiHeadOutput` on the same features.
    Source: MPRNet, arXiv 2102.02808, figure 4 (1x1 convolutions); HINet, arXiv
    2105.06086, figure 2 (3x3); K images: arXiv 2208.13029.

    Call arguments:
        features: (B, H, W, F).
        stack: head images (B, K, H, W, C).

    Output: (B, H, W, F).

    Args:
        kernel_size: size of the convolution kernels.
        use_bias: whether the convolutions have a bias.
    """

    def __init__(
        self, kernel_size: int = 3, use_bias: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.kernel_size = kernel_size
        self.use_bias = use_bias

    def build(self, features_shape, stack_shape):
        conv, size = keras.layers.Conv2D, (features_shape[-1], self.kernel_size)
        common = {
            "padding": "same",
            "use_bias": self.use_bias,
            "dtype": self.dtype_policy,
        }
        self.conv = conv(*size, name="conv", **common)
        self.mask = conv(*size, activation="sigmoid", name="mask", **common)
        self.conv.build(features_shape)
        self.mask.build((None, None, None, stack_shape[1] * stack_shape[4]))

    def call(self, features, stack):
        height, width = ops.shape(stack)[2:4]
        images = ops.transpose(stack, (0, 2, 3, 1, 4))
        channels = stack.shape[1] * stack.shape[4]
        images = reshape(images, (-1, height, width, channels))
        return features + self.conv(features) * self.mask(images)

    def copy_single_head(self, single: "SupervisedAttention") -> None:
        """Makes this the attention of a stack of one head.

        The mask sees that head's image in the first of the stack's images.

        Args:
            single: a built layer like this one, for stacks of one head.
        """
        self.conv.set_weights(single.conv.get_weights())
        kernel, *bias = single.mask.get_weights()
        channels = self.mask.kernel.shape[2] - kernel.shape[2]
        padding = [(0, 0), (0, 0), (0, channels), (0, 0)]
        self.mask.set_weights([np.pad(kernel, padding), *bias])

    def compute_output_shape(self, features_shape, stack_shape):
        return features_shape

    def get_config(self):
        return {
            **super().get_config(),
            "kernel_size": self.kernel_size,
            "use_bias": self.use_bias,
        }
