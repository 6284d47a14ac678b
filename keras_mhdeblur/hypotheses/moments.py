"""What can be seen of a blurry photo and of its heads, block by block.

Moments are sums over blocks of 16x16 pixels, so that those of a neighbourhood or of a
whole photo are sums of them. Features are functions of moments: logarithms of energies,
and correlations. They tell how blurred, noisy and compressed a photo is, how much each
head changes it, whether that is detail or not, and how far the heads agree.
"""

import numpy as np

from keras_mhdeblur.hypotheses.adaptive import BLOCK, brightness

# Added to energies before logarithms: a change by 1/40 of a level of 255.
_FLOOR = 1e-8
_DARK, _LIGHT = 0.02, 0.98
_JPEG = 8
# Side of the cells whose means are a change without detail, and of the quietest ones.
_CELL = 4
_BAND = 8 * BLOCK
# The first so many features are of the photo alone.
NUM_PHOTO_FEATURES = 14


def moments(heads: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Sums over the blocks of an image.

    Args:
        heads: head images (K, H, W, C), not clipped.
        image: the blurry image (H, W, C) in [0, 1].

    Returns:
        float32 (M, ceil(H/16), ceil(W/16)); the first is the number of pixels.
    """
    height = len(image)
    parts = []
    # In bands, which fit into a processor's cache: three times as fast.
    for top in range(0, height, _BAND):
        bottom = min(top + _BAND, height)
        rows = slice(max(top - BLOCK, 0), min(bottom + BLOCK, height))
        first = (top - rows.start) // BLOCK
        count = -(-(bottom - top) // BLOCK)
        found = _moments(heads[:, rows], image[rows])
        parts.append(found[:, first : first + count])
    return np.concatenate(parts, axis=1)


def _moments(heads, image):
    photo = brightness(image)
    changes = brightness(heads) - photo
    once = _smooth(photo)
    fine, coarse = photo - once, once - _smooth(_smooth(once))
    across, down = _differences(photo)
    squares = across * across, down * down
    count = _sums(np.ones_like(photo))
    quiet = _of_blocks(_means(fine * fine)).min(axis=(1, 3)) * count
    sums = [count, quiet]
    for values in (
        photo,
        photo * photo,
        np.float32(photo < _DARK),
        np.float32(photo > _LIGHT),
        fine * fine,
        coarse * coarse,
        fine * coarse,
        np.abs(fine),
        np.abs(coarse),
        *squares,
        squares[0] ** 2 + squares[1] ** 2,
        *_phases(across),
    ):
        sums.append(_sums(values))
    for change in changes:
        gradient = _differences(change)
        low = _of_blocks(_means(change) ** 2).mean(axis=(1, 3)) * count
        sums += [
            _sums(change),
            _sums(gradient[0] ** 2 + gradient[1] ** 2),
            low,
            _sums(change * fine),
            _sums(change * coarse),
        ]
    for i, j in zip(*np.tril_indices(len(heads))):
        sums.append(_sums(changes[i] * changes[j]))
    return np.stack(sums)


def features(sums: np.ndarray, num_heads: int) -> np.ndarray:
    """Features of moments.

    Args:
        sums: (M, ...), of `moments`.
        num_heads: K.

    Returns:
        float32 (F, ...).
    """
    means = iter(sums[1:] / np.maximum(sums[0], 1))
    quiet, photo, square, dark, light = (next(means) for _ in range(5))
    fine, coarse, both, fine_size, coarse_size = (next(means) for _ in range(5))
    across, down, fourth = (next(means) for _ in range(3))
    phases = np.stack([next(means) for _ in range(_JPEG)]) + 1e-4
    gradient = across + down
    values = [
        _log(quiet),
        photo,
        np.log(np.maximum(square - photo**2, 0) + 1e-6),
        dark,
        light,
        _log(fine),
        _log(coarse),
        both / np.sqrt((fine + _FLOOR) * (coarse + _FLOOR)),
        _log(fine) - 2 * np.log(fine_size + 1e-5),
        _log(coarse) - 2 * np.log(coarse_size + 1e-5),
        _log(gradient),
        np.abs(_log(across) - _log(down)),
        np.log(fourth + 1e-12) - 2 * _log(gradient),
        np.log(phases.max(axis=0) / np.median(phases, axis=0)),
    ]
    of_heads = [[next(means) for _ in range(5)] for _ in range(num_heads)]
    products = {
        pair: next(means) for pair in zip(*map(list, np.tril_indices(num_heads)))
    }
    energies = [products[k, k] + _FLOOR for k in range(num_heads)]
    for energy, (mean, gradient, low, with_fine, with_coarse) in zip(
        energies, of_heads
    ):
        values += [
            np.log(energy),
            _log(gradient),
            _log(low),
            np.abs(mean) / np.sqrt(energy),
            with_fine / np.sqrt(energy * (fine + _FLOOR)),
            with_coarse / np.sqrt(energy * (coarse + _FLOOR)),
        ]
    for (i, j), product in products.items():
        if i != j:
            values.append(product / np.sqrt(energies[i] * energies[j]))
    if num_heads > 1:
        total = sum((1 if i == j else 2) * p for (i, j), p in products.items())
        spread = sum(energies) / num_heads - total / num_heads**2
        values.append(_log(np.maximum(spread, 0)))
    return np.stack(values).astype("float32")


def _sums(values):
    """Sums over blocks of 16x16 pixels; the last blocks may be smaller."""
    height, width = (size - size % BLOCK for size in values.shape)
    rows = values[:height].reshape(-1, BLOCK, values.shape[1]).sum(axis=1)
    if height < len(values):
        rows = np.concatenate([rows, values[height:].sum(axis=0, keepdims=True)])
    sums = rows[:, :width].reshape(len(rows), -1, BLOCK).sum(axis=2)
    if width < values.shape[1]:
        rest = rows[:, width:].sum(axis=1, keepdims=True)
        sums = np.concatenate([sums, rest], axis=1)
    return sums


def _means(values):
    """Means over 4x4 pixels; the last blocks repeat their last pixels."""
    padding = [(0, -size % BLOCK) for size in values.shape]
    values = np.pad(values, padding, "edge")
    rows = values.reshape(-1, _CELL, values.shape[1]).sum(axis=1)
    return rows.reshape(len(rows), -1, _CELL).sum(axis=2) / np.float32(_CELL**2)


def _of_blocks(cells):
    """The cells of 4x4 pixels of every block: (rows, 4, columns, 4)."""
    count = BLOCK // _CELL
    return cells.reshape(-1, count, cells.shape[1] // count, count)


def _log(energy):
    return np.log(energy + _FLOOR)


def _differences(values):
    across = np.diff(values, axis=-1, append=values[..., -1:])
    return across, np.diff(values, axis=-2, append=values[..., -1:, :])


def _phases(across):
    """Steps between columns, of every eighth column: JPEG's blocks begin at one."""
    size = _JPEG * np.abs(across)
    columns = np.arange(across.shape[1]) % _JPEG
    return [size * np.float32(columns == phase) for phase in range(_JPEG)]


def _smooth(values):
    """The binomial average of five pixels, down and across."""
    height, width = values.shape[-2:]
    padding = [(0, 0)] * (values.ndim - 2)
    wide = np.pad(values, [*padding, (2, 2), (0, 0)], "edge")
    a, b, c, d, e = (wide[..., k : k + height, :] for k in range(5))
    values = ((a + e) + 4 * (b + d) + 6 * c) * np.float32(1 / 16)
    wide = np.pad(values, [*padding, (0, 0), (2, 2)], "edge")
    a, b, c, d, e = (wide[..., k : k + width] for k in range(5))
    return ((a + e) + 4 * (b + d) + 6 * c) * np.float32(1 / 16)
