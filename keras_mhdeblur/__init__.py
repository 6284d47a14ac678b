"""Deblurring with several hypotheses: a Keras 3 model zoo."""

from keras_mhdeblur import (
    convert,
    data,
    inference,
    layers,
    losses,
    metrics,
    networks,
    presets,
    training,
)
from keras_mhdeblur.deblurrer import Deblurrer
from keras_mhdeblur.presets import from_preset, list_presets, upload_preset

__version__ = "0.1.0"

__all__ = [
    "Deblurrer",
    "convert",
    "data",
    "from_preset",
    "inference",
    "layers",
    "list_presets",
    "losses",
    "metrics",
    "networks",
    "presets",
    "training",
    "upload_preset",
]
