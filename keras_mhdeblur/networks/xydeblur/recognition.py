"""XYDeblur's arguments from the official names and shapes."""

from keras_mhdeblur.networks.recognition_tools import count_modules, head_arguments
from keras_mhdeblur.networks.registry import Detection


def xydeblur_arguments(shapes):
    """Constructor arguments of `XYDeblur`.

    Args:
        shapes: dictionary of official names to shapes; the anchors are there.

    Raises:
        ValueError: the last convolution makes no whole images.
    """
    width, image_channels = shapes["Encoder1.layers.0.main.0.weight"][:2]
    return {
        "width": width,
        # The first of the layers is a convolution.
        "num_res_blocks": count_modules(shapes, "Encoder1.layers.") - 1,
        **head_arguments(shapes, "Decoder1_4.main.0.weight", image_channels),
    }


def xydeblur_widest(width, **_):
    """Name and leading sizes of the largest weight of an XYDeblur of this width."""
    return {"Convs1_1.main.0.weight": (2 * width, 4 * width)}


DETECTION = Detection(
    modules="Encoder[123]|Decoder1_[1234]|Convs1_[12]",
    anchors={"Encoder1.layers.0.main.0.weight": 4, "Decoder1_4.main.0.weight": 4},
    arguments=xydeblur_arguments,
    widest=xydeblur_widest,
)
