"""Photos out of files, PIL images and arrays."""

import contextlib
import dataclasses
import math
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from keras_mhdeblur.photos import streaming
from keras_mhdeblur.photos.formats import FORMATS
from keras_mhdeblur.photos.photo import Photo
from keras_mhdeblur.photos.pillow_images import photo_from_pil, photo_of_stored
from keras_mhdeblur.photos.pixels import checked_image, from_float
from keras_mhdeblur.photos.png_tiff import (
    BITS,
    ancillary_chunks,
    png_of_one_pixel,
    read_sixteen_bits,
)
from keras_mhdeblur.utils.disk_arrays import DiskFullError
from keras_mhdeblur.utils.types import ImageLike, PathLike

_HEIC_BRANDS = (b"ftypheic", b"ftypheix", b"ftypmif1")
# Times the size of the pixels that Pillow and the copies of what it gives take.
_DECODING = 4


class ImageFileError(ValueError):
    """A file that cannot be read as an image.

    Attributes:
        path: the file.
        reason: what is wrong with it, one line.
    """

    def __init__(self, path: PathLike, reason: str) -> None:
        self.path = Path(path)
        self.reason = reason
        super().__init__(f"Cannot read the image: {reason}. Received: path={path}")


def photos_of(
    image: ImageLike, memory_limit_mb: float | None = None, name: str = "image"
) -> tuple[list[Photo], np.ndarray | None]:
    """Photos of one image in any form, or of a batch of them.

    Args:
        image: path of an image file, PIL image, `Photo`, or array (H, W), (H, W, C) or
            (B, H, W, C) with C of 1, 3 (RGB) or 4 (RGB and alpha): uint8, uint16, or
            float in [0, 1].
        memory_limit_mb: as of `read_image`.
        name: name of the argument in error messages.

    Returns:
        (photos, array): list of `Photo`; the array that was given, or None.

    Raises:
        ImageFileError: if the file cannot be read.
        ValueError: if it is no such array.
    """
    if isinstance(image, (str, os.PathLike)):
        return [read_image(image, memory_limit_mb)], None
    if isinstance(image, Photo):
        return [image], None
    if isinstance(image, Image.Image):
        if 0 in image.size:
            raise ValueError(
                f"`{name}` must not be empty. Received: {name}.size={image.size}"
            )
        return [photo_from_pil(image)], None
    return _photos_of_array(image, name), np.asarray(image)


def _photos_of_array(image, name):
    """One `Photo` per image of an array (H, W), (H, W, C) or (B, H, W, C)."""
    values = checked_image(image, name)
    if values.ndim == 2:
        values = values[..., None]
    values = values.reshape(-1, *values.shape[-3:])
    depth = 16 if values.dtype == np.uint16 else 8
    alpha = None
    if values.shape[-1] == 4:
        alpha = values[..., 3]
        if alpha.dtype.kind == "f":
            alpha = from_float(alpha, "uint8")
        values = values[..., :3]
    return [
        Photo(
            one,
            alpha=None if alpha is None else alpha[index],
            depth=depth,
            gray=one.shape[-1] == 1,
        )
        for index, one in enumerate(values)
    ]


