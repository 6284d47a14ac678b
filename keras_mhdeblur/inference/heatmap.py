"""The uncertainty as a picture."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from keras_mhdeblur.utils import disk_arrays

# Ten steps of matplotlib's "inferno" (CC0): lightness rises evenly, so that order is
# seen without a legend, in gray print and by the colour-blind too.
COLOURS = np.array(
    [int(c[i : i + 2], 16) for c in
     "000004 1b0c41 4a0c6b 781c6d a52c60 cf4446 ed6925 fb9b06 f7d13d fcffa4".split()
     for i in (0, 2, 4)],
    "float32",
).reshape(10, 3)  # fmt: skip
# Below one step of 8 bits the hypotheses look equal: the picture then stays dark.
SMALLEST_SCALE = 1 / 255


def colour_map(values):
    """RGB uint8 (..., 3) of values in [0, 1]; others are clipped."""
    steps = np.clip(values, 0, 1) * (len(COLOURS) - 1)
    channels = [
        np.interp(steps, np.arange(len(COLOURS)), COLOURS[:, c]) for c in range(3)
    ]
    return np.rint(np.stack(channels, axis=-1)).astype("uint8")


def heat_map(uncertainty):
    """Picture of an uncertainty map with a scale below it.

    The brightest colour is the map's 99.5th percentile, at least 1/255; the scale
    gives it in grey levels of 255.

    Args:
        uncertainty: (H, W), standard deviations in units of the range [0, 1].

    Returns:
        uint8 (H + strip, W, 3): the first H rows are the map.
    """
    scale = max(float(np.percentile(uncertainty, 99.5)), SMALLEST_SCALE)
    height, width = uncertainty.shape
    size = max(12, min(height, width) // 40)
    strip = Image.new("RGB", (width, 2 * size), "white")
    draw = ImageDraw.Draw(strip)
    font = ImageFont.load_default(size)
    left, right = "0", f"{255 * scale:.1f} of 255"
    start = round(draw.textlength(left, font)) + size
    stop = width - round(draw.textlength(right, font)) - size
    draw.text((size // 2, size), left, "black", font, anchor="lm")
    draw.text((width - size // 2, size), right, "black", font, anchor="rm")
    strip = np.array(strip)
    if stop > start:
        bar = colour_map(np.linspace(0, 1, stop - start))
        strip[size // 2 : size // 2 + size, start:stop] = bar
    shape = (height + len(strip), width, 3)
    picture = disk_arrays.empty(shape, "uint8", disk_arrays.on_disk(uncertainty))
    for rows in disk_arrays.bands(height):
        picture[rows] = colour_map(uncertainty[rows] / scale)
    picture[height:] = strip
    return picture
