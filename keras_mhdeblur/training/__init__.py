"""Training: optimizers and schedules; `recipes` and `tensorflow_trainer` use them."""

from keras_mhdeblur.training.optimizers import TorchAdamW
from keras_mhdeblur.training.schedules import WarmupHoldCosine

__all__ = ["TorchAdamW", "WarmupHoldCosine"]
