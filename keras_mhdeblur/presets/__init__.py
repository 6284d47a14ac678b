"""Presets: a model's configuration, weights, licence and scores in one folder."""

import importlib

from keras_mhdeblur.presets.files import PresetError, update_metadata
from keras_mhdeblur.presets.hub import upload_preset
from keras_mhdeblur.presets.zoo import find_preset, list_presets

__all__ = [
    "PresetError",
    "find_preset",
    "from_preset",
    "list_presets",
    "save_to_preset",
    "update_metadata",
    "upload_preset",
]

_NEED_KERAS = {"from_preset": "loading", "save_to_preset": "saving"}


def __getattr__(name):
    # Imported when asked for: the command line lists presets, and restores with their
    # LiteRT files, without waiting for Keras.
    if name not in _NEED_KERAS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_NEED_KERAS[name]}"), name)
