"""MAXIM: multi-axis perceptrons in up to three stages."""

from keras_mhdeblur.networks.maxim.maxim import MAXIM

__all__ = ["MAXIM"]
