"""Restormer, arXiv 2111.09881."""

from keras_mhdeblur.networks.restormer.blocks import (
    GatedFeedForward,
    SplitProjection,
    TransformerBlock,
    TransposedAttention,
)
from keras_mhdeblur.networks.restormer.restormer import Restormer

__all__ = [
    "GatedFeedForward",
    "Restormer",
    "SplitProjection",
    "TransformerBlock",
    "TransposedAttention",
]
