"""From a photo to its restoration: selection, uncertainty, tiling."""

from keras_mhdeblur.inference.restoring import RestoreResult, restore

__all__ = ["RestoreResult", "restore"]
