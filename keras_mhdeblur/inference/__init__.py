"""From a photo to its restoration: selection, uncertainty, tiling; and scores."""

from keras_mhdeblur.inference.evaluate import evaluate
from keras_mhdeblur.inference.protocols import PLAIN, Protocol, get_protocol
from keras_mhdeblur.inference.restore import RestoreResult, restore

__all__ = [
    "PLAIN",
    "Protocol",
    "RestoreResult",
    "evaluate",
    "get_protocol",
    "restore",
]
