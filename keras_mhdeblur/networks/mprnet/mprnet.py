"""MPRNet with a multi-head output."""

import keras
from keras import layers

from keras_mhdeblur.layers import (
    BilinearUpsampling2D,
    CropStack,
    MultiHeadOutput,
    PadToMultiple,
    SupervisedAttention,
)
from keras_mhdeblur.networks.base import (
    RestorationNetwork,
    crop_size,
    layer_factory,
    local_window,
)
from keras_mhdeblur.networks.mprnet.blocks import (
    ChannelAttentionBlock,
    OriginalResolutionBlock,
    SharedSlope,
)
from keras_mhdeblur.networks.mprnet.halves import JoinHalves, SplitHalves
from keras_mhdeblur.utils.types import CropSize

LEVELS = 3
# Half an image is halved twice.
MULTIPLE = 8


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class MPRNet(RestorationNetwork):
    """MPRNet (arXiv 2102.02808) whose three stages emit K head images each.

    Stages 1 and 2 are U-Nets of `ChannelAttentionBlock`s with additive skips. Stage
    1's encoder sees the image in four patches, its decoder and stage 2's encoder in
    two, an upper and a lower one; stage 2's decoder and stage 3, which stays at the
    original resolution, see it whole. Every later stage sees the image, the last
    features of the stage before through a `SupervisedAttention`, and that
    stage's features of all levels. All PReLUs have the same slope.

    Input: blurry images (B, H, W, C), float in [0, 1], any H and W, also unknown
    ones: the network pads by reflection at the bottom and the right to a multiple of
    8 and crops back. Output: [stage 3, stage 2, stage 1], head images (B, K, H, W,
    C), not clipped; each contains the input (residual output).

    Args:
        width: channels of the first level.
        unet_step: further channels of each lower level.
        orsnet_step: further channels of stage 3.
        num_cab: blocks in each of stage 3's three `OriginalResolutionBlock`s.
        reduction: see `ChannelAttention`.
        use_bias: whether convolutions have a bias; those that change the resolution,
            and the last of each `OriginalResolutionBlock`, never have one.
        num_heads: number of heads K; 1 is the published single-output network.
        image_channels: C.
        tlc_train_size: None, or the size in pixels (one number or height and width)
            of the crops the network was trained on: channel attention then pools over
            windows of 1.5 times what it saw then instead of over all it sees (TLC, see
            `layers.average_pool`), and no stage cuts the image into patches, so that
            a tile of an image is restored as the image is. Meant for inference;
            weights do not change.

    Example:

    ```python
    network = MPRNet(width=32, unet_step=16, orsnet_step=16, num_heads=4)
    heads, stage_2_heads, stage_1_heads = network(blurry)  # (B, 4, H, W, 3) each
    ```
    """

    def __init__(
        self,
        width: int = 96,
        unet_step: int = 48,
        orsnet_step: int = 32,
        num_cab: int = 8,
        reduction: int = 4,
        use_bias: bool = False,
        num_heads: int = 4,
        image_channels: int = 3,
        tlc_train_size: CropSize = None,
        *,
        _share_layers_of: RestorationNetwork | None = None,
        name: str | None = None,
        trainable: bool = True,
    ) -> None:
        tlc_train_size = crop_size(tlc_train_size)
        widths = [width + level * unet_step for level in range(LEVELS)]

        def window(level, cuts=(0, 0)):
            """Window at a level where height and width were cut in halves, or not."""
            if tlc_train_size is None:
                return None
            return tuple(
                local_window(tlc_train_size, level + cut, MULTIPLE)[axis]
                for axis, cut in enumerate(cuts)
            )

        # === Layers ===
        layer = layer_factory(_share_layers_of)
        add = layer(layers.Add, name="add")
        concat = layer(layers.Concatenate, name="concat")
        down = layer(layers.AveragePooling2D, 2, name="down")  # bilinear
        up = layer(BilinearUpsampling2D, name="up")
        split_rows, join_rows = SplitHalves(1), JoinHalves(1)
        split_columns, join_columns = SplitHalves(2), JoinHalves(2)
        if tlc_train_size is not None:
            # What happens at a place must not depend on where the image is cut.
            # Layers in their places, so that all others stay in their order.
            split_rows, join_rows, split_columns, join_columns = (
                layers.Identity() for _ in range(4)
            )
        pad = layer(PadToMultiple, MULTIPLE, "reflect", name="pad")
        crop = layer(CropStack, name="crop")

        def conv(x, channels, name, kernel_size=1, use_bias=use_bias):
            return layer(
                layers.Conv2D,
                channels,
                kernel_size,
                padding="same",
                use_bias=use_bias,
                name=name,
            )(x)

        def block(x, name, window_size):
            cab = layer(
                ChannelAttentionBlock, x.shape[-1], reduction, use_bias, name=name
            )
            return cab(x, slope, window_size=window_size)

        def heads(x, image, name, kernel_size):
            return layer(
                MultiHeadOutput,
                num_heads,
                image_channels,
                kernel_size,
                use_bias,
                name=name,
            )(x, image)

        def intro(image, stage, cuts=(0, 0)):
            x = conv(image, width, f"{stage}_intro", 3)
            return block(x, f"{stage}_intro_block", window(0, cuts))

        def encoder(x, stage, cuts, fused=None):
            """Features of all levels; `fused` are features of another stage to add."""
            features = []
            for level, channels in enumerate(widths):
                name = f"{stage}_encoder_{level}"
                if level:
                    x = conv(down(x), channels, f"{stage}_down_{level}", use_bias=False)
                for index in range(2):
                    x = block(x, f"{name}_block_{index}", window(level, cuts))
                if fused is not None:
                    terms = [
                        conv(y, channels, f"{name}_from_{part}")
                        for part, y in zip(("encoder", "decoder"), fused[level])
                    ]
                    x = add([x, *terms])
                features.append(x)
            return features

        def decoder(features, stage, cuts=(0, 0)):
            """Features of all levels, in the order of the encoder's."""
            outputs = []
            for level in reversed(range(LEVELS)):
                window_size, x = window(level, cuts), features[level]
                if outputs:
                    skip = block(x, f"{stage}_skip_{level}_block", window_size)
                    name = f"{stage}_up_{level}"
                    # Before the upsampling, with which it commutes, the 1x1
                    # convolution costs a quarter.
                    x = conv(outputs[0], widths[level], name, use_bias=False)
                    x = add([up(x), skip])
                for index in range(2):
                    name = f"{stage}_decoder_{level}_block_{index}"
                    x = block(x, name, window_size)
                outputs.insert(0, x)
            return outputs

        def supervise(x, stage):
            """Features for the next stage, and the head images of this one."""
            stack = heads(x, padded, f"{stage}_heads", 1)
            attention = layer(
                SupervisedAttention, 1, use_bias, name=f"{stage}_attention"
            )
            # Padded, as the attention needs them; cropped, they are an output.
            return attention(x, stack), crop(stack, image)

        # === Functional model ===
        image = layers.Input((None, None, image_channels), name="image")
        slope = layer(SharedSlope, name="slope")(image)
        padded = pad(image)
        halves = split_rows(padded)

        # Index 0 of the cuts: height, 1: width.
        encoder_1 = encoder(
            intro(split_columns(halves), "stage_1", (1, 1)), "stage_1", (1, 1)
        )
        encoder_1 = [join_columns(x) for x in encoder_1]
        decoder_1 = decoder(encoder_1, "stage_1", (1, 0))
        x, stage_1 = supervise(join_rows(decoder_1[0]), "stage_1")

        x = concat([intro(halves, "stage_2", (1, 0)), split_rows(x)])
        x = conv(x, width, "stage_2_merge", 3)
        fused = list(zip(encoder_1, decoder_1))
        encoder_2 = encoder(x, "stage_2", (1, 0), fused)
        encoder_2 = [join_rows(x) for x in encoder_2]
        decoder_2 = decoder(encoder_2, "stage_2")
        x, stage_2 = supervise(decoder_2[0], "stage_2")

        channels = width + orsnet_step
        x = conv(concat([intro(padded, "stage_3"), x]), channels, "stage_3_merge", 3)
        for level, both in enumerate(zip(encoder_2, decoder_2)):
            orb = layer(
                OriginalResolutionBlock,
                channels,
                num_cab,
                reduction,
                use_bias,
                name=f"stage_3_block_{level}",
            )
            x = orb(x, slope, window_size=window(0))
            terms = []
            for part, y in zip(("encoder", "decoder"), both):
                for index in range(level):
                    up_name = f"stage_3_{part}_{level}_up_{index}"
                    y = conv(y, widths[level - 1 - index], up_name, use_bias=False)
                terms.append(conv(y, channels, f"stage_3_from_{part}_{level}"))
            # Convolutions and the sum come before the upsampling, as above.
            y = add(terms)
            for _ in range(level):
                y = up(y)
            x = add([x, y])
        stage_3 = heads(x, image, "heads", 3)
        super().__init__(
            image,
            [stage_3, stage_2, stage_1],
            head_inputs=(x, image),
            name=name,
            trainable=trainable,
        )

        # === Config ===
        self.width = width
        self.unet_step = unet_step
        self.orsnet_step = orsnet_step
        self.num_cab = num_cab
        self.reduction = reduction
        self.use_bias = use_bias
        self.num_heads = num_heads
        self.image_channels = image_channels
        self.tlc_train_size = tlc_train_size

    def get_config(self):
        return {
            **super().get_config(),
            "width": self.width,
            "unet_step": self.unet_step,
            "orsnet_step": self.orsnet_step,
            "num_cab": self.num_cab,
            "reduction": self.reduction,
            "use_bias": self.use_bias,
            "num_heads": self.num_heads,
            "image_channels": self.image_channels,
            "tlc_train_size": self.tlc_train_size,
        }
