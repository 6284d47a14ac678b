"""Presets: a model's configuration, weights, licence and scores in one folder."""

from keras_mhdeblur.presets.files import PresetError, set_calibration, update_metadata
from keras_mhdeblur.presets.publishing import upload_preset
from keras_mhdeblur.presets.zoo import find_preset, list_presets

__all__ = [
    "PresetError",
    "find_preset",
    "list_presets",
    "set_calibration",
    "update_metadata",
    "upload_preset",
]
