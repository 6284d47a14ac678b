"""MPRNet's arguments from the official names and shapes."""

from keras_mhdeblur.networks.recognition_tools import count_modules, head_arguments
from keras_mhdeblur.networks.registry import Detection

_SQUEEZES = (
    "shallow_feat1.1",
    "stage1_encoder.encoder_level2.0",
    "stage1_encoder.encoder_level3.0",
    "stage3_orsnet.orb1.body.0",
)


def mprnet_arguments(shapes):
    """Constructor arguments of `MPRNet`.

    Args:
        shapes: dictionary of official names to shapes; the anchors are there.

    Raises:
        ValueError: the blocks reduce their channels by several divisors, or the last
            convolution makes no whole images.
    """
    width, image_channels = shapes["shallow_feat1.0.weight"][:2]
    squeezes = [shapes[f"{name}.CA.conv_du.0.weight"][:2] for name in _SQUEEZES]
    return {
        "width": width,
        "unet_step": shapes["stage1_encoder.down12.down.1.weight"][0] - width,
        "orsnet_step": shapes["tail.weight"][1] - width,
        # The last of the body is a convolution.
        "num_cab": count_modules(shapes, "stage3_orsnet.orb1.body.") - 1,
        "reduction": _reduction(squeezes),
        "use_bias": "tail.bias" in shapes,
        **head_arguments(shapes, "tail.weight", image_channels),
    }


def mprnet_widest(width, unet_step, orsnet_step, **_):
    """Names and leading sizes of the largest weights of these arguments."""
    middle = width + unet_step
    return {
        "stage1_encoder.down23.down.1.weight": (middle + unet_step, middle),
        "concat23.weight": (width + orsnet_step, 2 * width),
    }


def _reduction(squeezes):
    """The divisor, rounded down in every layer, from channels to those between."""
    for divisor in (4, *range(1, 1 + max(channels for _, channels in squeezes))):
        if all(channels // divisor == between for between, channels in squeezes):
            return divisor
    raise ValueError(
        "CA.conv_du.0 must reduce the channels of all blocks by one divisor. Received: "
        f"reduced channels and channels={squeezes}"
    )


DETECTION = Detection(
    modules="shallow_feat[123]|stage[12]_(en|de)coder|stage3_orsnet|sam12|sam23"
    "|concat12|concat23|tail",
    anchors={
        "shallow_feat1.0.weight": 4,
        "stage1_encoder.down12.down.1.weight": 4,
        "tail.weight": 4,
        **{f"{name}.CA.conv_du.0.weight": 4 for name in _SQUEEZES},
    },
    arguments=mprnet_arguments,
    widest=mprnet_widest,
    assumed={"tlc_train_size": None},
)
