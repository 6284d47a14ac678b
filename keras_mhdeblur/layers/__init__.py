"""Layers that the networks share."""

from keras_mhdeblur.layers.gates import SimpleGate
from keras_mhdeblur.layers.heads import HeadCombination, MultiHeadOutput, pair_indices
from keras_mhdeblur.layers.nafblock import NAFBlock
from keras_mhdeblur.layers.pooling import LocalAveragePooling2D
from keras_mhdeblur.layers.spatial import PadToMultiple, PixelShuffle

__all__ = [
    "HeadCombination",
    "LocalAveragePooling2D",
    "MultiHeadOutput",
    "NAFBlock",
    "PadToMultiple",
    "PixelShuffle",
    "SimpleGate",
    "pair_indices",
]
