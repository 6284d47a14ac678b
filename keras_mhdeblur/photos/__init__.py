"""Photos in and out, without loss; needs neither Keras nor TensorFlow."""

from keras_mhdeblur.photos.clip import write_clip
from keras_mhdeblur.photos.photo import Photo
from keras_mhdeblur.photos.reading import (
    ImageFileError,
    photos_of,
    pixel_limit,
    read_image,
)
from keras_mhdeblur.photos.writing import check_format, format_of_name, write_image

__all__ = [
    "ImageFileError",
    "Photo",
    "check_format",
    "format_of_name",
    "photos_of",
    "pixel_limit",
    "read_image",
    "write_clip",
    "write_image",
]
