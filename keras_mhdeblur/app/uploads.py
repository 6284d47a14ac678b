"""Photos that people upload: their size before they are decoded, and refusals."""

import math
import warnings
from pathlib import Path

from PIL import Image

from keras_mhdeblur.photos import ImageFileError, read_image
from keras_mhdeblur.photos.formats import FORMATS


class RefusedError(Exception):
    """A photo that the page does not take; the message is one sentence for a person.

    Attributes:
        reason: the sentence without the photo's name.

    Args:
        reason: the sentence.
        path: of the photo, or None where it is about none.
    """

    def __init__(self, reason, path=None):
        self.reason = reason
        super().__init__(reason if path is None else f"{Path(path).name}: {reason}")


def size_of(path, max_megapixels):
    """Width and height of a photo, out of its header.

    Args:
        path: path of the file.
        max_megapixels: the most that it may have.

    Raises:
        RefusedError: if it has more, or is no photo.
    """
    Image.init()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            formats = [kind for kind in FORMATS if kind in Image.OPEN]
            with Image.open(path, formats=formats) as image:
                width, height = image.size
    except Image.DecompressionBombError:
        raise _too_large(path, max_megapixels) from None
    except Exception:  # decoders raise nearly anything on broken headers
        read_photo(path)  # says why
        raise RefusedError("it is broken.", path) from None
    if width * height > max_megapixels * 10**6:
        raise _too_large(path, max_megapixels, width * height)
    return width, height


def read_photo(path):
    """A photo in a file; `RefusedError` where there is none in it."""
    try:
        return read_image(path)
    except ImageFileError as error:
        raise RefusedError(f"{error.reason.rstrip('.')}.", path) from None


def _too_large(path, max_megapixels, pixels=None):
    number = (
        "too many" if pixels is None else f"{math.ceil(pixels / 1e4) / 100:g} million"
    )
    return RefusedError(
        f"it has {number} pixels; this page takes up to {max_megapixels} megapixels.",
        path,
    )
