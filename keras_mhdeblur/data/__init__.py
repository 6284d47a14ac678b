"""Data: folders of pairs, and blur synthesis."""

from keras_mhdeblur.data.folders import list_images, paired_folder, synthesized_folder
from keras_mhdeblur.data.synthesis import synthesize_motion_blur

__all__ = [
    "list_images",
    "paired_folder",
    "synthesize_motion_blur",
    "synthesized_folder",
]
