"""Training: what recipes are made of; `recipes` and `runs` use it."""

from keras_mhdeblur.training.adaptive import fit_adaptive_weights
from keras_mhdeblur.training.dead_heads import DeadHeadReset
from keras_mhdeblur.training.optimizers import Muon, TorchAdamW
from keras_mhdeblur.training.schedules import WarmupHoldCosine

__all__ = [
    "DeadHeadReset",
    "Muon",
    "TorchAdamW",
    "WarmupHoldCosine",
    "fit_adaptive_weights",
]
