"""Overlapping windows of feature maps: cut out, and averaged back together."""

from keras import ops

from keras_mhdeblur.layers.static_shapes import reshape


def window_starts(size, window):
    """Starts of the windows that cover an axis, and their size.

    They lie side by side from the first position on, but for the last, which ends with
    the axis: a tile that begins and ends with windows of an image has the same ones.
    (TLC's own code spreads the overlap of the last one over all.) No position is in
    more than two of them.

    Args:
        size: size of the axis, a number or a scalar tensor.
        window: size of the windows; the axis' own if that is smaller.

    Returns:
        Tensor of starts, and the window size.
    """
    # Sizes of tensors: where the axis' size is known, JAX has them as numbers, and
    # LiteRT infers them, but nothing from arithmetic with sizes (see `static_shapes`).
    starts = ops.arange(size)[::window]
    window = ops.shape(ops.arange(size)[:window])[0]
    return ops.minimum(starts, size - window), window


def cut_windows(x, grid):
    """Cuts windows out of feature maps.

    Args:
        x: (B, H, W, C).
        grid: `window_starts` of the height and of the width.

    Returns:
        (B * rows * columns, h, w, C).
    """
    channels = x.shape[-1]
    shape = []
    for axis, (starts, window) in zip((1, 2), grid):
        x = ops.take(x, _positions(starts, window), axis=axis)
        shape += [ops.shape(starts)[0], window]
    x = ops.transpose(reshape(x, (-1, *shape, channels)), (0, 1, 3, 2, 4, 5))
    return reshape(x, (-1, shape[1], shape[3], channels))


def average_windows(windows, grid, height, width):
    """Puts the windows of `cut_windows` back; where two overlap, their mean.

    Args:
        windows: (B * rows * columns, h, w, C).
        grid: as for `cut_windows`.
        height, width: H and W.

    Returns:
        (B, H, W, C).
    """
    channels = windows.shape[-1]
    (row_starts, row_size), (column_starts, column_size) = grid
    rows, columns = ops.shape(row_starts)[0], ops.shape(column_starts)[0]
    x = reshape(windows, (-1, rows, columns, row_size, column_size, channels))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
    # All rows of the windows, one window after the other, and all columns.
    joined = [ops.shape(_positions(*axis))[0] for axis in grid]
    x = reshape(x, (-1, *joined, channels))
    for axis, (starts, window), size in zip((1, 2), grid, (height, width)):
        position = ops.arange(size)
        # Of the one or two windows that hold a position. Comparisons with few starts,
        # as `searchsorted` is missing in LiteRT.
        first = _count(starts + window <= position[:, None])
        last = _count(starts <= position[:, None]) - 1
        x = 0.5 * sum(
            ops.take(x, owner * window + position - ops.take(starts, owner), axis=axis)
            for owner in (first, last)
        )
    return reshape(x, (-1, height, width, channels))


def _positions(starts, window):
    """Positions in all windows, (count * window,)."""
    return ops.reshape(starts[:, None] + ops.arange(window), (-1,))


def _count(conditions):
    return ops.sum(ops.cast(conditions, "int32"), axis=-1)
