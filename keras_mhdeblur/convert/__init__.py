"""Converts official checkpoints, of PyTorch and Flax, to presets."""

from keras_mhdeblur.convert.conversion import from_checkpoint, from_torch_checkpoint
from keras_mhdeblur.convert.pickled_tensors import CheckpointError
from keras_mhdeblur.convert.state_dict import (
    load_official_weights,
    load_torch_state_dict,
)

__all__ = [
    "CheckpointError",
    "from_checkpoint",
    "from_torch_checkpoint",
    "load_official_weights",
    "load_torch_state_dict",
]
