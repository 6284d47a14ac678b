"""A mean of the heads whose weights follow what the heads do at a place.

Heads that were trained to disagree are bold in different degrees. Where all of them
change much, the photo is blurred and their mean is best; where the bold ones change it
far more than a cautious one, or in another direction, the cautious one is. So weights
are computed from the energy of what each head changes, and from how alike that is.
"""

import numpy as np

# Side in pixels of the blocks that have weights, and that the guard tests.
BLOCK = 16
# Blocks on each side whose statistics a block shares: 144 pixels in all, about as many
# as the patches that the weights were fitted to.
REACH = 4
# Rows of an image that are worked on at a time, and those beside them that matter.
_BAND, _MARGIN = 16 * BLOCK, (REACH + 1) * BLOCK
# Added to energies before logarithms: a change by 1/40 of a level of 255.
FLOOR = 1e-8


def features(heads, image, reach=REACH):
    """Features from which the weights are computed.

    Args:
        heads: head images (K, H, W, C), not clipped.
        image: the blurry image (H, W, C) in [0, 1].
        reach: blocks on each side to average over, or None for the whole image.

    Returns:
        float32 (ceil(H/16), ceil(W/16), F), of the neighbourhood of every block: the
        logarithms of the energy of each head's change of brightness, and of that of
        its gradient, and the changes' correlations.
    """
    first, second = np.triu_indices(len(heads))
    # Every fourth row, and for the differences down every fourth column, will do.
    rows = brightness(heads[:, ::4] - image[::4])
    columns = brightness(heads[:, :, ::4] - image[:, ::4])
    across = np.diff(rows, axis=2, append=rows[:, :, -1:])
    down = np.diff(columns, axis=1, append=columns[:, -1:])
    gradient = block_sums(np.square(across), (BLOCK // 4, BLOCK))
    gradient += block_sums(np.square(down), (BLOCK, BLOCK // 4))
    products = [
        block_sums(rows[i] * rows[j], (BLOCK // 4, BLOCK))
        for i, j in zip(first, second)
    ]
    sums = np.concatenate([products, gradient])
    counts = block_sums(np.ones_like(rows[:1]), (BLOCK // 4, BLOCK))
    means = neighbourhood(sums, reach) / neighbourhood(counts, reach)
    products, gradient = means[: len(first)], means[len(first) :]
    energy = products[first == second] + FLOOR
    pairs = first != second
    correlation = products[pairs] / np.sqrt(
        energy[first[pairs]] * energy[second[pairs]]
    )
    values = [np.log(energy), np.log(gradient + FLOOR), correlation]
    return np.moveaxis(np.concatenate(values), 0, -1).astype("float32")


def check_coefficients(coefficients, num_heads, argument):
    """ValueError unless there are `coefficients` for so many heads."""
    num_features = 2 * num_heads + num_heads * (num_heads - 1) // 2
    found = None
    if coefficients is not None:
        found = np.asarray(coefficients, "float32").shape
    if found != (num_heads, num_features + 1):
        raise ValueError(
            f'`{argument}="adaptive"` needs a model with `adaptive_weights`, '
            f"{num_heads} rows of {num_features + 1}: see "
            "`training.fit_adaptive_weights`. Received: adaptive_weights="
            + ("None" if found is None else f"of shape {found}")
        )


def adaptive_bands(heads, crop, coefficients):
    """The mean of the heads with weights that follow the place, some rows at a time.

    Args:
        heads: head images (K, H, W, C), not clipped.
        crop: function from a slice of rows to the blurry image there.
        coefficients: (K, F + 1), of a linear function of the `features` and 1 whose
            softmax are the weights; `training.fit_adaptive_weights` finds them.

    Yields:
        (top, bottom, image): rows of the image, float32 (bottom - top, W, C).
    """
    height, width = heads.shape[1:3]
    for top in range(0, height, _BAND):
        bottom = min(top + _BAND, height)
        rows = slice(max(top - _MARGIN, 0), min(bottom + _MARGIN, height))
        weights = block_weights(features(heads[:, rows], crop(rows)), coefficients)
        maps = _at_pixels(weights, top - rows.start, bottom - rows.start, width)
        yield top, bottom, np.einsum("khw,khwc->hwc", maps, heads[:, top:bottom])


def block_weights(values, coefficients):
    """Weights (..., K) of the heads that sum to one, of `features` (..., F)."""
    coefficients = np.asarray(coefficients, "float32")
    logits = values @ coefficients[:, :-1].T + coefficients[:, -1]
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def _at_pixels(weights, top, bottom, width):
    """Weights (K, bottom - top, width) at pixels, linear between the blocks' centres.

    Args:
        weights: (rows, columns, K) of blocks.
        top, bottom: rows of pixels, of which the first block has the first.
        width: number of columns of pixels.
    """
    down, across = (
        _interpolation(pixels, size)
        for pixels, size in zip((range(top, bottom), range(width)), weights.shape)
    )
    return down @ np.moveaxis(weights, -1, 0) @ across.T


def _interpolation(pixels, size):
    """Matrix from values at `size` blocks to those at pixels."""
    place = np.clip((np.array(pixels) + 0.5) / BLOCK - 0.5, 0, size - 1)
    distance = np.abs(place[:, None] - np.arange(size))
    return np.maximum(1 - distance, 0).astype("float32")


def brightness(images):
    # A product: `mean` over three values takes ten times as long.
    return images @ np.full(images.shape[-1], 1 / images.shape[-1], "float32")


def block_sums(values, block):
    """Sums over blocks of the last two axes; the last blocks may be smaller."""
    for axis, step in zip((-2, -1), block):
        starts = np.arange(0, values.shape[axis], step)
        values = np.add.reduceat(values, starts, axis=axis)
    return values


def neighbourhood(sums, reach):
    """Sums over the blocks up to `reach` away, in both directions."""
    for axis in (1, 2):
        size = sums.shape[axis]
        far = size if reach is None else reach
        start = np.maximum(np.arange(size) - far, 0)
        stop = np.minimum(np.arange(size) + far + 1, size)
        total = np.insert(np.cumsum(sums, axis=axis, dtype="float64"), 0, 0, axis=axis)
        sums = total.take(stop, axis=axis) - total.take(start, axis=axis)
    return sums
