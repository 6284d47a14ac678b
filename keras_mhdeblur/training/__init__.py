"""Training: optimizers and the TensorFlow training step."""

from keras_mhdeblur.training.optimizers import TorchAdamW

__all__ = ["TorchAdamW"]