def read_image(path: PathLike, memory_limit_mb: float | None = None) -> Photo:
    """Reads a photo: JPEG, PNG, TIFF, WebP, AVIF, JPEG 2000, BMP, GIF, PPM or TGA.

    The contents count, not the suffix. The EXIF orientation is applied, palettes and
    CMYK become RGB (CMYK through the file's ICC profile if it has one), a TIFF of
    several pages gives the first. 16 bits are kept of PNG and TIFF files, and of gray
    ones of other formats. HEIC files are read after the package pillow-heif has
    registered itself with Pillow.

    Args:
        path: path of the file.
        memory_limit_mb: memory in MB that reading may take. Larger JPEG, PNG and TIFF
            files are read in parts, into a file of the temporary folder (TMPDIR), if
            pyvips is installed and they are of a common kind: no palette, CMYK,
            premultiplied alpha or separate planes. None: no limit.

    Returns:
        `Photo`.

    Raises:
        ImageFileError: if the file is missing, empty, a folder or device, truncated,
            corrupt, animated or no photo, or has more pixels than `pixel_limit` (by
            default Pillow's, 179 million).
        DiskFullError: if the temporary folder has no room.
    """
    path = Path(path)
    # `os.path` and not `Path`, whose tests raise where a folder is closed.
    if os.path.isdir(path):
        raise ImageFileError(path, "it is a folder")
    if os.path.exists(path) and not os.path.isfile(path):
        # Reading could wait for ever, or never end.
        raise ImageFileError(path, "it is no ordinary file")
    try:
        file = open(path, "rb")
    except FileNotFoundError:
        link = "it is a link to a file that does not exist"
        reason = link if path.is_symlink() else "there is no such file"
        raise ImageFileError(path, reason) from None
    except OSError as error:
        raise ImageFileError(path, error.strerror or str(error)) from None
    with file:
        if not os.fstat(file.fileno()).st_size:
            raise ImageFileError(path, "it is empty (0 bytes)")
        try:
            with warnings.catch_warnings():
                # Of large photos, which are what this is for (Pillow's hard limit
                # remains), and of damaged metadata.
                warnings.simplefilter("ignore")
                return _read_photo(file, memory_limit_mb)
        except UnidentifiedImageError:
            reason = "it is not an image of a kind that can be read"
            file.seek(4)
            if file.read(8) in _HEIC_BRANDS:
                reason = "HEIC cannot be read; convert it to JPEG or PNG"
        except _AnimatedError:
            reason = "it is animated; only still pictures are restored"
        except Image.DecompressionBombError as error:
            detail = str(error).rstrip(".")
            reason = f"it has too many pixels: {detail}; --max-megapixels allows more"
        except (MemoryError, DiskFullError):
            raise
        except Exception as error:
            # Decoders raise nearly anything on broken data (OSError, SyntaxError,
            # struct.error, IndexError, ...).
            detail = " ".join(str(error).split()) or type(error).__name__
            reason = f"it is broken ({detail})"
    raise ImageFileError(path, reason)


class _AnimatedError(Exception):
    pass


def _read_photo(file, memory_limit_mb):
    Image.init()
    formats = [name for name in FORMATS if name in Image.OPEN]
    with Image.open(file, formats=formats) as image:
        several = getattr(image, "is_animated", False)
        if several and FORMATS[image.format].animated:
            raise _AnimatedError
        photo, notes = None, ()
        if memory_limit_mb is not None:
            photo, notes = _read_in_parts(image, file, memory_limit_mb)
        if photo is None:
            photo = photo_from_pil(image, read_sixteen_bits(image, file))
        notes += photo.notes
        if image.format == "TIFF":
            if several:
                notes += ("only the first page is restored",)
            if photo.depth == 8 and 16 in image.tag_v2.get(BITS, ()):
                notes += ("8 of its 16 bits are kept",)
        chunks = ancillary_chunks(file) if image.format == "PNG" else b""
    return dataclasses.replace(photo, notes=notes, png_chunks=chunks)


def _read_in_parts(image, file, memory_limit_mb):
    """(photo, notes): a `Photo` on disk, or None if it is to be read into memory."""
    stored = streaming.stored_shape(image)
    if stored is None:
        return None, ()
    shape, dtype = stored
    if _DECODING * math.prod(shape) * dtype.itemsize <= 1e6 * memory_limit_mb:
        return None, ()
    try:
        array = streaming.read_pixels(file.name, image.format, shape, dtype)
    except ImportError:
        install = '`pip install "keras-mhdeblur[large]"`'
        return None, (f"was read into memory as a whole; {install} reads in parts",)
    if image.format != "PNG":
        return photo_of_stored(image, array), ()
    # Some metadata may follow the pixels.
    with Image.open(png_of_one_pixel(file), formats=["PNG"]) as small:
        small.load()
        return photo_of_stored(small, array), ()


@contextlib.contextmanager
def pixel_limit(pixels: int) -> Iterator[None]:
    """Sets how many pixels an image file may have, while the context lasts.

    Small files can unfold to images that fill the memory. The limit is Pillow's, and
    so is the process'.

    Args:
        pixels: a number.
    """
    before = Image.MAX_IMAGE_PIXELS
    # Pillow refuses from twice this number on.
    Image.MAX_IMAGE_PIXELS = pixels // 2
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before
