"""Photos larger than memory: overlapping tiles, blended."""

import math

import numpy as np

# Pixels that neighbouring tiles share, where one fades into the other.
OVERLAP = 64
SMALLEST_AUTO_TILE = 256


def tile_size(tile, shape, multiple, bytes_per_pixel, memory_limit_mb):
    """Tile size in pixels for an image, a multiple of the network's.

    Args:
        tile: None (the whole image at once), a number of pixels, or "auto".
        shape: (H, W) of the image.
        multiple: what the network pads to.
        bytes_per_pixel: what its activations take.
        memory_limit_mb: memory in MB for the network's activations, for "auto".

    Returns:
        A number; the image is not tiled if it is no smaller than H and W.

    Raises:
        ValueError: if `tile` is anything else or too small for the network.
    """
    if tile is None:
        return max(shape)
    if isinstance(tile, str) and tile == "auto":
        if not memory_limit_mb > 0:
            raise ValueError(
                "`memory_limit_mb` must be positive. "
                f"Received: memory_limit_mb={memory_limit_mb}"
            )
        pixels = memory_limit_mb * 1e6 / bytes_per_pixel
        if math.prod(shape) <= pixels:
            return max(shape)
        return max(SMALLEST_AUTO_TILE, int(pixels**0.5) // multiple * multiple)
    if not isinstance(tile, (int, np.integer)) or tile < 2 * multiple:
        raise ValueError(
            f'`tile` must be None, "auto" or a number of pixels of at least '
            f"{2 * multiple}. Received: tile={tile!r}"
        )
    return int(tile) + -int(tile) % multiple


def spans(size, tile, multiple):
    """Start and stop of the tiles along one axis of an image.

    Tiles begin at multiples of `multiple`, so that the network's down-sampling grid
    lies as in the whole image, overlap by `OVERLAP` pixels or more (less for tiles
    under twice that), and end with the image.
    """
    if tile >= size:
        return [(0, size)]
    overlap = min(OVERLAP, tile // 2) // multiple * multiple
    last = math.ceil((size - tile) / multiple)
    count = math.ceil(last / ((tile - overlap) // multiple))
    starts = [multiple * (last * index // count) for index in range(count + 1)]
    return [(start, min(start + tile, size)) for start in starts]


def blend_weights(tiles):
    """Weights of each tile along one axis, smooth, that sum to one everywhere."""
    size = tiles[-1][1]
    total = np.zeros(size)
    weights = []
    for start, stop in tiles:
        position = np.arange(start, stop) + 0.5
        inside = np.ones(stop - start)
        if start > 0:
            inside *= np.clip((position - start) / OVERLAP, 0, 1)
        if stop < size:
            inside *= np.clip((stop - position) / OVERLAP, 0, 1)
        weights.append(np.sin(np.pi / 2 * inside) ** 2)
        total[start:stop] += weights[-1]
    return [
        (weight / total[start:stop]).astype("float32")
        for weight, (start, stop) in zip(weights, tiles)
    ]


def run_tiled(function, image, rows, columns, on_tile=None):
    """Runs a function of images over the tiles of one image.

    Args:
        function: from (h, w, C) to (K, h, w, C).
        image: (H, W, C).
        rows, columns: `spans` of the height and of the width.
        on_tile: called after every tile.

    Returns:
        float32 (K, H, W, C).
    """
    if len(rows) == len(columns) == 1:
        result = function(image)
        if on_tile is not None:
            on_tile()
        return result
    result = None
    row_weights, column_weights = blend_weights(rows), blend_weights(columns)
    for (top, bottom), row_weight in zip(rows, row_weights):
        for (left, right), column_weight in zip(columns, column_weights):
            stack = function(image[top:bottom, left:right])
            if result is None:
                result = np.zeros((len(stack), *image.shape), "float32")
            weight = row_weight[:, None, None] * column_weight[:, None]
            result[:, top:bottom, left:right] += stack * weight
            if on_tile is not None:
                on_tile()
    return result
