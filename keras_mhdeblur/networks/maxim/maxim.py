"""MAXIM with a multi-head output."""

import math
from collections.abc import Sequence
from typing import Self

import keras
from keras import layers

from keras_mhdeblur.layers import CropStack, MultiHeadOutput, SupervisedAttention
from keras_mhdeblur.layers.spatial import PadCentered
from keras_mhdeblur.networks.base import RestorationNetwork, layer_factory
from keras_mhdeblur.networks.maxim.blocks import Bottleneck, CrossGating, UNetBlock
from keras_mhdeblur.utils.types import CropSize, Tensor

LEVELS = 3


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class MAXIM(RestorationNetwork):
    """MAXIM (arXiv 2201.02973) whose stages emit K head images each.

    Up to three U-Nets of `UNetBlock`s, one after the other. Their blocks mix the
    pixels of blocks and of a grid over the whole image; skips are gated by what lies
    below them (`CrossGating`). Every stage sees the image at three resolutions, and
    from the second stage on the features of the stage before, through
    `SupervisedAttention`s, at the same three.

    Input: blurry images (B, H, W, C), float in [0, 1], any H and W, also unknown
    ones: the network pads by reflection at all sides to a multiple of 64 and crops
    back, as the official code does. Output: head images (B, K, H, W, C), not clipped;
    each contains the input (residual output). With several stages a list of them,
    final stage first.

    The grid spans the image, so the result at a place depends on the whole image.
    There are no local statistics (TLC); larger photos are restored in tiles of
    `tile_size`, about the size of the training crops, whatever the memory.

    Args:
        width: channels of the first level; they double at both lower levels. 32 in the
            published networks S-1 to S-3.
        stages: number of stages, 1 to 3. The network ends after that many: with the
            weights of a network of more stages, the image of an inner stage.
        num_groups: pairs of blocks in each encoder, decoder and bottleneck block.
        num_bottlenecks: bottleneck blocks of each stage.
        sides: side of the blocks and of the grid at each level, see `TokenMixing`.
        bottleneck_side: that of the bottleneck.
        reduction: see `ChannelAttention`.
        scale_outputs: whether the images at half and at a quarter of the resolution
            are outputs too, for training (`losses.HypothesisLoss` compares them with
            the reduced label); they follow those at full resolution, each final stage
            first. H and W must be multiples of 64 then.
        num_heads: number of heads K; 1 is the published single-output network.
        image_channels: C.

    Raises:
        ValueError: an argument is out of its range.

    Example:

    ```python
    network = MAXIM(stages=2, num_heads=4)
    heads, stage_1_heads = network(blurry)  # (B, 4, H, W, 3) each
    ```
    """

    tile_size = 512

    def __init__(
        self,
        width: int = 32,
        stages: int = 3,
        num_groups: int = 2,
        num_bottlenecks: int = 2,
        sides: Sequence[int] = (16, 16, 8),
        bottleneck_side: int = 8,
        reduction: int = 4,
        scale_outputs: bool = False,
        num_heads: int = 4,
        image_channels: int = 3,
        *,
        _share_layers_of: RestorationNetwork | None = None,
        name: str | None = None,
        trainable: bool = True,
    ) -> None:
        sides = tuple(sides)
        if stages not in (1, 2, 3):
            raise ValueError(f"`stages` must be 1, 2 or 3. Received: stages={stages}")
        if len(sides) != LEVELS:
            raise ValueError(
                f"`sides` must be {LEVELS} numbers, one per level. "
                f"Received: sides={sides}"
            )
        widths = [width << level for level in range(LEVELS)]

        # === Layers ===
        layer = layer_factory(_share_layers_of)

        def conv(x, channels, kernel_size, strides, name):
            return layer(
                layers.Conv2D,
                channels,
                kernel_size,
                strides,
                padding="same",
                kernel_initializer="lecun_normal",
                name=name,
            )(x)

        def heads(x, image, name):
            return layer(
                MultiHeadOutput, num_heads, image_channels, centered=True, name=name
            )(x, image)

        def unet_block(level, name, **options):
            return layer(
                UNetBlock,
                widths[level],
                sides[level],
                num_groups,
                reduction,
                name=name,
                **options,
            )

        def cross_gating(level, name, **options):
            return layer(CrossGating, widths[level], sides[level], name=name, **options)

        def inputs(prefix, supervised):
            """Features of the images, fused with those of the stage before."""
            features = []
            for level, image in enumerate(images):
                x = conv(image, widths[level], 3, 1, f"{prefix}_input_{level}")
                if supervised is not None:
                    fusion = cross_gating(level, f"{prefix}_input_fusion_{level}")
                    x, _ = fusion(x, supervised[level])
                features.append(x)
            return features

        def encode(prefix, features, gates):
            """Features of all levels, and those below the lowest."""
            x, encoded = None, []
            for level, skip in enumerate(features):
                gate = {} if gates is None else {"gate": gates[level]}
                encoder = unet_block(
                    level, f"{prefix}_encoder_{level}", gated=gates is not None
                )
                # At the first level what comes from above is the skip itself.
                x = encoder(skip, **gate) if x is None else encoder(x, skip, **gate)
                encoded.append(x)
                x = conv(x, widths[level], 4, 2, f"{prefix}_down_{level}")
            return encoded, x

        def gate_skips(prefix, encoded, y):
            gated = []
            for level in reversed(range(LEVELS)):
                ratios = [2.0 ** (other - level) for other in range(LEVELS)]
                gating = cross_gating(
                    level, f"{prefix}_skip_{level}", up=True, ratios=ratios
                )
                x, y = gating(encoded, y)
                gated.append(x)
            return gated  # lowest level first

        def decode(prefix, gated, x):
            decoded = []
            for level in reversed(range(LEVELS)):
                ratios = [2.0 ** (other - level) for other in reversed(range(LEVELS))]
                decoder = unet_block(
                    level, f"{prefix}_decoder_{level}", up=True, ratios=ratios
                )
                x = decoder(x, gated)
                decoded.insert(0, x)
            return decoded

        # === Functional model ===
        image = layers.Input((None, None, image_channels), name="image")
        pad = layer(PadCentered, multiple_of(sides, bottleneck_side), name="pad")
        crop = layer(CropStack, centered=True, name="crop")
        padded = pad(image)
        # Of each cell the pixel behind its middle.
        images = [padded, padded[:, 1::2, 1::2], padded[:, 2::4, 2::4]]
        supervised = gates = None
        outputs: list[list[Tensor]] = [[] for _ in range(LEVELS)]
        for stage in range(stages):
            prefix, last = f"stage_{stage}", stage == stages - 1
            encoded, x = encode(prefix, inputs(prefix, supervised), gates)
            for index in range(num_bottlenecks):
                bottleneck = layer(
                    Bottleneck,
                    widths[-1],
                    bottleneck_side,
                    num_groups,
                    reduction,
                    name=f"{prefix}_bottleneck_{index}",
                )
                x = bottleneck(x)
            decoded = decode(prefix, gate_skips(prefix, encoded, x), x)
            # The first is cropped by the heads where nothing else needs it padded.
            targets = [image if last else padded, *images[1:]]
            wanted = 1 if last and not scale_outputs else LEVELS
            stacks = [
                heads(x, target, f"{prefix}_heads_{level}")
                for level, (x, target) in enumerate(zip(decoded, targets))
                if level < wanted
            ]
            for level, stack in enumerate(stacks):
                outputs[level].insert(0, stack)
            if not last:
                outputs[0][0] = crop(stacks[0], image)
                supervised = [
                    layer(SupervisedAttention, name=f"{prefix}_attention_{level}")(
                        x, stack
                    )
                    for level, (x, stack) in enumerate(zip(decoded, stacks))
                ]
                gates = [e + d for e, d in zip(encoded, decoded)]
        outputs = sum(outputs if scale_outputs else outputs[:1], [])
        super().__init__(
            image,
            outputs if len(outputs) > 1 else outputs[0],
            head_inputs=(decoded[0], image),
            head_layer=f"{prefix}_heads_0",
            name=name,
            trainable=trainable,
        )

        # XLA compiles so many operators for minutes, anew for every image size; on a
        # CPU they are no faster then. `compile(jit_compile=True)` still does it.
        if keras.backend.backend() == "tensorflow":
            self.supports_jit = False

        # === Config ===
        self.width = width
        self.stages = stages
        self.num_groups = num_groups
        self.num_bottlenecks = num_bottlenecks
        self.sides = sides
        self.bottleneck_side = bottleneck_side
        self.reduction = reduction
        self.scale_outputs = scale_outputs
        self.num_heads = num_heads
        self.image_channels = image_channels

    @property
    def peak_bytes_per_pixel(self) -> float:
        """Estimate of the memory that inference takes, in bytes per pixel."""
        return (1600 + 1200 * self.stages) * self.width / 32

    def with_stages(self, stages: int) -> Self:
        """The same network ending after fewer stages, sharing these weights.

        Args:
            stages: number of stages, at most those of this network.

        Returns:
            A `MAXIM` whose layers are layers of this one.

        Raises:
            ValueError: this network has fewer stages.
        """
        if stages > self.stages:
            raise ValueError(
                f"This network has {self.stages} stages. Received: stages={stages}"
            )
        if stages == self.stages:
            return self
        config = {**self.get_config(), "stages": stages}
        return type(self)(**config, _share_layers_of=self)

    def with_local_statistics(self, train_size: CropSize = 256) -> Self:
        """This network, for `train_size=None`: the grid spans the image (no TLC).

        Raises:
            ValueError: `train_size` is a size.
        """
        if train_size is None:
            return self
        raise ValueError(
            "MAXIM mixes the pixels of a grid over the whole image and has no local "
            f"statistics. Received: tlc_train_size={train_size}"
        )

    def get_config(self):
        return {
            **super().get_config(),
            "width": self.width,
            "stages": self.stages,
            "num_groups": self.num_groups,
            "num_bottlenecks": self.num_bottlenecks,
            "sides": self.sides,
            "bottleneck_side": self.bottleneck_side,
            "reduction": self.reduction,
            "scale_outputs": self.scale_outputs,
            "num_heads": self.num_heads,
            "image_channels": self.image_channels,
        }


def multiple_of(sides, bottleneck_side):
    """The multiple of heights and widths into which grids and blocks fit."""
    return math.lcm(
        *(side << level for level, side in enumerate(sides)), bottleneck_side << LEVELS
    )
