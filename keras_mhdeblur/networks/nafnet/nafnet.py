"""NAFNet with a multi-head output."""

from collections.abc import Sequence

import keras
from keras import layers

from keras_mhdeblur.layers import MultiHeadOutput, PadToMultiple, PixelShuffle
from keras_mhdeblur.networks.base import (
    RestorationNetwork,
    crop_size,
    layer_factory,
    local_window,
)
from keras_mhdeblur.networks.nafnet.block import NAFBlock
from keras_mhdeblur.utils.types import CropSize


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class NAFNet(RestorationNetwork):
    """NAFNet (arXiv 2204.04676) whose last convolution emits K head images.

    A U-Net of `NAFBlock`s with additive skips. Input: blurry images (B, H, W, C),
    float in [0, 1], any H and W, also unknown ones: the network pads with zeros at
    the bottom and the right to its multiple and crops back. Output: head images
    (B, K, H, W, C), not clipped; each contains the input (residual output).

    Args:
        width: channels after the first convolution; they double at each level.
        encoder_blocks: blocks per encoder level; its length is the number of levels.
        middle_blocks: blocks at the lowest level.
        decoder_blocks: blocks per decoder level, lowest level first.
        num_heads: number of heads K; 1 is the published single-output network.
        image_channels: C.
        tlc_train_size: None, or the size in pixels (one number or height and width)
            of the crops the network was trained on: channel attention then pools over
            windows of 1.5 times that size instead of over the whole image (TLC, see
            `layers.average_pool`). Meant for inference; weights do not change.

    Example:

    ```python
    network = NAFNet(width=16, num_heads=4)
    heads = network(blurry)  # (B, 4, H, W, 3)
    ```
    """

    def __init__(
        self,
        width: int = 32,
        encoder_blocks: Sequence[int] = (1, 1, 1, 28),
        middle_blocks: int = 1,
        decoder_blocks: Sequence[int] = (1, 1, 1, 1),
        num_heads: int = 4,
        image_channels: int = 3,
        tlc_train_size: CropSize = None,
        *,
        _share_layers_of: RestorationNetwork | None = None,
        name: str | None = None,
        trainable: bool = True,
    ) -> None:
        tlc_train_size = crop_size(tlc_train_size)
        encoder_blocks, decoder_blocks = tuple(encoder_blocks), tuple(decoder_blocks)
        if len(encoder_blocks) != len(decoder_blocks):
            raise ValueError(
                "`encoder_blocks` and `decoder_blocks` must have the same length. "
                f"Received: encoder_blocks={encoder_blocks}, "
                f"decoder_blocks={decoder_blocks}"
            )
        levels = len(encoder_blocks)
        multiple = 2**levels
        windows = [
            local_window(tlc_train_size, level, multiple) for level in range(levels + 1)
        ]

        # === Layers ===
        layer = layer_factory(_share_layers_of)

        def blocks(x, count, level, prefix):
            for index in range(count):
                block = layer(NAFBlock, x.shape[-1], name=f"{prefix}_block_{index}")
                x = block(x, window_size=windows[level])
            return x

        # === Functional model ===
        image = layers.Input((None, None, image_channels), name="image")
        x = layer(PadToMultiple, multiple, name="pad")(image)
        x = layer(layers.Conv2D, width, 3, padding="same", name="intro")(x)
        skips = []
        for level, count in enumerate(encoder_blocks):
            x = blocks(x, count, level, f"encoder_{level}")
            skips.append(x)
            down = layer(
                layers.Conv2D, 2 * x.shape[-1], 2, strides=2, name=f"down_{level}"
            )
            x = down(x)
        x = blocks(x, middle_blocks, levels, "middle")
        for index, count in enumerate(decoder_blocks):
            level = levels - 1 - index
            up = layer(
                layers.Conv2D, 2 * x.shape[-1], 1, use_bias=False, name=f"up_{index}"
            )
            x = layer(PixelShuffle, 2, name=f"up_{index}_shuffle")(up(x))
            x = layer(layers.Add, name=f"skip_{index}")([x, skips[level]])
            x = blocks(x, count, level, f"decoder_{index}")
        heads = layer(MultiHeadOutput, num_heads, image_channels, name="heads")
        super().__init__(
            image,
            heads(x, image),
            head_inputs=(x, image),
            name=name,
            trainable=trainable,
        )

        # === Config ===
        self.width = width
        self.encoder_blocks = encoder_blocks
        self.middle_blocks = middle_blocks
        self.decoder_blocks = decoder_blocks
        self.num_heads = num_heads
        self.image_channels = image_channels
        self.tlc_train_size = tlc_train_size

    def get_config(self):
        return {
            **super().get_config(),
            "width": self.width,
            "encoder_blocks": self.encoder_blocks,
            "middle_blocks": self.middle_blocks,
            "decoder_blocks": self.decoder_blocks,
            "num_heads": self.num_heads,
            "image_channels": self.image_channels,
            "tlc_train_size": self.tlc_train_size,
        }
