"""Losses of one image, and of hypotheses."""

from keras_mhdeblur.losses.assignment import target_weights
from keras_mhdeblur.losses.hypothesis_loss import HypothesisLoss
from keras_mhdeblur.losses.image_losses import (
    CharbonnierLoss,
    CombinedLoss,
    EdgeLoss,
    FrequencyLoss,
    ImageLoss,
    L1Loss,
    MSELoss,
    PSNRLoss,
    SquaredErrorLoss,
)

__all__ = [
    "CharbonnierLoss",
    "CombinedLoss",
    "EdgeLoss",
    "FrequencyLoss",
    "HypothesisLoss",
    "ImageLoss",
    "L1Loss",
    "MSELoss",
    "PSNRLoss",
    "SquaredErrorLoss",
    "target_weights",
]
