"""Photos of PIL images, of any mode."""

import dataclasses
import io
import re

import numpy as np
from PIL import ImageCms

from keras_mhdeblur.photos.exif import orientation_and_exif
from keras_mhdeblur.photos.photo import Photo
from keras_mhdeblur.photos.png_tiff import PHOTOMETRIC, WHITE_IS_ZERO, stored_mode

# The repetitions are bounded, or a hostile file could keep the search busy for hours.
XMP_ORIENTATION = re.compile(
    rb"""(tiff:Orientation\s{0,9}(?:=\s{0,9}["']|>)\s{0,9})[0-9]{1,9}"""
)


def photo_from_pil(image, array=None):
    """Makes a `Photo` of a PIL image, its EXIF orientation applied.

    Args:
        image: PIL image of any mode.
        array: its pixels as stored, where Pillow does not hold all their bits.

    Returns:
        `Photo`.

    Raises:
        ValueError: if the values of a 32-bit gray image are out of range.
    """
    # Pillow scales such gray values, not the one that is transparent.
    scale = {"L;2": 85, "L;4": 17}.get(stored_mode(image))
    # First, for it turns a TIFF upright and drops the orientation.
    image.load()
    if scale and "transparency" in image.info:
        image.info["transparency"] *= scale
    notes = ()
    if array is None:
        plain, notes = _to_plain_mode(image)
        array = _array_of_plain_mode(plain)
        array = array if array.ndim == 3 else array[..., None]
    if array.dtype == np.uint16 and "transparency" in image.info:
        clear = array == np.asarray(image.info["transparency"])
        alpha = np.where(clear.all(axis=-1, keepdims=True), 0, 65535)
        array = np.concatenate([array, alpha.astype("uint16")], axis=-1)
    photo = photo_of_stored(image, array, notes)
    # What the decoders hold can go.
    alpha = None if photo.alpha is None else photo.alpha.copy()
    values = np.ascontiguousarray(photo.values)
    return dataclasses.replace(photo, values=values, alpha=alpha)


def photo_of_stored(image, array, notes=()):
    """`Photo` of pixels as stored, (H, W, C), and of an image's metadata."""
    orientation, exif = orientation_and_exif(image)
    array = _upright(array, orientation)
    gray = array.shape[-1] <= 2
    colours = 1 if gray else 3
    profile = image.info.get("icc_profile")
    # A profile of another colour space (of CMYK, of a palette's colours on gray)
    # would make the output invalid.
    if not profile or profile[16:20] != (b"GRAY" if gray else b"RGB "):
        profile = None
    return Photo(
        values=array[..., :colours],
        alpha=array[..., -1] if array.shape[-1] in (2, 4) else None,
        depth=8 if array.dtype == np.uint8 else 16,
        gray=gray,
        icc_profile=profile,
        exif=exif,
        xmp=_xmp(image),
        notes=notes,
    )


def _to_plain_mode(image):
    """The image in mode L, LA, RGB, RGBA or a deep gray mode; and notes."""
    mode = image.mode
    if mode.startswith("I") or mode == "F":
        return image, ()
    transparent = "transparency" in image.info
    if mode in ("1", "L", "LA", "La"):
        plain = "LA" if transparent or mode in ("LA", "La") else "L"
    elif mode in ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX"):
        plain = "RGBA" if transparent or mode in ("PA", "RGBA", "RGBa") else "RGB"
    else:
        return _to_rgb(image)
    return (image if mode == plain else image.convert(plain)), ()


def _to_rgb(image):
    """CMYK, LAB and the like as RGB, through the ICC profile if that is usable."""
    profile = image.info.get("icc_profile")
    if profile and image.mode == "CMYK":
        try:
            converted = ImageCms.profileToProfile(
                image,
                ImageCms.ImageCmsProfile(io.BytesIO(profile)),
                ImageCms.createProfile("sRGB"),
                outputMode="RGB",
            )
            return converted, ("CMYK is converted to RGB by its colour profile",)
        except (ImageCms.PyCMSError, OSError):
            pass
    note = f"{image.mode} is converted to RGB, without a colour profile"
    return image.convert("RGB"), (note,)


def _array_of_plain_mode(image):
    """uint8, uint16 or float32 array of an image in a plain mode."""
    array = np.asarray(image)
    if image.mode.startswith("I;16"):
        array = array.astype("uint16")
        # Pillow turns other negatives positive, but not these.
        tags = getattr(image, "tag_v2", {})
        return 65535 - array if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO else array
    limit = {"I": 65535, "F": 1}.get(image.mode)
    if limit is None:
        return array
    low, high = array.min(), array.max()
    if not (0 <= low and high <= limit):
        raise ValueError(
            f"gray values of 32 bits must be in 0 to {limit}, these are {low} to {high}"
        )
    return array.astype("uint16" if limit > 1 else "float32")


def _xmp(image):
    """XMP packet of an upright image: another orientation would turn it again."""
    xmp = image.info.get("xmp")
    if not isinstance(xmp, bytes) or not xmp:
        return None
    return XMP_ORIENTATION.sub(rb"\g<1>1", xmp)


def _upright(array, orientation):
    """Turns (H, W, C) the way an EXIF orientation says."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return array
