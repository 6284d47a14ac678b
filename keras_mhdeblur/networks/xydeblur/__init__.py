"""XYDeblur, CVPR 2022."""

from keras_mhdeblur.networks.xydeblur.layers import (
    AxisHeadOutput,
    ResidualBlock,
    Rotate90,
)
from keras_mhdeblur.networks.xydeblur.xydeblur import XYDeblur

__all__ = [
    "AxisHeadOutput",
    "ResidualBlock",
    "Rotate90",
    "XYDeblur",
]
