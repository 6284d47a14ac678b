"""Guidance of a denoiser by the structure of the blurry image."""

from collections.abc import Sequence

import keras
from keras import layers

from keras_mhdeblur.diffusion.layers import GrayPyramid, UNetBlock
from keras_mhdeblur.diffusion.unet import guidance_channels
from keras_mhdeblur.layers import PadToMultiple
from keras_mhdeblur.utils.types import Tensor


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class StructureGuidance(keras.Model):
    """Multiscale structure guidance (Ren et al., ICCV 2023, arXiv 2212.01789).

    The blurry image becomes gray and a half, a quarter and an eighth as large: colour
    and details of the blur, which differ between cameras, are gone. At each scale a
    network of its own learns to predict the sharp image, made gray and small likewise.
    Its last features guide the denoiser. They are the same in every step of sampling,
    so they are computed once per image.

    Input: blurry images (B, H, W, C) in [-1, 1], of any size. Output: list of three
    features (B, H'/s, W'/s, G) for s of 2, 4 and 8, then of the three predictions
    (B, H'/s, W'/s, 1); H' and W' are H and W as padded to multiples of 8. G is `base`
    times 2, 3 and 4.

    Args:
        base: `base` of the guided `UNet`.
        num_blocks: residual blocks per scale.
        image_channels: C.
    """

    def __init__(
        self,
        base: int = 32,
        num_blocks: int = 7,
        image_channels: int = 3,
        *,
        name: str | None = None,
        trainable: bool = True,
    ) -> None:
        # === Layers ===
        pad = PadToMultiple(8, mode="reflect", name="pad")
        pyramid = GrayPyramid(name="pyramid")

        # === Functional model ===
        image = layers.Input((None, None, image_channels), name="image")
        features, predictions = [], []
        for scale, x in enumerate(pyramid(pad(image)), 1):
            channels = guidance_channels(base)[scale - 1]
            x = layers.Conv2D(channels, 3, padding="same", name=f"intro_{scale}")(x)
            for index in range(num_blocks):
                x = UNetBlock(channels, name=f"block_{scale}_{index}")(x)
            features.append(x)
            output = layers.Conv2D(
                1, 3, padding="same", dtype="float32", name=f"output_{scale}"
            )
            predictions.append(output(x))
        super().__init__(image, features + predictions, name=name)
        if not trainable:
            self.trainable = False

        # === Config ===
        self.base = base
        self.num_blocks = num_blocks
        self.image_channels = image_channels

    def targets(self, sharp: Tensor) -> Sequence[Tensor]:
        """The sharp images (B, H, W, C) as the three predictions should show them."""
        return self.get_layer("pyramid")(self.get_layer("pad")(sharp))

    def get_config(self):
        return {
            "name": self.name,
            "trainable": self.trainable,
            "base": self.base,
            "num_blocks": self.num_blocks,
            "image_channels": self.image_channels,
        }
