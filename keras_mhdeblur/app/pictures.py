"""Pictures for the screen: previews, and where the hypotheses differ."""

import numpy as np
from PIL import Image

from keras_mhdeblur.inference.heatmap import SMALLEST_SCALE, colour_map

# Longest side of what is shown; what is downloaded has all pixels.
SCREEN = 2048
# Longest side of the spot that thumbnails show, pixel by pixel.
THUMBNAIL = 320


def preview(values, longest=SCREEN):
    """A picture for the screen.

    Args:
        values: (H, W, C) uint8, uint16 or float in [0, 1], C of 1 or 3.
        longest: pixels of the longer side, at most.

    Returns:
        PIL image, RGB.
    """
    step = max(values.shape[:2]) // (2 * longest)
    if step > 1:  # of a huge photo not all pixels are averaged
        values = values[::step, ::step]
    image = Image.fromarray(np.ascontiguousarray(as_bytes(values)))
    image.thumbnail((longest, longest), Image.Resampling.LANCZOS, reducing_gap=3)
    return image


def as_bytes(values):
    """uint8 (H, W, 3) of values as of `preview`."""
    if values.dtype == np.uint16:
        values = (values >> 8).astype("uint8")
    elif values.dtype != np.uint8:
        values = np.rint(np.clip(values, 0, 1) * 255).astype("uint8")
    return np.broadcast_to(values, (*values.shape[:2], 3))


def with_uncertainty(picture, uncertainty):
    """A picture with the places where the hypotheses differ in colour.

    Args:
        picture: PIL image.
        uncertainty: (H, W), standard deviations in units of the range [0, 1].

    Returns:
        PIL image; the brightest colour stands for the `scale`.
    """
    strength = np.clip(255 / scale(uncertainty) * 255 * uncertainty, 0, 255)
    strength = Image.fromarray(np.rint(strength).astype("uint8"))
    strength = strength.resize(picture.size, Image.Resampling.BILINEAR)
    share = np.asarray(strength, "float32")[..., None] / 255
    gray = np.asarray(picture.convert("L"), "float32")[..., None]
    # Below the colours the picture is grey and dim, so that no colour is its own.
    cover = np.sqrt(share)
    mixed = cover * colour_map(share[..., 0]) + (1 - cover) * 0.75 * gray
    return Image.fromarray(np.rint(mixed).astype("uint8"))


def scale(uncertainty):
    """Level of 255 that the brightest colour of an uncertainty map stands for."""
    return 255 * max(float(np.percentile(uncertainty, 99.5)), SMALLEST_SCALE)


def spot(uncertainty):
    """The square where the hypotheses differ most, as two slices.

    Args:
        uncertainty: (H, W).
    """
    height, width = uncertainty.shape
    side = min(height, width, max(min(height, width) // 3, 128), THUMBNAIL)
    sums = np.pad(uncertainty, ((1, 0), (1, 0))).cumsum(0, "float64").cumsum(1)
    totals = (
        sums[side:, side:]
        - sums[:-side, side:]
        - sums[side:, :-side]
        + sums[:-side, :-side]
    )
    top, left = np.unravel_index(int(totals.argmax()), totals.shape)
    return slice(top, top + side), slice(left, left + side)
