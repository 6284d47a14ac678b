"""Hypotheses of a head stack, and the choice of one image among them."""

from typing import NamedTuple

import numpy as np

from keras_mhdeblur.combination import pair_indices
from keras_mhdeblur.inference.adaptive import adaptive_mean, check_coefficients
from keras_mhdeblur.scratch import bands


class Facts(NamedTuple):
    """What the choice of an image needs to know of a model."""

    num_heads: int
    combine_heads: object
    best_pair: tuple | None
    adaptive_weights: object


def hypothesis_names(num_heads, combine_heads):
    """Names of the hypotheses in order: "0", "0+1", "1", ... or "0", "1", ...

    Args:
        num_heads: number of head images K.
        combine_heads: which pairs are averaged, see `combination.pair_indices`.

    Returns:
        List of K' strings; "0+1" is the average of the heads 0 and 1.
    """
    pairs = pair_indices(num_heads, combine_heads)
    return [str(i) if i == j else f"{j}+{i}" for i, j in pairs]


def combine(heads, combine_heads):
    """Hypotheses (K', ...) of head images (K, ...), not clipped."""
    if not combine_heads:
        return heads
    pairs = pair_indices(len(heads), combine_heads)
    first, second = (list(index) for index in zip(*pairs))
    hypotheses = heads[first]
    hypotheses += heads[second]
    hypotheses *= 0.5
    return hypotheses


def weighted_mean(heads, weights):
    """Weighted mean (H, W, C) of head images (K, H, W, C)."""
    return np.einsum("k,khwc->hwc", np.asarray(weights, "float32"), heads)


def head_weights(model, select, argument="select"):
    """Weights of the heads whose sum is the selected image.

    Args:
        model: `Deblurrer` or `LiteRTModel`.
        select: as in `restore`, not None.
        argument: what errors call it.

    Returns:
        (K,) that sum to one, or None where the choice depends on the images
        ("medoid", "adaptive", a callable).

    Raises:
        ValueError: if there is no such choice or no such heads.
    """
    heads = model.num_heads
    pairs = pair_indices(heads, model.combine_heads)
    if callable(select) or (isinstance(select, str) and select == "medoid"):
        return None
    if isinstance(select, str) and select == "adaptive":
        check_coefficients(model.adaptive_weights, heads, argument)
        return None
    if isinstance(select, str) and select == "mean":
        # The mean over all hypotheses holds every head equally often.
        return np.full(heads, 1 / heads)
    choice = plain(select)
    if isinstance(choice, tuple) and any(isinstance(each, float) for each in choice):
        if len(choice) != len(pairs) or not _sum_to_one(choice):
            raise ValueError(
                f"`{argument}` must have {len(pairs)} weights, one per hypothesis, "
                f"that sum to one. Received: {argument}={select!r}"
            )
        return np.array(choice) @ np.eye(heads)[np.array(pairs)].mean(axis=1)
    # A text such as "01" is no pair.
    pair = None if isinstance(choice, str) else choice
    if isinstance(select, str) and select == "single":
        pair = model.best_pair or pairs[0]
    if isinstance(pair, int) and not isinstance(pair, bool):
        pair = (pair, pair)
    try:
        i, j = (int(head) for head in pair)
    except (TypeError, ValueError):
        raise ValueError(
            f'`{argument}` must be "mean", "medoid", "single", "adaptive", a pair of '
            "heads (i, j), a weight per hypothesis or a callable. "
            f"Received: {argument}={select!r}"
        ) from None
    if not (0 <= i < heads and 0 <= j < heads):
        raise ValueError(
            f"`{argument}` must name heads from 0 to {heads - 1}. "
            f"Received: {argument}={select!r}"
        )
    if (max(i, j), min(i, j)) not in pairs:
        possible = (
            f"a head from 0 to {heads // 2 - 1} and one from {heads // 2} on"
            if model.combine_heads
            else "one head, for this model does not combine heads"
        )
        raise ValueError(
            f"`{argument}` must name {possible}. Received: {argument}={select!r}"
        )
    return np.eye(heads)[[i, j]].mean(axis=0)


def _sum_to_one(weights):
    try:
        return abs(sum(weights) - 1) <= 1e-6  # False of NaN
    except TypeError:
        return False


def plain(choice):
    """A `select` or its like as Python's tuples and numbers.

    Arrays cannot be compared with a name, and no JSON file takes them.
    """
    if hasattr(choice, "__array__"):
        choice = np.asarray(choice).tolist()
    if isinstance(choice, (list, tuple)):
        return tuple(plain(each) for each in choice)
    return choice


