"""Arithmetic of head images in NumPy: averages, medoid, composition, uncertainty."""

import numpy as np

from keras_mhdeblur.utils.disk_arrays import bands


def weighted_mean(heads, weights):
    """Weighted mean (H, W, C) of head images (K, H, W, C)."""
    return np.einsum("k,khwc->hwc", np.asarray(weights, "float32"), heads)


def medoid_index(heads, pairs):
    """Index of the hypothesis nearest to the mean of the hypotheses, in MSE.

    Args:
        heads: head images (K, H, W, C), not clipped.
        pairs: `Pairs`.
    """
    # No pair has to be formed: |d_i + d_j|^2 = G_ii + 2 G_ij + G_jj.
    gram = _gram_of_deviations(heads)
    distances = np.array([gram[i, i] + 2 * gram[i, j] + gram[j, j] for i, j in pairs])
    # Of four heads the pairs 0+1 and 2+3 are equally far, as are the other two and two:
    # the first of those that differ by rounding only.
    return int(np.argmax(distances <= distances.min() + 1e-4 * np.trace(gram)))


def order_on_line(heads, pairs):
    """Indices of the hypotheses in their order along the line they are nearest to.

    Hypotheses that show a motion lie along a line: the direction in which the head
    images vary most (their first principal component). Which end is first is open.

    Args:
        heads: head images (K, H, W, C), not clipped.
        pairs: `Pairs`.

    Returns:
        List of all indices.
    """
    _, vectors = np.linalg.eigh(_gram_of_deviations(heads))
    places = vectors[:, -1]
    return sorted(
        range(len(pairs)), key=lambda k: places[list(pairs.indices[k])].mean()
    )


def _gram_of_deviations(heads):
    """Products (K, K) of the head images less their mean."""
    gram = 0
    for rows in bands(heads.shape[1]):
        deviation = heads[:, rows] - heads[:, rows].mean(axis=0)
        deviation = deviation.reshape(len(heads), -1)
        gram += deviation @ deviation.T
    return gram


def compose(heads, labels, feather, pairs):
    """One image of which every region shows a hypothesis of its own.

    Args:
        heads: head images (K, H, W, C).
        labels: (H, W), index of the hypothesis at every pixel.
        feather: pixels on either side of a border over which one fades into the other.
        pairs: `Pairs`.

    Returns:
        float32 (H, W, C).
    """
    weights = np.zeros(heads.shape[:3], "float32")
    for label in np.unique(labels):
        # Two averages in a row: the fade has no corners.
        region = _box_average(_box_average(labels == label, feather), feather)
        for head in pairs.indices[label]:
            weights[head] += 0.5 * region
    return np.einsum("khw,khwc->hwc", weights, heads)


def _box_average(values, feather):
    """Averages over squares that two of them in a row reach `feather` pixels far."""
    reach = -(-feather // 2)
    values = np.asarray(values, "float32")
    for axis in (0, 1):
        padding = [(0, 0), (0, 0)]
        padding[axis] = (reach + 1, reach)
        sums = np.pad(values, padding, "edge").cumsum(axis, dtype="float64")
        size = values.shape[axis]
        ends = sums.take(range(2 * reach + 1, 2 * reach + 1 + size), axis)
        values = (ends - sums.take(range(size), axis)) / (2 * reach + 1)
    return values


def uncertainty(heads, pairs):
    """Standard deviation over the hypotheses at every pixel.

    Args:
        heads: head images (K, H, W, C).
        pairs: `Pairs`.

    Returns:
        float32 (H, W), in units of the image's range [0, 1]: the root of the
        variance's mean over the channels.
    """
    return np.sqrt(pairs.variance(heads, _variance, lambda x: np.split(x, 2)))


def _variance(heads):
    return np.square(heads - heads.mean(axis=0)).mean(axis=(0, -1))
