"""The fully convolutional U-Net that predicts images and noise."""

import keras
from keras import layers

from keras_mhdeblur.diffusion.layers import ImageOutput, NoiseEmbedding, UNetBlock
from keras_mhdeblur.layers import PadToMultiple

LEVELS = 4
_BLOCKS = 3


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class UNet(keras.Model):
    """The U-Net of DvSR (arXiv 2112.02475): predictor of images, or denoiser.

    It has no attention and no normalization, so that it works on images of any size:
    it mirrors them at the bottom and the right to multiples of 8, and crops back. Its
    four levels have 1, 2, 3 and 4 times `base` channels.

    As a predictor (`noise_input=False`) it is a functional model from images
    (B, H, W, C), float in [0, 1], to images, not clipped. As a denoiser it goes from a
    list of the blurry image and the noisy one, (B, H, W, C) both and in [-1, 1] but for
    the noise, and of noise levels (B,) as in `NoiseSchedule`, to the noise
    (B, H, W, C). A guided one has the three features of a `StructureGuidance` as
    further inputs.

    The paper's predictor has `base=64` and 26.24 million parameters, its denoiser
    `base=32` and 6.67 million.

    Args:
        base: channels of the first level, an even number.
        image_channels: C.
        noise_input: whether it is a denoiser.
        guided: whether it has guidance features as inputs (arXiv 2212.01789).

    Raises:
        ValueError: `base` is not a positive even number.
    """

    def __init__(
        self,
        base: int = 64,
        image_channels: int = 3,
        noise_input: bool = False,
        guided: bool = False,
        *,
        name: str | None = None,
        trainable: bool = True,
    ) -> None:
        if base < 2 or base % 2:
            raise ValueError(
                f"`base` must be a positive even number. Received: base={base}"
            )
        # === Layers ===
        # One for both images, as it has no weights.
        pad = PadToMultiple(2 ** (LEVELS - 1), mode="reflect", name="pad")

        # === Functional model ===
        image = layers.Input((None, None, image_channels), name="image")
        inputs, noise, structures = [image], {}, {}
        x = pad(image)
        if noise_input:
            noisy = layers.Input((None, None, image_channels), name="noisy")
            level = layers.Input((), name="noise_level")
            inputs += [noisy, level]
            x = layers.concatenate([x, pad(noisy)])
            noise["noise"] = NoiseEmbedding(base, name="noise_embedding")(level)
        if guided:
            for depth, channels in enumerate(guidance_channels(base), 1):
                structures[depth] = layers.Input(
                    (None, None, channels), name=f"structure_{depth}"
                )
            inputs += structures.values()
        x = layers.Conv2D(base, 3, padding="same", name="intro")(x)
        skips = [x]
        for level in range(LEVELS):
            extra = {**noise}
            if level in structures:
                extra["structure"] = structures[level]
            for index in range(_BLOCKS):
                block = UNetBlock(base * (level + 1), name=f"encoder_{level}_{index}")
                x = block(x, **extra)
                skips.append(x)
            if level < LEVELS - 1:
                down = UNetBlock(base * (level + 1), "down", name=f"down_{level}")
                x = down(x, **noise)
                skips.append(x)
        for index in range(2):
            x = UNetBlock(base * LEVELS, name=f"middle_{index}")(x, **noise)
        for level in reversed(range(LEVELS)):
            for index in range(_BLOCKS + 1):
                block = UNetBlock(base * (level + 1), name=f"decoder_{level}_{index}")
                x = block(layers.concatenate([x, skips.pop()]), **noise)
            if level:
                up = UNetBlock(base * (level + 1), "up", name=f"up_{level}")
                x = up(x, **noise)
        super().__init__(
            inputs if len(inputs) > 1 else image,
            ImageOutput(name="output")(x, image),
            name=name,
        )
        if not trainable:
            self.trainable = False

        # === Config ===
        self.base = base
        self.image_channels = image_channels
        self.noise_input = noise_input
        self.guided = guided

    @property
    def peak_bytes_per_pixel(self) -> float:
        """See `networks.registry.peak_bytes_per_pixel`; measured on a CPU."""
        return 250 + 47 * self.base

    def get_config(self):
        return {
            "name": self.name,
            "trainable": self.trainable,
            "base": self.base,
            "image_channels": self.image_channels,
            "noise_input": self.noise_input,
            "guided": self.guided,
        }


def guidance_channels(base: int) -> tuple[int, ...]:
    """Channels of the guidance features of a `UNet`, those of its lower levels."""
    return tuple(base * (level + 1) for level in range(1, LEVELS))
