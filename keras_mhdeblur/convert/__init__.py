"""Weights of the official PyTorch networks in these networks."""

from keras_mhdeblur.convert.conversion import from_torch_checkpoint
from keras_mhdeblur.convert.pickled_tensors import CheckpointError
from keras_mhdeblur.convert.state_dict import load_torch_state_dict

__all__ = ["CheckpointError", "from_torch_checkpoint", "load_torch_state_dict"]
