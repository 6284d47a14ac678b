"""What can be seen of a blurry photo and of its heads, block by block.

Moments are sums over blocks of 16x16 pixels, so that those of a neighbourhood or of a
whole photo are sums of them. Features are functions of moments: logarithms of energies,
and correlations. They tell how blurred, noisy and compressed a photo is, how much each
head changes it, whether that is detail or not, and how far the heads agree.
"""

import numpy as np

from keras_mhdeblur.hypotheses.adaptive import BLOCK, block_sums, brightness

# Added to energies before logarithms: a change by 1/40 of a level of 255.
_FLOOR = 1e-8
_DARK, _LIGHT = 0.02, 0.98
_JPEG = 8
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
    photo = brightness(image)
    changes = brightness(heads) - photo
    once = _smooth(photo)
    fine, coarse = photo - once, once - _smooth(_smooth(once))
    across, down = _differences(photo)
    parts = [
        np.ones_like(photo),
        photo,
        photo * photo,
        photo < _DARK,
        photo > _LIGHT,
        fine * fine,
        coarse * coarse,
        fine * coarse,
        np.abs(fine),
        np.abs(coarse),
        across * across,
        down * down,
        (across * across) ** 2 + (down * down) ** 2,
        *_phases(across),
    ]
    smooth = _smooth(_smooth(changes))
    for change, low in zip(changes, smooth):
        gradient = _differences(change)
        parts += [
            change,
            gradient[0] ** 2 + gradient[1] ** 2,
            low * low,
            change * fine,
            change * coarse,
        ]
    for i, j in zip(*np.tril_indices(len(heads))):
        parts.append(changes[i] * changes[j])
    sums = [_sums(np.asarray(part, "float32")) for part in parts]
    quiet = _quiet(fine) * sums[0]
    return np.stack([sums[0], quiet, *sums[1:]])


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
    """Sums over blocks; the last blocks may be smaller."""
    height, width = (size - size % BLOCK for size in values.shape)
    if (height, width) != values.shape or not values.size:
        return block_sums(values, (BLOCK, BLOCK))
    # Whole blocks: five times as fast.
    rows = values.reshape(height // BLOCK, BLOCK, width).sum(axis=1)
    return rows.reshape(len(rows), width // BLOCK, BLOCK).sum(axis=2)


def _log(energy):
    return np.log(energy + _FLOOR)


def _differences(values):
    across = np.diff(values, axis=-1, append=values[..., -1:])
    return across, np.diff(values, axis=-2, append=values[..., -1:, :])


def _phases(across):
    """Steps between columns, of every eighth column: JPEG's blocks begin at one."""
    size = np.abs(across)
    columns = np.arange(across.shape[1]) % _JPEG
    return [_JPEG * size * (columns == phase) for phase in range(_JPEG)]


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


def _quiet(fine):
    """Mean energy of the quietest 4x4 pixels of every block: noise, not detail."""
    height, width = fine.shape
    fine = np.pad(fine, ((0, -height % BLOCK), (0, -width % BLOCK)), "symmetric")
    energy = block_sums(fine * fine, (4, 4)) / 16
    rows, columns = (size // 4 for size in energy.shape)
    return energy.reshape(rows, 4, columns, 4).min(axis=(1, 3))
