"""Photos that people upload: their size before they are decoded, and refusals."""

import warnings
from pathlib import Path

from PIL import Image

from keras_mhdeblur.photos import ImageFileError, read_image
from keras_mhdeblur.photos.formats import FORMATS


class RefusedError(Exception):
    """A photo that the page does not take; the message is one sentence for a person."""


def size_of(path, max_megapixels):
    """Width and height of a photo, out of its header.

    Args:
        path: path of the file.
        max_megapixels: the most that it may have.

    Raises:
        RefusedError: if it has more, or is no photo.
    """
    name = Path(path).name
    Image.init()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            formats = [kind for kind in FORMATS if kind in Image.OPEN]
            with Image.open(path, formats=formats) as image:
                width, height = image.size
    except Image.DecompressionBombError:
        raise RefusedError(_too_large(name, max_megapixels)) from None
    except Exception:  # decoders raise nearly anything on broken headers
        read_photo(path)  # says why
        raise RefusedError(f"{name}: it is broken.") from None
    if width * height > max_megapixels * 10**6:
        raise RefusedError(_too_large(name, max_megapixels, width * height))
    return width, height


def read_photo(path):
    """A photo in a file; `RefusedError` where there is none in it."""
    try:
        return read_image(path)
    except ImageFileError as error:
        name = Path(path).name
        raise RefusedError(f"{name}: {error.reason.rstrip('.')}.") from None


def _too_large(name, max_megapixels, pixels=None):
    number = "too many" if pixels is None else f"{pixels / 1e6:.0f} million"
    return (
        f"{name} has {number} pixels; this page takes photos of up to "
        f"{max_megapixels} megapixels."
    )