def medoid_weights(heads, combine_heads):
    """Weights of the heads of the hypothesis nearest to the mean, in MSE.

    Args:
        heads: head images (K, H, W, C).
        combine_heads: which pairs are averaged, see `combination.pair_indices`.

    Returns:
        (K,) that sum to one.
    """
    pair = pair_indices(len(heads), combine_heads)[medoid_index(heads, combine_heads)]
    return np.eye(len(heads))[list(pair)].mean(axis=0)


def medoid_index(heads, combine_heads):
    """Index of the hypothesis nearest to the mean, in MSE; see `medoid_weights`."""
    # No pair has to be formed: |d_i + d_j|^2 = G_ii + 2 G_ij + G_jj.
    gram = 0
    for rows in bands(heads.shape[1]):
        deviation = heads[:, rows] - heads[:, rows].mean(axis=0)
        deviation = deviation.reshape(len(heads), -1)
        gram += deviation @ deviation.T
    pairs = pair_indices(len(heads), combine_heads)
    distances = np.array([gram[i, i] + 2 * gram[i, j] + gram[j, j] for i, j in pairs])
    # Of four heads the pairs 0+1 and 2+3 are equally far, as are the other two and two:
    # the first of those that differ by rounding only.
    return int(np.argmax(distances <= distances.min() + 1e-4 * np.trace(gram)))


def select_by(function, heads, combine_heads):
    """Image (H, W, C) that a user's function makes of head images' hypotheses."""
    hypotheses = np.clip(combine(heads, combine_heads), 0, 1)
    choice = np.asarray(function(hypotheses))
    if choice.shape == hypotheses.shape[1:] and choice.dtype.kind == "f":
        return choice.astype("float32")
    if choice.ndim == 0 and choice.dtype.kind in "iu" and 0 <= choice < len(hypotheses):
        return hypotheses[int(choice)]
    raise ValueError(
        f"`select` must return an index below {len(hypotheses)} or a float image of "
        f"shape {hypotheses.shape[1:]}. Received: select(hypotheses)={choice.dtype} of "
        f"shape {choice.shape}" + (f", {choice}" if choice.ndim == 0 else "")
    )


def choose(heads, image, select, model):
    """One image (H, W, C) of the head images (K, H, W, C) by a `select` of `restore`.

    Args:
        heads: head images.
        image: the blurry one (H, W, C).
        select: as in `restore`, not None.
        model: `Deblurrer` or `LiteRTModel`, or a `Facts` of it.
    """
    if callable(select):
        return select_by(select, heads, model.combine_heads)
    weights = head_weights(model, select)
    if weights is None and select == "adaptive":
        return adaptive_mean(heads, image, model.adaptive_weights)
    if weights is None:
        weights = medoid_weights(heads, model.combine_heads)
    return weighted_mean(heads, weights)


def compose(heads, labels, feather, combine_heads):
    """One image of which every region shows a hypothesis of its own.

    Args:
        heads: head images (K, H, W, C).
        labels: (H, W), index of the hypothesis at every pixel.
        feather: pixels on either side of a border over which one fades into the other.
        combine_heads: which pairs are averaged, see `combination.pair_indices`.

    Returns:
        float32 (H, W, C).
    """
    pairs = pair_indices(len(heads), combine_heads)
    weights = np.zeros(heads.shape[:3], "float32")
    for label in np.unique(labels):
        # Two averages in a row: the fade has no corners.
        region = _box_average(_box_average(labels == label, feather), feather)
        for head in pairs[label]:
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


def uncertainty(heads, combine_heads):
    """Standard deviation over the hypotheses at every pixel.

    Args:
        heads: head images (K, H, W, C).
        combine_heads: which pairs are averaged, see `combination.pair_indices`.

    Returns:
        float32 (H, W), in units of the image's range [0, 1]: the root of the
        variance's mean over the channels.
    """
    if combine_heads == "axes":
        # The two averaged heads vary independently of each other.
        variance = sum(_variance(half) for half in np.split(heads, 2)) / 4
    else:
        variance = _variance(heads)
    if combine_heads is True:
        # Over the K(K+1)/2 pair averages it is this multiple of that over the heads.
        variance *= (len(heads) + 2) / (2 * (len(heads) + 1))
    return np.sqrt(variance)


def _variance(heads):
    return np.square(heads - heads.mean(axis=0)).mean(axis=(0, -1))
