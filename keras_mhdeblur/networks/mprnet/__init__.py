"""MPRNet, arXiv 2102.02808."""

from keras_mhdeblur.networks.mprnet.blocks import (
    ChannelAttentionBlock,
    OriginalResolutionBlock,
    SharedSlope,
)
from keras_mhdeblur.networks.mprnet.halves import JoinHalves, SplitHalves
from keras_mhdeblur.networks.mprnet.mprnet import MPRNet

__all__ = [
    "ChannelAttentionBlock",
    "JoinHalves",
    "MPRNet",
    "OriginalResolutionBlock",
    "SharedSlope",
    "SplitHalves",
]
