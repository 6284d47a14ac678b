"""Pixels of image files that do not fit into memory: libvips decodes, a disk keeps."""

import os

import numpy as np

from keras_mhdeblur.photos.png_tiff import (
    BLACK_IS_ZERO,
    COMPRESSION,
    DEFLATE,
    FILL_ORDER,
    HEIGHT,
    PHOTOMETRIC,
    PLANES,
    RGB,
    SEPARATE_PLANES,
    WIDTH,
    stored_mode,
)
from keras_mhdeblur.utils import disk_arrays

_LOADERS = {
    "JPEG": "jpegload_source",
    "MPO": "jpegload_source",
    "PNG": "pngload_source",
    "TIFF": "tiffload_source",
}
_CHANNELS = {"I": 1, "L": 1, "LA": 2, "RGB": 3, "RGBA": 4}
# None, LZW, Deflate under both of its numbers, PackBits.
_COMPRESSIONS = (1, 5, DEFLATE, 32946, 32773)


def stored_shape(image):
    """Shape and dtype of the pixels of a file that can be read in parts.

    Args:
        image: PIL image of the file, not loaded.

    Returns:
        (shape, dtype): (H, W, C) as stored, C of 1 to 4; uint8 or uint16. None for
        what libvips might decode otherwise than Pillow, or what is converted after it:
        palettes, CMYK, premultiplied alpha, 32 bits and the like.
    """
    width, height = image.size
    if image.format == "TIFF":  # Pillow turns its size
        width, height = (image.tag_v2[tag] for tag in (WIDTH, HEIGHT))
    if image.format in ("JPEG", "MPO"):
        channels = {"L": 1, "RGB": 3}.get(image.mode)
        return channels and ((height, width, channels), np.dtype("uint8"))
    mode, deep, order = stored_mode(image).partition(";16")
    if (
        mode not in _CHANNELS
        or order not in ("", "B", "L")
        or (mode == "I" and not deep)
        or "transparency" in image.info
        or (image.format == "TIFF" and not _is_plain_tiff(image.tag_v2))
    ):
        return None
    return (height, width, _CHANNELS[mode]), np.dtype("uint16" if deep else "uint8")


def _is_plain_tiff(tags):
    return (
        tags.get(COMPRESSION, 1) in _COMPRESSIONS
        and tags.get(PHOTOMETRIC) in (BLACK_IS_ZERO, RGB)
        and tags.get(PLANES) != SEPARATE_PLANES
        and tags.get(FILL_ORDER, 1) == 1
    )


def read_pixels(path, image_format, shape, dtype):
    """Decodes a file some rows at a time into a temporary file.

    Args:
        path: path of the image file.
        image_format: its format, as Pillow calls it.
        shape, dtype: as of `stored_shape`.

    Returns:
        Array of that shape and dtype.

    Raises:
        ImportError: if pyvips or libvips is not installed.
        pyvips.Error: if the file is broken.
        DiskFullError: if there is no room for the pixels.
    """
    try:
        import pyvips
    except OSError as error:  # pyvips without libvips
        raise ImportError(str(error)) from error

    load = getattr(pyvips.Image, _LOADERS[image_format])
    # Of a path libvips would give a tiled TIFF again as it was the first time.
    source = pyvips.Source.new_from_file(os.fsencode(path))
    image = load(source, access="sequential", fail_on="error")
    array = disk_arrays.empty(shape, dtype, disk=True)
    region = pyvips.Region.new(image)
    for rows in disk_arrays.bands(len(array)):
        band = array[rows]
        data = region.fetch(0, rows.start, image.width, len(band))
        band[...] = np.frombuffer(data, dtype).reshape(band.shape)
    return array
