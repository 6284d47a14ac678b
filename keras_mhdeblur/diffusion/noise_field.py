"""Noise that is fixed by the place in a photo."""

import numpy as np

_BLOCK = 64


def noise_field(
    rows: slice, columns: slice, channels: int, key: tuple[int, ...]
) -> np.ndarray:
    """Normal noise in a region of an endless image.

    Two regions have the same noise where they overlap. So tiles of any size see the
    noise of the photo.

    Args:
        rows, columns: the region.
        channels: number of channels C.
        key: non-negative numbers below 2**32 that tell one image from others.

    Returns:
        float32 (h, w, C).
    """

    def block(row, column):
        generator = np.random.default_rng([*key, row, column])
        return generator.standard_normal((_BLOCK, _BLOCK, channels), "float32")

    top, left = rows.start // _BLOCK, columns.start // _BLOCK
    bottom, right = -(-rows.stop // _BLOCK), -(-columns.stop // _BLOCK)
    blocks = [
        np.concatenate([block(row, column) for column in range(left, right)], axis=1)
        for row in range(top, bottom)
    ]
    down, across = (
        slice(part.start - _BLOCK * first, part.stop - _BLOCK * first)
        for part, first in ((rows, top), (columns, left))
    )
    return np.concatenate(blocks)[down, across]
