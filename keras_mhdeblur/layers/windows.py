"""Overlapping windows of feature maps: cut out, and averaged back together."""

from keras import ops


def window_starts(size, window):
    """Where windows start that cover an axis evenly, and their size.

    They are as many as are needed side by side; each but the last starts a fixed step
    after the one before it, the last ends with the axis. No position is in more than
    two of them.

    Args:
        size: size of the axis, a number or a scalar tensor.
        window: size of the windows; the axis' own if that is smaller.

    Returns:
        Tensor of starts, and the window size.
    """
    # Known sizes stay numbers: JAX cannot make shapes of tensors.
    known = isinstance(size, int)
    smaller, larger = (min, max) if known else (ops.minimum, ops.maximum)
    window = smaller(window, size)
    last = size - window
    # Rounded up without negative numbers, whose quotients are others in ONNX.
    gaps = larger((size - 1) // window, 1)
    step = larger((last + gaps - 1) // gaps, 1)
    count = (last + step - 1) // step + 1
    return ops.minimum(ops.arange(count) * step, last), window


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
        index = starts[:, None] + ops.arange(window)
        x = ops.take(x, ops.reshape(index, (-1,)), axis=axis)
        shape += [ops.shape(starts)[0], window]
    x = ops.transpose(ops.reshape(x, (-1, *shape, channels)), (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (-1, shape[1], shape[3], channels))


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
    x = ops.reshape(windows, (-1, rows, columns, row_size, column_size, channels))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
    x = ops.reshape(x, (-1, rows * row_size, columns * column_size, channels))
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
    return ops.reshape(x, (-1, height, width, channels))


def _count(conditions):
    return ops.sum(ops.cast(conditions, "int32"), axis=-1)
