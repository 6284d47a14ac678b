"""Global and local average pooling (TLC)."""

import numpy as np
from keras import ops

from keras_mhdeblur.layers.static_shapes import static_shapes_wanted
from keras_mhdeblur.utils.types import Size, Tensor

# Rows that one matrix product sums; 8 to 64 take about the same time.
_BLOCK = 16
# Windows along rows and columns up to which LiteRT's own pooling, on all threads, is
# faster than running sums, on one.
_LARGEST_POOLED = {1: 32, 2: 192}


def average_pool(x: Tensor, window_size: Size | None = None) -> Tensor:
    """Average over a sliding window: global pooling made local at test time (TLC).

    A network trained on small crops sees statistics of a small crop. At test time
    on a large image the average over the whole image is another statistic; the
    average over a window of about the training size is not. Source: Chu et al.,
    "Improving Image Restoration by Revisiting Global Information Aggregation",
    ECCV 2022.

    Args:
        x: features (B, H, W, C). Sums are formed in float32 whatever their dtype.
        window_size: (height, width) of the window in pixels, or None.

    Returns:
        (B, H, W, C): every position holds the mean of the window around it; the border
        repeats the outermost complete windows. Where the window is at least as large
        as the image, every position holds the global mean. Without a window (B, 1, 1,
        C), the global mean.
    """
    dtype = x.dtype
    x = ops.cast(x, "float32")
    if window_size is None:
        x = ops.mean(x, axis=(1, 2), keepdims=True)
    else:
        for axis, window in zip((1, 2), window_size):
            x = _sliding_mean(x, window, axis)
    return ops.cast(x, dtype)


def _sliding_mean(x, window, axis):
    """Mean over `window` positions along `axis`, the ends replicated.

    One-dimensional running sums: they stay smaller, hence more exact, than a
    two-dimensional integral image.
    """
    pooled = static_shapes_wanted() and window <= _LARGEST_POOLED[axis]
    pool_size = tuple(window if index == axis else 1 for index in (1, 2))
    size = ops.shape(x)[axis]
    window = ops.minimum(window, size)
    before = (window - 1) // 2
    center = ops.clip(ops.arange(size), before, before + size - window)
    if pooled:
        # "same" keeps the size, which LiteRT can plan with. Windows that reach over
        # the border are means of fewer positions; none of them is taken.
        x = ops.average_pool(x, pool_size, 1, "same", data_format="channels_last")
        return ops.take(x, center, axis=axis)
    start = center - before
    if axis == 1 and not static_shapes_wanted():
        sums = _sums_of_rows(x)
    else:
        zero_first = [(1, 0) if index == axis else (0, 0) for index in range(4)]
        sums = ops.cumsum(ops.pad(x, zero_first), axis=axis)
    total = ops.take(sums, start + window, axis=axis) - ops.take(sums, start, axis=axis)
    return total / ops.cast(window, x.dtype)


def _sums_of_rows(x):
    """Sums of the first 0, 1, 2, ... rows, all of them and some more.

    Within blocks by a product with a triangular matrix, then of the blocks: the same
    sums by `ops.cumsum` take six times as long in TensorFlow on a CPU, and are less
    exact. LiteRT is as fast either way. Along rows it would lose by the product.
    """
    height, width = ops.shape(x)[1:3]
    channels = x.shape[3]
    count = (height + 1) // _BLOCK + 1
    # A row of zeros before the first, to begin with the sum of none.
    below = count * _BLOCK - height - 1
    x = ops.pad(x, ((0, 0), (1, below), (0, 0), (0, 0)))
    blocks = ops.reshape(x, (-1, count, _BLOCK, width * channels))
    blocks = ops.matmul(np.tri(_BLOCK, dtype="float32"), blocks)
    totals = ops.pad(blocks[:, :, -1:], ((0, 0), (1, 0), (0, 0), (0, 0)))
    blocks = blocks + ops.cumsum(totals, axis=1)[:, :-1]
    return ops.reshape(blocks, (-1, count * _BLOCK, width, channels))
