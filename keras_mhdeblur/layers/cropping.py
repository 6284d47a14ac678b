"""Cropping of padding."""

from typing import Any

import keras

from keras_mhdeblur.layers.static_shapes import crop


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class CropStack(keras.layers.Layer):
    """Crops a stack of images to the size of an image.

    It computes in float32 under every dtype policy: images go through it.

    Call arguments:
        stack: (B, K, H', W', C) with H' >= H and W' >= W.
        image: (B, H, W, C).

    Output: (B, K, H, W, C).

    Args:
        centered: see `static_shapes.crop`.
    """

    def __init__(self, centered: bool = False, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.centered = centered

    def call(self, stack, image):
        return crop(stack, image, axis=2, centered=self.centered)

    def compute_output_shape(self, stack_shape, image_shape):
        return (*stack_shape[:2], *image_shape[1:3], stack_shape[4])

    def get_config(self):
        return {**super().get_config(), "centered": self.centered}
