"""NAFNet, arXiv 2204.04676."""

from keras_mhdeblur.networks.nafnet.block import NAFBlock
from keras_mhdeblur.networks.nafnet.nafnet import NAFNet

__all__ = [
    "NAFBlock",
    "NAFNet",
]
