"""The adaptive mean of `hypotheses.adaptive` as a part of an exported graph."""

import keras
import numpy as np
from keras import ops

from keras_mhdeblur.hypotheses.adaptive import BLOCK, FLOOR, REACH
from keras_mhdeblur.layers.spatial import padded_size

# Files store constants as float16, too, which has no FLOOR. So changes are multiplied
# by this, and energies, their squares, are in units of FLOOR.
_SCALE = FLOOR**-0.5


class AdaptiveMean(keras.layers.Layer):
    """The mean of the heads with weights that follow the place.

    `hypotheses.selection.Adaptive` of a batch, in forms that survive export: sizes
    are read off tensors or are those of gathers, so that LiteRT can plan its memory
    (see `layers.static_shapes`), and there is no convolution or matrix product, which
    LiteRT's int8 weights would make too coarse.

    Call arguments:
        heads: (B, K, H, W, C), not clipped.
        image: the blurry images (B, H, W, C).

    Output: (B, H, W, C), not clipped.

    Args:
        coefficients: (K, F + 1), the `adaptive_weights` of a `Deblurrer`.
    """

    def __init__(self, coefficients, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.coefficients = np.asarray(coefficients, "float32")

    def call(self, heads, image):
        values = self._features(heads, image)
        # For energies in units of FLOOR. What all rows share the softmax takes off;
        # without it they are smaller, and more exact as float16.
        rows = self.coefficients.astype("float64")
        rows[:, -1] += np.log(FLOOR) * rows[:, : 2 * heads.shape[1]].sum(axis=1)
        rows = (rows - rows.mean(axis=0)).astype("float32")
        logits = [ops.sum(values * row[:-1], -1, True) + row[-1] for row in rows]
        weights = ops.softmax(ops.concatenate(logits, axis=-1))
        for axis in (1, 2):
            weights = _at_pixels(weights, axis, ops.shape(image)[axis])
        heads = [heads[:, k] for k in range(heads.shape[1])]
        return sum(weights[..., k : k + 1] * head for k, head in enumerate(heads))

    def compute_output_shape(self, heads_shape, image_shape):
        return image_shape

    def _features(self, heads, image):
        """`hypotheses.adaptive.features`, energies in units of FLOOR.

        Returns:
            (B, rows, columns, F).
        """
        num_heads = heads.shape[1]
        change = ops.mean(heads - ops.expand_dims(image, 1), axis=-1)
        change = ops.transpose(_SCALE * change, (0, 2, 3, 1))
        inside = ops.ones_like(change[..., :1])
        for axis in (1, 2):
            size = ops.shape(change)[axis]
            index = ops.arange(padded_size(size, BLOCK))
            # Up to whole blocks the last row is repeated, so that there is no gradient
            # behind it, and does not count.
            change = ops.take(change, ops.minimum(index, size - 1), axis=axis)
            inside = ops.take(inside, ops.minimum(index, size - 1), axis=axis)
            counts = ops.cast(index < size, "float32")
            inside *= ops.reshape(counts, [-1 if axis == k else 1 for k in range(4)])
        rows, columns = change[:, ::4], change[:, :, ::4]
        in_rows, in_columns = inside[:, ::4], inside[:, :, ::4]

        first, second = np.triu_indices(num_heads)
        products = [_one(rows, i) * _one(rows, j) for i, j in zip(first, second)]
        across = ops.square(_next(rows, 2) - rows)
        down = ops.square(_next(columns, 1) - columns)
        rows = in_rows * ops.concatenate([*products, across, in_rows], axis=-1)
        rows = _neighbourhood(rows, (BLOCK // 4, BLOCK))
        down = _neighbourhood(in_columns * down, (BLOCK, BLOCK // 4))
        means = rows[..., :-1] / rows[..., -1:]
        gradient = means[..., len(first) :] + down / rows[..., -1:]
        energy = [_one(means, index) + 1 for index in np.flatnonzero(first == second)]
        correlation = [
            _one(means, index) * ops.rsqrt(energy[i]) * ops.rsqrt(energy[j])
            for index, (i, j) in enumerate(zip(first, second))
            if i != j
        ]
        logarithms = ops.log(ops.concatenate([*energy, gradient + 1], axis=-1))
        return ops.concatenate([logarithms, *correlation], axis=-1)


def _one(x, channel):
    return x[..., channel : channel + 1]


def _next(x, axis):
    """Each position's neighbour behind it; the last one's is itself."""
    size = ops.shape(x)[axis]
    return ops.take(x, ops.minimum(ops.arange(size) + 1, size - 1), axis=axis)


def _neighbourhood(x, block):
    """Means over the blocks around every block, all over the same number of values.

    Pooling with "same" padding leaves out what is beyond the border, of all channels
    alike, so that quotients of such means are those of sums.
    """
    x = ops.average_pool(x, block, block, "valid", data_format="channels_last")
    reach = 2 * REACH + 1
    return ops.average_pool(x, reach, 1, "same", data_format="channels_last")


def _at_pixels(x, axis, size):
    """Values of blocks at `size` pixels, linear between the blocks' centres."""
    last = ops.cast(ops.shape(x)[axis] - 1, "float32")
    place = (ops.cast(ops.arange(size), "float32") + 0.5) / BLOCK - 0.5
    place = ops.clip(place, 0.0, last)
    before = ops.floor(place)
    fraction = ops.reshape(place - before, [-1 if axis == k else 1 for k in range(4)])
    first = ops.take(x, ops.cast(before, "int32"), axis=axis)
    second = ops.take(x, ops.cast(ops.minimum(before + 1, last), "int32"), axis=axis)
    return first + fraction * (second - first)
