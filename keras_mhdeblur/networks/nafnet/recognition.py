"""NAFNet's arguments from the official names and shapes."""

from keras_mhdeblur.networks.recognition_tools import count_modules, head_arguments
from keras_mhdeblur.networks.registry import Detection


def nafnet_arguments(shapes):
    """Constructor arguments of `NAFNet`.

    Args:
        shapes: dictionary of official names to shapes; the anchors are there.

    Raises:
        ValueError: the last convolution makes no whole images.
    """
    width, image_channels = shapes["intro.weight"][:2]
    levels = range(count_modules(shapes, "downs."))

    def blocks(part):
        return tuple(count_modules(shapes, f"{part}.{level}.") for level in levels)

    return {
        "width": width,
        "encoder_blocks": tuple(
            count_modules(shapes, f"encoders.{i}.") for i in levels
        ),
        "middle_blocks": count_modules(shapes, "middle_blks."),
        "decoder_blocks": tuple(
            count_modules(shapes, f"decoders.{i}.") for i in levels
        ),
        **head_arguments(shapes, "ending.weight", image_channels),
    }


def nafnet_widest(width, encoder_blocks, **_):
    """Name and leading sizes of the largest weight of a NAFNet of these arguments."""
    levels = len(encoder_blocks)
    widest = width << levels
    return {f"downs.{max(0, levels - 1)}.weight": (widest, widest // 2)}


DETECTION = Detection(
    modules="intro|ending|encoders|decoders|middle_blks|ups|downs",
    anchors={"intro.weight": 4, "ending.weight": 4},
    arguments=nafnet_arguments,
    widest=nafnet_widest,
    assumed={"tlc_train_size": None},
)
