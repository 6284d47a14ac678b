"""Deblurring with several hypotheses: a Keras 3 model zoo."""

from keras_mhdeblur import data, layers, losses, metrics, networks, training
from keras_mhdeblur.deblurrer import Deblurrer

__version__ = "0.1.0"

__all__ = [
    "Deblurrer",
    "data",
    "layers",
    "losses",
    "metrics",
    "networks",
    "training",
]
