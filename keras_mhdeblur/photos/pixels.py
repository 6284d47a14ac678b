"""Pixels as arrays: their checks, floats and integers, and sRGB."""

import numpy as np

# Floats of a resized or decoded image overshoot [0, 1] by rounding, not by more.
RANGE_TOLERANCE = 1e-4


def to_float(image, name="image"):
    """Converts an image array to float32 in [0, 1]; see `checked_image`."""
    return unit(checked_image(image, name))


def checked_image(image, name="image"):
    """An image array whose type, shape and range are right.

    Args:
        image: (H, W), (H, W, C) or (B, H, W, C) with C of 1, 3 or 4: uint8 of
            0 to 255, uint16 of 0 to 65535, or float of 0 to 1.
        name: name of the argument in error messages.

    Returns:
        The array itself if it is of integers; otherwise float32, clipped to [0, 1].

    Raises:
        ValueError: on another type, rank, number of channels or dtype, on an empty
            image, NaN, infinity, or floats out of range.
    """
    if not hasattr(image, "__array__"):
        raise ValueError(
            f"`{name}` must be a path, a PIL image or an array. "
            f"Received: {name}={image!r}"
        )
    image = np.asarray(image)
    kind = f"array of shape {image.shape}, {image.dtype}"
    channels = 1 if image.ndim == 2 else image.shape[-1] if image.ndim else 0
    if image.ndim not in (2, 3, 4) or channels not in (1, 3, 4) or 0 in image.shape:
        raise ValueError(
            f"`{name}` must have shape (H, W), (H, W, C) or (B, H, W, C), C of 1, 3 or "
            f"4, and no empty dimension. Received: {name}={kind}"
        )
    if image.dtype in (np.uint8, np.uint16):
        return image
    if not np.issubdtype(image.dtype, np.floating):
        raise ValueError(
            f"`{name}` must be uint8, uint16 or float. Received: {name}={kind}"
        )
    low, high = float(image.min()), float(image.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError(
            f"`{name}` must not hold NaN or infinity. Received: {name}={kind} with "
            f"{np.count_nonzero(~np.isfinite(image))} such values"
        )
    if low < -RANGE_TOLERANCE or high > 1 + RANGE_TOLERANCE:
        raise ValueError(
            f"`{name}` of a float dtype must be in [0, 1] (integers of 0 to 255 are "
            f"given as uint8). Received: {name}={kind} of {low:g} to {high:g}"
        )
    return np.clip(image.astype("float32"), 0, 1)


def unit(values):
    """Unsigned integers as float32 in [0, 1]; floats as float32."""
    if values.dtype.kind == "u":
        return values / np.float32(np.iinfo(values.dtype).max)
    return values.astype("float32", copy=False)


def from_float(pixels, dtype):
    """Converts floats to an image dtype, clipped to [0, 1] and rounded.

    Args:
        pixels: float array.
        dtype: uint8, uint16 or a float dtype.

    Returns:
        Array of that dtype and the same shape.
    """
    pixels = np.clip(pixels, 0, 1)
    if np.issubdtype(dtype, np.integer):
        pixels = np.rint(pixels * np.float32(np.iinfo(dtype).max))
    return pixels.astype(dtype)


def srgb_to_linear(x):
    """Light, in [0, 1], of sRGB values in [0, 1] (IEC 61966-2-1)."""
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(x):
    """sRGB values, in [0, 1], of light in [0, 1] (IEC 61966-2-1)."""
    return np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055)
