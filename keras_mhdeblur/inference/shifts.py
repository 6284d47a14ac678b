"""Displacement between two images, tile by tile."""

import numpy as np

_ROUNDS = 6


def shift_map(image, reference, tile):
    """Sub-pixel displacement of an image against another, per tile.

    Phase correlation gives whole pixels, up to half a tile; Lucas and Kanade's method
    from there on the rest.

    Args:
        image, reference: (H, W), of one range.
        tile: side of the square tiles in pixels, at least 8 and at most H and W. The
            last ones end with the image, so that they overlap others.

    Returns:
        float32 (rows, columns, 2): pixels (down, right) by which the image's content
        lies off the reference's; NaN where a tile has no texture in both directions.
    """
    corners = [_starts(size, tile) for size in image.shape]
    top, left = (each.ravel() for each in np.meshgrid(*corners, indexing="ij"))
    inside = np.arange(tile)
    rows = top[:, None, None] + inside[:, None]
    columns = left[:, None, None] + inside
    image, reference = (np.asarray(each, "float64") for each in (image, reference))
    window = np.outer(*[np.hanning(tile + 2)[1:-1]] * 2)
    tiles = image[rows, columns]
    shifts = _whole_pixels(tiles, reference[rows, columns], window)
    for _ in range(_ROUNDS):
        moved = _sampled(
            reference, rows - shifts[:, :1, None], columns - shifts[:, 1:, None]
        )
        slopes = np.stack(np.gradient(moved, axis=(1, 2)), axis=-1)
        normal = np.einsum("yx,nyxi,nyxj->nij", window, slopes, slopes)
        moment = np.einsum("yx,nyxi,nyx->ni", window, slopes, moved - tiles)
        textured = np.linalg.eigvalsh(normal)[:, 0] > 1e-6 * window.sum()
        normal[~textured] = np.eye(2)
        step = np.linalg.solve(normal, moment[..., None])[..., 0]
        shifts = shifts + np.clip(step, -1, 1)
    shifts[~textured] = np.nan
    return shifts.reshape(*map(len, corners), 2).astype("float32")


def _starts(size, tile):
    starts = list(range(0, size - tile + 1, tile))
    if starts[-1] + tile < size:
        starts.append(size - tile)
    return starts


def _whole_pixels(tiles, references, window):
    """(N, 2), the peaks of the phase correlation of tiles (N, n, n)."""
    side = tiles.shape[1]
    spectra = [
        np.fft.fft2((each - each.mean(axis=(1, 2), keepdims=True)) * window)
        for each in (tiles, references)
    ]
    cross = spectra[0] * spectra[1].conj()
    # Only in part: without amplitudes noise would count as much as content.
    cross /= np.sqrt(np.abs(cross)) + 1e-9
    peak = np.fft.ifft2(cross).real.reshape(len(cross), -1).argmax(axis=1)
    whole = np.stack(np.unravel_index(peak, (side, side)), axis=-1)
    return (whole + side // 2) % side - side // 2  # negative ones wrap around


def _sampled(image, rows, columns):
    """Bilinear samples of (H, W) at fractional positions; the borders are repeated."""
    height, width = image.shape
    rows, columns = np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)
    top = np.minimum(rows.astype(int), height - 2)
    left = np.minimum(columns.astype(int), width - 2)
    down, right = rows - top, columns - left
    upper = image[top, left] * (1 - right) + image[top, left + 1] * right
    lower = image[top + 1, left] * (1 - right) + image[top + 1, left + 1] * right
    return upper * (1 - down) + lower * down
