"""The parts of XYDeblur: its block, its rotation, and its output of two directions."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mhdeblur.layers.heads import (
    as_stack,
    conv_regressors,
    copy_head_conv,
    fold_conv,
    head_conv,
)
from keras_mhdeblur.layers.static_shapes import crop
from keras_mhdeblur.utils.types import Tensor


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class ResidualBlock(keras.layers.Layer):
    """x + conv(relu(conv(x))) with 3x3 convolutions.

    Input and output: (B, H, W, C). Source: XYDeblur (Ji et al., CVPR 2022).
    """

    def build(self, input_shape):
        conv = {"padding": "same", "dtype": self.dtype_policy}
        channels = input_shape[-1]
        self.conv1 = keras.layers.Conv2D(
            channels, 3, activation="relu", name="conv1", **conv
        )
        self.conv2 = keras.layers.Conv2D(channels, 3, name="conv2", **conv)
        self.conv1.build(input_shape)
        self.conv2.build(input_shape)

    def call(self, x):
        return x + self.conv2(self.conv1(x))

    def compute_output_shape(self, input_shape):
        return input_shape


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class Rotate90(keras.layers.Layer):
    """Turns images by 90 degrees counter-clockwise: (B, H, W, C) to (B, W, H, C)."""

    def call(self, x):
        return ops.flip(_transposed(x), axis=1)

    def compute_output_shape(self, input_shape):
        batch, height, width, channels = input_shape
        return (batch, width, height, channels)


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class AxisHeadOutput(keras.layers.Layer):
    """The head images of a decoder that ran on upright and on rotated features.

    One convolution predicts K residuals of either: r1_i and, turned back, r2_j. It
    computes in float32 under every dtype policy.

    Call arguments:
        features: (B, H', W', F) with H' >= H and W' >= W: what was padded at the bottom
            and the right is cropped away.
        rotated: (B, W', H', F), turned by `Rotate90`.
        image: (B, H, W, C), the blurry input x.

    Output: (B, 2K, H, W, C): x + 2 r1_i, then x + 2 r2_j, so that x + r1_i + r2_j is
    the average of two head images.

    Args:
        num_heads: number of heads K.
        channels: image channels C.
    """

    def __init__(self, num_heads: int, channels: int = 3, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        if num_heads < 1:
            raise ValueError(
                f"`num_heads` must be at least 1. Received: num_heads={num_heads}"
            )
        self.num_heads = num_heads
        self.channels = channels
        self.conv = head_conv(num_heads * channels, 3, name="conv")

    def build(self, features_shape, rotated_shape, image_shape):
        self.conv.build(features_shape)

    def call(self, features, rotated, image):
        residuals = ops.concatenate(
            [self.conv(features), _rotated_back(self.conv(rotated))], axis=-1
        )
        return ops.expand_dims(image, 1) + 2 * as_stack(residuals, image)

    def single_head(self) -> "FoldedAxisOutput":
        """A layer of one image, for `fold_into`."""
        return FoldedAxisOutput(self.channels, name=self.name)

    def fold_into(self, single: "FoldedAxisOutput", head_weights: np.ndarray) -> None:
        """Sets a built `single_head` layer to the weighted mean of these heads.

        Args:
            single: the layer of one image.
            head_weights: array (2K,).
        """
        halves = np.split(2 * np.asarray(head_weights), 2)
        for conv, weights in zip((single.conv1, single.conv2), halves):
            fold_conv(self.conv, conv, weights)

    @property
    def image_weights(self) -> np.ndarray:
        """Weights of kernels in head images, (2K, V, K); two views V."""
        return 2 * np.eye(2 * self.num_heads).reshape(-1, 2, self.num_heads)

    def regressors(
        self, features: Tensor, rotated: Tensor, image: Tensor
    ) -> list[Tensor]:
        """Regressors of the residuals, as in `MultiHeadOutput`.

        Args:
            features, rotated, image: call arguments, not symbolic.

        Returns:
            List of two views, float32 (B, H, W, P): of the features, and of the rotated
            ones, turned back.
        """
        views = [
            conv_regressors(self.conv, features),
            _rotated_back(conv_regressors(self.conv, rotated)),
        ]
        return [crop(view, image, axis=1) for view in views]

    def copy_single_head(self, single: "AxisHeadOutput") -> None:
        """Makes all heads copies of the only one of a layer."""
        copy_head_conv(single.conv, self.conv, self.num_heads)

    def compute_output_shape(self, features_shape, rotated_shape, image_shape):
        return (image_shape[0], 2 * self.num_heads, *image_shape[1:])

    def get_config(self):
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "channels": self.channels,
        }


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class FoldedAxisOutput(keras.layers.Layer):
    """A weighted mean of the images of an `AxisHeadOutput`, at the cost of one head.

    Call arguments as there. Output: (B, 1, H, W, C).

    Args:
        channels: image channels C.
    """

    def __init__(self, channels: int = 3, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.channels = channels
        self.conv1 = head_conv(channels, 3, name="conv1")
        self.conv2 = head_conv(channels, 3, name="conv2")

    def build(self, features_shape, rotated_shape, image_shape):
        self.conv1.build(features_shape)
        self.conv2.build(rotated_shape)

    def call(self, features, rotated, image):
        residual = self.conv1(features) + _rotated_back(self.conv2(rotated))
        return ops.expand_dims(image + crop(residual, image, axis=1), 1)

    def compute_output_shape(self, features_shape, rotated_shape, image_shape):
        return (image_shape[0], 1, *image_shape[1:])

    def get_config(self):
        return {**super().get_config(), "channels": self.channels}


def _transposed(x):
    return ops.transpose(x, (0, 2, 1, 3))


def _rotated_back(x):
    return ops.flip(_transposed(x), axis=2)
