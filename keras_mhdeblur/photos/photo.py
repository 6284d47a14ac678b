"""`Photo`: an image and what has to survive its restoration."""

import dataclasses

import numpy as np

from keras_mhdeblur.photos.pixels import (
    from_float,
    linear_to_srgb,
    srgb_to_linear,
    unit,
)


@dataclasses.dataclass
class Photo:
    """An image and what has to survive its restoration.

    Attributes:
        values: (H, W, 3) RGB or (H, W, 1) gray, upright: uint8, uint16, or float in
            [0, 1].
        alpha: (H, W) as stored, never computed with, or None.
        depth: bits per channel of the file, 8 or 16.
        gray: whether the file has one colour channel; of three all are equal then.
        icc_profile: ICC profile of the pixels, bytes or None.
        exif: EXIF block without the orientation, bytes or None.
        xmp: XMP packet, its orientation upright, bytes or None.
        notes: what of the file is not kept, a line each.
        linear: whether the values are linear light, as raw converters write it,
            and not sRGB.
        png_chunks: chunks of a PNG file, for another one, on its colours and pixel
            density, bytes.
    """

    values: np.ndarray
    alpha: np.ndarray | None = None
    depth: int = 8
    gray: bool = False
    icc_profile: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    notes: tuple[str, ...] = ()
    linear: bool = False
    png_chunks: bytes = b""

    @property
    def pixels(self) -> np.ndarray:
        """sRGB, float32 (H, W, 3) in [0, 1]; made anew each time."""
        return self.crop(slice(None), slice(None))

    def crop(self, rows: slice, columns: slice) -> np.ndarray:
        """As `pixels`, of the given slices of rows and columns."""
        values = unit(self.values[rows, columns])
        if self.linear:
            values = linear_to_srgb(values)
        return np.ascontiguousarray(np.broadcast_to(values, (*values.shape[:2], 3)))

    def values_of(self, pixels: np.ndarray) -> np.ndarray:
        """Floats such as `crop` gives, clipped, as the photo has its values."""
        if self.linear:
            pixels = srgb_to_linear(np.clip(pixels, 0, 1))
        return from_float(pixels, self.values.dtype)

    def with_values(self, values: np.ndarray) -> "Photo":
        """The same photo with other `values`."""
        return dataclasses.replace(self, values=values)

    def to_array(self) -> np.ndarray:
        """The image as a file holds it.

        Returns:
            uint8 or uint16 by `depth`: (H, W) gray, (H, W, 2) gray and alpha,
            (H, W, 3) or (H, W, 4).
        """
        array = self.stored(slice(None))
        return array[..., 0] if array.shape[-1] == 1 else array

    def stored(self, rows: slice) -> np.ndarray:
        """As `to_array`, of a slice of rows, and always (h, W, C)."""
        array = self.values[rows]
        array = array[..., :1] if self.gray else array
        dtype = np.dtype("uint16" if self.depth == 16 else "uint8")
        if array.dtype != dtype:
            array = from_float(unit(array), dtype)
        if self.alpha is not None:
            array = np.concatenate([array, self.alpha[rows][..., None]], axis=-1)
        return array
