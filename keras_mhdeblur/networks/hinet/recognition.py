"""HINet's arguments from the official names and shapes."""

from keras_mhdeblur.networks.recognition_tools import count_modules, head_arguments
from keras_mhdeblur.networks.registry import Detection


def hinet_arguments(shapes):
    """Constructor arguments of `HINet`.

    Args:
        shapes: dictionary of official names to shapes; the anchors are there.

    Raises:
        ValueError: the last convolution makes no whole images.
    """
    width, image_channels = shapes["conv_01.weight"][:2]
    depth = count_modules(shapes, "down_path_1.")
    normalized = [
        level for level in range(depth) if f"down_path_1.{level}.norm.weight" in shapes
    ]
    return {
        "width": width,
        "depth": depth,
        "hin_start": min(normalized, default=depth),
        "hin_end": max(normalized, default=depth),
        **head_arguments(shapes, "last.weight", image_channels),
    }


def hinet_widest(width, depth, **_):
    """Name and leading sizes of the largest weight of a HINet of these arguments."""
    widest = width << max(1, depth - 1)
    return {"up_path_1.0.up.weight": (widest, widest // 2)}


DETECTION = Detection(
    modules="conv_0[12]|(down|up)_path_[12]|skip_conv_[12]|sam12|cat12|last",
    anchors={"conv_01.weight": 4, "last.weight": 4},
    arguments=hinet_arguments,
    widest=hinet_widest,
    assumed={"relu_slope": 0.2, "tlc_train_size": None},
)
