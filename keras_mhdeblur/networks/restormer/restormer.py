"""Restormer with a multi-head output."""

from collections.abc import Sequence
from typing import Literal

import keras
from keras import layers

from keras_mhdeblur.layers import (
    MultiHeadOutput,
    PadToMultiple,
    PixelShuffle,
    PixelUnshuffle,
)
from keras_mhdeblur.networks.base import (
    RestorationNetwork,
    crop_size,
    layer_factory,
    local_window,
)
from keras_mhdeblur.networks.restormer.blocks import TransformerBlock
from keras_mhdeblur.utils.types import CropSize


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class Restormer(RestorationNetwork):
    """Restormer (arXiv 2111.09881) whose last convolution emits K head images.

    A U-Net of `TransformerBlock`s with concatenated skips, and refinement blocks at
    full resolution after it. Input: blurry images (B, H, W, C), float in [0, 1], any
    H and W, also unknown ones: the network pads by reflection at the bottom and the
    right to its multiple and crops back. Output: head images (B, K, H, W, C), not
    clipped; each contains the input (residual output).

    Args:
        width: channels after the first convolution, an even number; they double at
            each level.
        num_blocks: blocks per level, highest resolution first; the decoder has as many
            as the encoder.
        num_refinement_blocks: blocks after the decoder.
        attention_heads: attention heads per level; not the heads of the output.
        ffn_expansion: hidden channels of the feed-forwards per channel.
        use_bias: whether convolutions have biases; the first one and those that change
            the resolution have none.
        norm: "with_bias" or "bias_free", see `TransformerBlock`.
        num_heads: number of heads K; 1 is the published single-output network.
        image_channels: C.
        tlc_train_size: None, or the size in pixels (one number or height and width)
            of the crops the network was trained on: attention then runs in windows of
            1.5 times that size, `attention_window`, instead of over the whole image
            (TLC, see `TransposedAttention`). Meant for inference; weights do not
            change.

    Example:

    ```python
    network = Restormer(width=16, num_heads=4)
    heads = network(blurry)  # (B, 4, H, W, 3)
    ```
    """

    def __init__(
        self,
        width: int = 48,
        num_blocks: Sequence[int] = (4, 6, 6, 8),
        num_refinement_blocks: int = 4,
        attention_heads: Sequence[int] = (1, 2, 4, 8),
        ffn_expansion: float = 2.66,
        use_bias: bool = False,
        norm: Literal["with_bias", "bias_free"] = "with_bias",
        num_heads: int = 4,
        image_channels: int = 3,
        tlc_train_size: CropSize = None,
        *,
        _share_layers_of: RestorationNetwork | None = None,
        name: str | None = None,
        trainable: bool = True,
    ) -> None:
        tlc_train_size = crop_size(tlc_train_size)
        num_blocks, attention_heads = tuple(num_blocks), tuple(attention_heads)
        if width % 2:
            raise ValueError(f"`width` must be even. Received: width={width}")
        if not num_blocks or len(num_blocks) != len(attention_heads):
            raise ValueError(
                "`num_blocks` and `attention_heads` must have the same length, at "
                "least 1. "
                f"Received: num_blocks={num_blocks}, attention_heads={attention_heads}"
            )
        lowest = len(num_blocks) - 1
        multiple = 2**lowest
        windows: list[tuple[int, ...] | None] = [None] * len(num_blocks)
        if tlc_train_size is not None:
            # Those of higher levels are made of the lowest one's, so that windows of
            # all levels begin at the same places of the image.
            window = local_window(tlc_train_size, lowest, multiple)
            windows = [
                tuple(size << lowest - level for size in window)
                for level in range(len(num_blocks))
            ]

        # === Layers ===
        layer = layer_factory(_share_layers_of)

        def conv(x, channels, kernel_size, name, use_bias=False):
            arguments = {"padding": "same", "use_bias": use_bias, "name": name}
            return layer(layers.Conv2D, channels, kernel_size, **arguments)(x)

        def blocks(x, count, level, prefix):
            heads = attention_heads[level]
            arguments = (x.shape[-1], heads, ffn_expansion, use_bias, norm)
            for index in range(count):
                name = f"{prefix}_block_{index}"
                block = layer(TransformerBlock, *arguments, name=name)
                x = block(x, window_size=windows[level])
            return x

        # === Functional model ===
        image = layers.Input((None, None, image_channels), name="image")
        x = layer(PadToMultiple, multiple, "reflect", name="pad")(image)
        x = conv(x, width, 3, "intro")
        skips = []
        for level in range(lowest):
            x = blocks(x, num_blocks[level], level, f"encoder_{level}")
            skips.append(x)
            x = conv(x, x.shape[-1] // 2, 3, f"down_{level}")
            x = layer(PixelUnshuffle, 2, name=f"down_{level}_unshuffle")(x)
        x = blocks(x, num_blocks[lowest], lowest, "latent")
        for level in reversed(range(lowest)):
            x = conv(x, 2 * x.shape[-1], 3, f"up_{level}")
            x = layer(PixelShuffle, 2, name=f"up_{level}_shuffle")(x)
            x = layer(layers.Concatenate, name=f"skip_{level}")([x, skips[level]])
            if level:
                x = conv(x, x.shape[-1] // 2, 1, f"merge_{level}", use_bias)
            x = blocks(x, num_blocks[level], level, f"decoder_{level}")
        x = blocks(x, num_refinement_blocks, 0, "refinement")
        heads = layer(
            MultiHeadOutput, num_heads, image_channels, use_bias=use_bias, name="heads"
        )
        super().__init__(
            image,
            heads(x, image),
            head_inputs=(x, image),
            name=name,
            trainable=trainable,
        )

        # === Config ===
        self.width = width
        self.num_blocks = num_blocks
        self.num_refinement_blocks = num_refinement_blocks
        self.attention_heads = attention_heads
        self.ffn_expansion = ffn_expansion
        self.use_bias = use_bias
        self.norm = norm
        self.num_heads = num_heads
        self.image_channels = image_channels
        self.tlc_train_size = tlc_train_size
        self.attention_window = windows[0]

    def get_config(self):
        return {
            **super().get_config(),
            "width": self.width,
            "num_blocks": self.num_blocks,
            "num_refinement_blocks": self.num_refinement_blocks,
            "attention_heads": self.attention_heads,
            "ffn_expansion": self.ffn_expansion,
            "use_bias": self.use_bias,
            "norm": self.norm,
            "num_heads": self.num_heads,
            "image_channels": self.image_channels,
            "tlc_train_size": self.tlc_train_size,
        }
