"""Presets: a model's configuration, weights, licence and scores in one folder."""

from keras_mhdeblur.presets.files import PresetError, update_metadata
from keras_mhdeblur.presets.hub import upload_preset
from keras_mhdeblur.presets.loading import from_preset
from keras_mhdeblur.presets.saving import save_to_preset
from keras_mhdeblur.presets.zoo import list_presets

__all__ = [
    "PresetError",
    "from_preset",
    "list_presets",
    "save_to_preset",
    "update_metadata",
    "upload_preset",
]
