"""Data: image files, folders of pairs, and blur synthesis."""

from keras_mhdeblur.data.folders import list_images, paired_folder, synthesized_folder
from keras_mhdeblur.data.images import ImageFileError, read_image, write_image
from keras_mhdeblur.data.synthesis import synthesize_motion_blur

__all__ = [
    "ImageFileError",
    "list_images",
    "paired_folder",
    "read_image",
    "synthesize_motion_blur",
    "synthesized_folder",
    "write_image",
]
