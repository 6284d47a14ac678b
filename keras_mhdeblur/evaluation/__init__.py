"""Scores of a model on pairs of blurry and sharp images, by named protocols."""

from keras_mhdeblur.evaluation.calibrating import calibrate, check_calibration
from keras_mhdeblur.evaluation.frame_coverage import coverage, eight_orientations
from keras_mhdeblur.evaluation.image_sets import ImageSet
from keras_mhdeblur.evaluation.protocols import PLAIN, Protocol, get_protocol
from keras_mhdeblur.evaluation.scoring import evaluate
from keras_mhdeblur.evaluation.set_scores import evaluate_set

__all__ = [
    "PLAIN",
    "ImageSet",
    "Protocol",
    "calibrate",
    "check_calibration",
    "coverage",
    "eight_orientations",
    "evaluate",
    "evaluate_set",
    "get_protocol",
]
