"""Scores of a model on pairs of blurry and sharp images, by named protocols."""

from keras_mhdeblur.evaluation.protocols import PLAIN, Protocol, get_protocol
from keras_mhdeblur.evaluation.scoring import evaluate

__all__ = ["PLAIN", "Protocol", "evaluate", "get_protocol"]
