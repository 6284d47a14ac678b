"""Layers that two or more networks share."""

from keras_mhdeblur.layers.channel_attention import ChannelAttention
from keras_mhdeblur.layers.channel_normalization import ChannelNormalization
from keras_mhdeblur.layers.conv_transpose import Conv2DTranspose
from keras_mhdeblur.layers.cropping import CropStack
from keras_mhdeblur.layers.heads import HeadCombination, MultiHeadOutput
from keras_mhdeblur.layers.pooling import average_pool
from keras_mhdeblur.layers.resampling import (
    BilinearDownsampling2D,
    BilinearUpsampling2D,
    bilinear_downsample,
)
from keras_mhdeblur.layers.spatial import PadToMultiple, PixelShuffle, PixelUnshuffle
from keras_mhdeblur.layers.supervised_attention import SupervisedAttention

__all__ = [
    "BilinearDownsampling2D",
    "BilinearUpsampling2D",
    "ChannelAttention",
    "ChannelNormalization",
    "Conv2DTranspose",
    "CropStack",
    "HeadCombination",
    "MultiHeadOutput",
    "PadToMultiple",
    "PixelShuffle",
    "PixelUnshuffle",
    "SupervisedAttention",
    "average_pool",
    "bilinear_downsample",
]
