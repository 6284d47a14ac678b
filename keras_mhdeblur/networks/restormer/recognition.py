"""Restormer's arguments from the official names and shapes."""

import math

from keras_mhdeblur.networks.recognition_tools import count_modules, head_arguments
from keras_mhdeblur.networks.registry import Detection

_LEVELS = ("encoder_level1", "encoder_level2", "encoder_level3", "latent")


def restormer_arguments(shapes):
    """Constructor arguments of `Restormer`.

    Args:
        shapes: dictionary of official names to shapes; the anchors are there.

    Raises:
        ValueError: the levels expand their channels by several factors, or the last
            convolution makes no whole images.
    """
    width, image_channels = shapes["patch_embed.proj.weight"][:2]
    hidden = {
        shapes[f"{level}.0.ffn.project_out.weight"][0]: shapes[
            f"{level}.0.ffn.project_out.weight"
        ][1]
        for level in _LEVELS
    }
    with_bias = "encoder_level1.0.norm1.body.bias" in shapes
    return {
        "width": width,
        "num_blocks": tuple(count_modules(shapes, f"{name}.") for name in _LEVELS),
        "num_refinement_blocks": count_modules(shapes, "refinement."),
        "attention_heads": tuple(
            shapes[f"{level}.0.attn.temperature"][0] for level in _LEVELS
        ),
        "ffn_expansion": _expansion(hidden),
        "use_bias": "output.bias" in shapes,
        "norm": "with_bias" if with_bias else "bias_free",
        **head_arguments(shapes, "output.weight", image_channels),
    }


def restormer_widest(width, ffn_expansion, **_):
    """Names and leading sizes of the largest weights of these arguments."""
    widest = 8 * width
    return {
        "up4_3.body.0.weight": (2 * widest, widest),
        "latent.0.ffn.project_out.weight": (widest, int(widest * ffn_expansion)),
    }


def _expansion(hidden):
    """The factor, rounded down in every layer, from channels to hidden channels."""
    low = max(n / channels for channels, n in hidden.items())
    high = min((n + 1) / channels for channels, n in hidden.items())
    candidates = [2.66, *(math.ceil(low * 10**n) / 10**n for n in range(9))]
    for factor in candidates:
        if low <= factor < high and all(
            int(channels * factor) == n for channels, n in hidden.items()
        ):
            return factor
    raise ValueError(
        "ffn.project_out must expand all levels by one factor. Received: channels "
        f"and hidden channels={hidden}"
    )


DETECTION = Detection(
    modules="patch_embed|(en|de)coder_level[123]|latent|refinement|output"
    "|down(1_2|2_3|3_4)|up(4_3|3_2|2_1)|reduce_chan_level[23]",
    anchors={
        "patch_embed.proj.weight": 4,
        "output.weight": 4,
        **{f"{level}.0.attn.temperature": 3 for level in _LEVELS},
        **{f"{level}.0.ffn.project_out.weight": 4 for level in _LEVELS},
    },
    arguments=restormer_arguments,
    widest=restormer_widest,
    assumed={"tlc_train_size": None},
)
