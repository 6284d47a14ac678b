"""HINet, arXiv 2105.06086."""

from keras_mhdeblur.networks.hinet.block import HINBlock
from keras_mhdeblur.networks.hinet.half_instance_normalization import (
    HalfInstanceNormalization,
)
from keras_mhdeblur.networks.hinet.hinet import HINet

__all__ = [
    "HINBlock",
    "HINet",
    "HalfInstanceNormalization",
]
