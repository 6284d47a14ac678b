"""HINet with a multi-head output."""

import keras
from keras import layers

from keras_mhdeblur.layers import (
    Conv2DTranspose,
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
from keras_mhdeblur.networks.hinet.block import HINBlock
from keras_mhdeblur.utils.types import CropSize


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class HINet(RestorationNetwork):
    """HINet (arXiv 2105.06086) whose two stages emit K head images each.

    Two U-Nets of `HINBlock`s with concatenated skips. Stage 2 sees the image, stage
    1's last features through a `SupervisedAttention`, and at every encoder level
    stage 1's features of that level. Input: blurry images (B, H, W, C), float in
    [0, 1], any H and W, also unknown ones: the network pads by reflection at the
    bottom and the right to its multiple and crops back. Output: [stage 2, stage 1],
    head images (B, K, H, W, C), not clipped; each contains the input (residual
    output).

    Args:
        width: channels after the first convolution; they double at each level.
        depth: number of levels; the image is halved depth - 1 times.
        hin_start, hin_end: first and last encoder level, from 0, whose blocks half
            instance normalize.
        relu_slope: slope of the leaky ReLUs below zero.
        num_heads: number of heads K; 1 is the published single-output network.
        image_channels: C.
        tlc_train_size: None, or the size in pixels (one number or height and width)
            of the crops the network was trained on: the normalization then uses
            statistics of windows of 1.5 times that size instead of those of the whole
            image (TLC, see `HalfInstanceNormalization`). Meant for inference; weights
            do not change.

    Example:

    ```python
    network = HINet(width=16, num_heads=4)
    heads, stage_1_heads = network(blurry)  # (B, 4, H, W, 3) each
    ```
    """

    def __init__(
        self,
        width: int = 64,
        depth: int = 5,
        hin_start: int = 3,
        hin_end: int = 4,
        relu_slope: float = 0.2,
        num_heads: int = 4,
        image_channels: int = 3,
        tlc_train_size: CropSize = None,
        *,
        _share_layers_of: RestorationNetwork | None = None,
        name: str | None = None,
        trainable: bool = True,
    ) -> None:
        tlc_train_size = crop_size(tlc_train_size)
        if depth < 2:
            raise ValueError(f"`depth` must be at least 2. Received: depth={depth}")
        multiple = 2 ** (depth - 1)
        windows = [
            local_window(tlc_train_size, level, multiple) for level in range(depth)
        ]

        # === Layers ===
        layer = layer_factory(_share_layers_of)

        def conv3(x, channels, name):
            return layer(layers.Conv2D, channels, 3, padding="same", name=name)(x)

        def heads(x, image, name):
            return layer(MultiHeadOutput, num_heads, image_channels, name=name)(
                x, image
            )

        def encoder(x, prefix, fused=None):
            """Features of all levels; `fused` are features of another stage to add."""
            features = []
            for level in range(depth):
                name = f"{prefix}_encoder_{level}"
                channels = width * 2**level
                normalize = hin_start <= level <= hin_end
                block = layer(HINBlock, channels, normalize, relu_slope, name=name)
                x = block(x, window_size=windows[level])
                if level < depth - 1:
                    if fused is not None:
                        terms = [
                            conv3(y, channels, f"{name}_from_{part}")
                            for part, y in zip(("encoder", "decoder"), fused[level])
                        ]
                        x = layer(layers.Add, name=f"{name}_fuse")([x, *terms])
                    features.append(x)
                    # The levels' sizes are even, so "same" pads by one on all sides.
                    x = layer(
                        layers.Conv2D,
                        channels,
                        4,
                        strides=2,
                        padding="same",
                        use_bias=False,
                        name=f"{prefix}_down_{level}",
                    )(x)
            return [*features, x]

        def decoder(features, prefix):
            """Features of all levels but the lowest, in the order of the encoder's."""
            x, outputs = features[-1], []
            for level in reversed(range(depth - 1)):
                channels = width * 2**level
                up = layer(Conv2DTranspose, channels, 2, name=f"{prefix}_up_{level}")
                skip = conv3(features[level], channels, f"{prefix}_skip_{level}")
                concat = layer(layers.Concatenate, name=f"{prefix}_concat_{level}")
                name = f"{prefix}_decoder_{level}"
                block = layer(HINBlock, channels, False, relu_slope, name=name)
                x = block(concat([up(x), skip]))
                outputs.insert(0, x)
            return outputs

        # === Functional model ===
        image = layers.Input((None, None, image_channels), name="image")
        padded = layer(PadToMultiple, multiple, "reflect", name="pad")(image)

        encoder_1 = encoder(conv3(padded, width, "stage_1_intro"), "stage_1")
        decoder_1 = decoder(encoder_1, "stage_1")
        x = decoder_1[0]
        # Padded, as the attention needs them; cropped, they are an output.
        stack = heads(x, padded, "stage_1_heads")
        x = layer(SupervisedAttention, name="stage_1_attention")(x, stack)
        stage_1 = layer(CropStack, name="stage_1_crop")(stack, image)

        intro = conv3(padded, width, "stage_2_intro")
        x = layer(layers.Concatenate, name="stage_2_concat")([intro, x])
        x = layer(layers.Conv2D, width, 1, name="stage_2_merge")(x)
        fused = list(zip(encoder_1, decoder_1))
        encoder_2 = encoder(x, "stage_2", fused)
        x = decoder(encoder_2, "stage_2")[0]
        stage_2 = heads(x, image, "heads")
        super().__init__(
            image,
            [stage_2, stage_1],
            head_inputs=(x, image),
            name=name,
            trainable=trainable,
        )

        # === Config ===
        self.width = width
        self.depth = depth
        self.hin_start = hin_start
        self.hin_end = hin_end
        self.relu_slope = relu_slope
        self.num_heads = num_heads
        self.image_channels = image_channels
        self.tlc_train_size = tlc_train_size

    def get_config(self):
        return {
            **super().get_config(),
            "width": self.width,
            "depth": self.depth,
            "hin_start": self.hin_start,
            "hin_end": self.hin_end,
            "relu_slope": self.relu_slope,
            "num_heads": self.num_heads,
            "image_channels": self.image_channels,
            "tlc_train_size": self.tlc_train_size,
        }
