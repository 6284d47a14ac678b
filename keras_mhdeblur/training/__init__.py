"""Training: what recipes are made of; `recipes` and `runs` use it."""

from keras_mhdeblur.training.adaptive import fit_adaptive_weights
from keras_mhdeblur.training.fit_heads import fit_heads
from keras_mhdeblur.training.head_statistics import HeadStatistics, head_statistics
from keras_mhdeblur.training.optimizers import Muon, TorchAdamW
from keras_mhdeblur.training.schedules import WarmupHoldCosine

__all__ = [
    "HeadStatistics",
    "Muon",
    "TorchAdamW",
    "WarmupHoldCosine",
    "fit_adaptive_weights",
    "fit_heads",
    "head_statistics",
]
