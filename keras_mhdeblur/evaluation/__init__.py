"""Scores of a model on pairs of blurry and sharp images, by named protocols."""

from keras_mhdeblur.evaluation.evaluate import evaluate
from keras_mhdeblur.evaluation.protocols import PLAIN, Protocol, get_protocol

__all__ = ["PLAIN", "Protocol", "evaluate", "get_protocol"]
