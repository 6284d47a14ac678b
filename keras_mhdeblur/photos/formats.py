"""Formats of image files that photos have."""

import dataclasses
import math
from typing import Any


@dataclasses.dataclass(frozen=True)
class PhotoFormat:
    """A format, and what its files can hold.

    Attributes:
        name: as Pillow calls it.
        alpha: whether it has an alpha channel.
        gray: whether a gray image stays one, so that its colour profile fits.
        animated: whether several images in a file are an animation.
        largest_side: pixels.
        longest_exif, longest_xmp: bytes.
    """

    name: str
    alpha: bool = False
    gray: bool = True
    animated: bool = False
    largest_side: float = math.inf
    longest_exif: float = math.inf
    longest_xmp: float = math.inf


# Bytes that a marker of a JPEG has room for.
_JPEG: dict[str, Any] = {
    "largest_side": 65500,
    "longest_exif": 65533,
    "longest_xmp": 65504,
}

# Others are never opened: Pillow gives EPS to another program, for one.
_TABLE = (
    PhotoFormat("JPEG", **_JPEG),
    PhotoFormat("MPO", **_JPEG),
    PhotoFormat("PNG", alpha=True, animated=True),
    PhotoFormat("TIFF", alpha=True),
    PhotoFormat("WEBP", alpha=True, gray=False, animated=True, largest_side=16383),
    PhotoFormat("AVIF", alpha=True, gray=False, animated=True, largest_side=32768),
    PhotoFormat("HEIF", alpha=True),
    PhotoFormat("JPEG2000", alpha=True),
    PhotoFormat("BMP"),
    PhotoFormat("GIF", animated=True, largest_side=65535),
    PhotoFormat("PPM"),
    PhotoFormat("TGA", alpha=True, largest_side=65535),
)
FORMATS = {row.name: row for row in _TABLE}
