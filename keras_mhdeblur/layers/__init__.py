"""Layers that the networks share."""

from keras_mhdeblur.layers.axes import AxisHeadOutput, ResidualBlock, Rotate90
from keras_mhdeblur.layers.channel_attention import (
    ChannelAttention,
    ChannelAttentionBlock,
    OriginalResolutionBlock,
    SharedSlope,
)
from keras_mhdeblur.layers.channel_normalization import ChannelNormalization
from keras_mhdeblur.layers.conv_transpose import Conv2DTranspose
from keras_mhdeblur.layers.cropping import CropStack
from keras_mhdeblur.layers.gates import SimpleGate
from keras_mhdeblur.layers.halves import JoinHalves, SplitHalves
from keras_mhdeblur.layers.heads import HeadCombination, MultiHeadOutput
from keras_mhdeblur.layers.hinblock import HINBlock
from keras_mhdeblur.layers.instancenorm import HalfInstanceNormalization
from keras_mhdeblur.layers.nafblock import NAFBlock
from keras_mhdeblur.layers.pooling import LocalAveragePooling2D
from keras_mhdeblur.layers.resampling import (
    BilinearDownsampling2D,
    BilinearUpsampling2D,
    bilinear_downsample,
)
from keras_mhdeblur.layers.spatial import PadToMultiple, PixelShuffle, PixelUnshuffle
from keras_mhdeblur.layers.supervised_attention import SupervisedAttention
from keras_mhdeblur.layers.transformer import (
    GatedFeedForward,
    SplitProjection,
    TransformerBlock,
    TransposedAttention,
)

__all__ = [
    "AxisHeadOutput",
    "BilinearDownsampling2D",
    "BilinearUpsampling2D",
    "ChannelAttention",
    "ChannelAttentionBlock",
    "ChannelNormalization",
    "Conv2DTranspose",
    "CropStack",
    "GatedFeedForward",
    "HINBlock",
    "HalfInstanceNormalization",
    "HeadCombination",
    "JoinHalves",
    "LocalAveragePooling2D",
    "MultiHeadOutput",
    "NAFBlock",
    "OriginalResolutionBlock",
    "PadToMultiple",
    "PixelShuffle",
    "PixelUnshuffle",
    "ResidualBlock",
    "Rotate90",
    "SharedSlope",
    "SimpleGate",
    "SplitHalves",
    "SplitProjection",
    "SupervisedAttention",
    "TransformerBlock",
    "TransposedAttention",
    "bilinear_downsample",
]
