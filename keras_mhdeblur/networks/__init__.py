"""Restoration networks: images in, head stacks out."""

from keras_mhdeblur.networks.nafnet import NAFNet

__all__ = ["NAFNet"]
