"""Weights of the official PyTorch networks in these networks."""

from keras_mhdeblur.convert.state_dict import load_torch_state_dict

__all__ = ["load_torch_state_dict"]
