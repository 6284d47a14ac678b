"""XYDeblur: one encoder, one decoder used twice, with a multi-head output."""

from typing import Self

import keras
from keras import layers

from keras_mhdeblur.layers import Conv2DTranspose, PadToMultiple
from keras_mhdeblur.networks.base import RestorationNetwork
from keras_mhdeblur.networks.xydeblur.layers import (
    AxisHeadOutput,
    ResidualBlock,
    Rotate90,
)
from keras_mhdeblur.utils.types import CropSize

LEVELS = 3


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class XYDeblur(RestorationNetwork):
    """XYDeblur (Ji et al., CVPR 2022) whose decoder emits K residuals per direction.

    One decoder runs on the encoder's features and, with the same weights, on the
    features turned by 90 degrees: the two residuals r1 and r2 take up blur in one
    direction and in the other, and the published network returns x + r1 + r2. Here the
    decoder has K heads, and x + r1_i + r2_j is a hypothesis for any two: K^2 of them.

    Input: blurry images (B, H, W, C), float in [0, 1], any H and W, also unknown ones:
    the network pads with zeros at the bottom and the right to a multiple of 4 and crops
    back. Output: head images (B, 2K, H, W, C), not clipped: x + 2 r1_i, then
    x + 2 r2_j, so that a hypothesis is the average of one of either kind
    (`layers.HeadCombination("axes")`).

    Args:
        width: channels after the first convolution; they double at both lower levels.
        num_res_blocks: residual blocks per level, in the encoder and in the decoder.
        num_heads: number of heads K; 1 is the published network.
        image_channels: C.
    """

    combination = "axes"

    def __init__(
        self,
        width: int = 32,
        num_res_blocks: int = 6,
        num_heads: int = 4,
        image_channels: int = 3,
        *,
        name: str | None = None,
        trainable: bool = True,
    ) -> None:
        # === Layers ===
        relu = {"activation": "relu"}

        def blocks(prefix):
            return [
                ResidualBlock(name=f"{prefix}_block_{index}")
                for index in range(num_res_blocks)
            ]

        encoder = [[layers.Conv2D(width, 3, padding="same", name="intro", **relu)]]
        ups, merges = {}, {}
        for level in range(1, LEVELS):
            # Keras' own padding of strided convolutions is not symmetric.
            pad = layers.ZeroPadding2D(1, name=f"down_{level}_pad")
            down = layers.Conv2D(
                width << level, 3, strides=2, name=f"down_{level}", **relu
            )
            encoder.append([pad, down])
            ups[level] = Conv2DTranspose(
                width << level - 1, 4, name=f"up_{level}", **relu
            )
            merges[level] = layers.Conv2D(
                width << level - 1, 1, name=f"merge_{level}", **relu
            )
        for level in range(LEVELS):
            encoder[level] += blocks(f"encoder_{level}")
        decoder = [blocks(f"decoder_{level}") for level in range(LEVELS)]
        rotate = Rotate90(name="rotate")
        heads = AxisHeadOutput(num_heads, image_channels, name="heads")

        # === Functional model ===
        def decode(features):
            x = features[-1]
            for level in reversed(range(LEVELS)):
                for block in decoder[level]:
                    x = block(x)
                if level:
                    x = layers.concatenate([ups[level](x), features[level - 1]])
                    x = merges[level](x)
            return x

        image = layers.Input((None, None, image_channels), name="image")
        x = PadToMultiple(2 ** (LEVELS - 1), name="pad")(image)
        features = []
        for group in encoder:
            for layer in group:
                x = layer(x)
            features.append(x)
        head_inputs = decode(features), decode([rotate(x) for x in features]), image
        super().__init__(
            image,
            heads(*head_inputs),
            head_inputs=head_inputs,
            name=name,
            trainable=trainable,
        )

        # === Config ===
        self.width = width
        self.num_res_blocks = num_res_blocks
        self.num_heads = num_heads
        self.image_channels = image_channels

    @property
    def num_head_images(self) -> int:
        return 2 * self.num_heads

    def with_local_statistics(self, train_size: CropSize = 256) -> Self:
        """This network: it has no statistics that TLC could make local."""
        return self

    def get_config(self):
        return {
            **super().get_config(),
            "width": self.width,
            "num_res_blocks": self.num_res_blocks,
            "num_heads": self.num_heads,
            "image_channels": self.image_channels,
        }
