"""The choice of one image among the hypotheses."""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np

from keras_mhdeblur.hypotheses.adaptive import adaptive_bands, check_coefficients
from keras_mhdeblur.hypotheses.calibration import Calibration
from keras_mhdeblur.hypotheses.pairs import Pairs
from keras_mhdeblur.hypotheses.stacks import medoid_index, weighted_mean
from keras_mhdeblur.utils.disk_arrays import bands
from keras_mhdeblur.utils.types import Select


@dataclasses.dataclass(frozen=True)
class HeadInfo:
    """Facts about a model's heads.

    Attributes:
        pairs: `Pairs`.
        best_pair: pair (i, j) that "single" stands for; None for the first.
        adaptive_weights: coefficients that "adaptive" needs, or None.
        calibration: `Calibration` of the model's own choice, or None.
    """

    pairs: Pairs
    best_pair: tuple | None = None
    adaptive_weights: tuple | None = None
    calibration: Calibration | None = None

    def parse(self, select: Select, argument: str = "select") -> "Selection":
        """The `Selection` that a `select` of `restore` names.

        Args:
            select: "mean", "medoid", "single", "adaptive", a pair of heads (i, j), a
                head i, a weight per hypothesis, or a function.
            argument: what errors call it.

        Raises:
            ValueError: if there is no such choice or no such heads.
        """
        if callable(select):
            return Custom(select, self.pairs)
        choice = to_python(select)
        if isinstance(choice, str):
            return self._named(choice, argument)
        if isinstance(choice, tuple) and float in map(type, choice):
            return self._weighted(choice, select, argument)
        return self._pair(choice, select, argument)

    def _named(self, name, argument):
        num_heads = self.pairs.num_heads
        if name == "medoid":
            return Medoid(self.pairs)
        if name == "mean":
            # The mean over all hypotheses holds every head equally often.
            return Weighted(np.full(num_heads, 1 / num_heads))
        if name == "adaptive":
            check_coefficients(self.adaptive_weights, num_heads, argument)
            return Adaptive(self.adaptive_weights)
        if name == "single":
            pair = self.best_pair or self.pairs.indices[0]
            return self._pair(pair, pair, "best_pair")
        return self._refuse(name, argument)

    def _weighted(self, weights, select, argument):
        if len(weights) != len(self.pairs) or not _sum_to_one(weights):
            raise ValueError(
                f"`{argument}` must have {len(self.pairs)} weights, one per "
                f"hypothesis, that sum to one. Received: {argument}={select!r}"
            )
        return Weighted(np.array(weights) @ self._heads_of(self.pairs.indices))

    def _pair(self, pair, select, argument):
        heads = self.pairs.num_heads
        if isinstance(pair, int) and not isinstance(pair, bool):
            pair = (pair, pair)
        try:
            i, j = (int(head) for head in pair)
        except (TypeError, ValueError):
            self._refuse(select, argument)
        if not (0 <= i < heads and 0 <= j < heads):
            raise ValueError(
                f"`{argument}` must name heads from 0 to {heads - 1}. "
                f"Received: {argument}={select!r}"
            )
        if (max(i, j), min(i, j)) not in self.pairs.indices:
            raise ValueError(
                f"`{argument}` must name {self.pairs.explained()}. "
                f"Received: {argument}={select!r}"
            )
        return Weighted(self._heads_of([(i, j)])[0])

    def _heads_of(self, pairs):
        """Weights (N, K) of the heads in the averages of N pairs."""
        return np.eye(self.pairs.num_heads)[np.array(pairs)].mean(axis=1)

    def _refuse(self, select, argument):
        raise ValueError(
            f'`{argument}` must be "mean", "medoid", "single", "adaptive", a pair of '
            "heads (i, j), a weight per hypothesis or a callable. "
            f"Received: {argument}={select!r}"
        ) from None


class Selection:
    """A way to make one image of head images.

    Attributes:
        weights: (K,) of the heads, that sum to one, where the image is a weighted mean
            with fixed weights and can be folded into the last convolution; None else.
        is_local: whether the image at a place depends on what is around it only, so
            that tiles can be restored one by one.
    """

    weights: np.ndarray | None = None
    is_local = False

    def weights_for(self, heads: np.ndarray) -> np.ndarray | None:
        """Weights (K,) for head images (K, H, W, C)."""
        return self.weights

    def bands(
        self, heads: np.ndarray, crop: Callable[[slice], np.ndarray]
    ) -> Iterator[tuple[int, int, np.ndarray]]:
        """The selected image some rows at a time.

        Args:
            heads: head images (K, H, W, C), not clipped.
            crop: function from a slice of rows to the blurry image there.

        Yields:
            (top, bottom, image): rows of the image, float32 (bottom - top, W, C).
        """
        weights = self.weights_for(heads)
        for rows in bands(heads.shape[1]):
            yield rows.start, rows.stop, weighted_mean(heads[:, rows], weights)

    def image(self, heads: np.ndarray, blurry: np.ndarray) -> np.ndarray:
        """The selected image, float32 (H, W, C), not clipped.

        Args:
            heads: head images (K, H, W, C), not clipped.
            blurry: the blurry image (H, W, C) in [0, 1].
        """
        parts = self.bands(heads, lambda rows: blurry[rows])
        return np.concatenate([image for _, _, image in parts])


class Weighted(Selection):
    """A weighted mean of the heads."""

    is_local = True

    def __init__(self, weights):
        self.weights = weights


class Medoid(Selection):
    """The hypothesis nearest to the mean of the hypotheses, in MSE before clipping."""

    def __init__(self, pairs):
        self.pairs = pairs

    def weights_for(self, heads):
        pair = self.pairs.indices[medoid_index(heads, self.pairs)]
        return np.eye(len(heads))[list(pair)].mean(axis=0)


class Adaptive(Selection):
    """A weighted mean of the heads with weights that vary over the image."""

    is_local = True

    def __init__(self, coefficients):
        self.coefficients = coefficients

    def bands(self, heads, crop):
        return adaptive_bands(heads, crop, self.coefficients)


class Custom(Selection):
    """A user's function of the hypotheses (K', H, W, C), clipped to [0, 1]."""

    def __init__(self, function, pairs):
        self.function = function
        self.pairs = pairs

    def bands(self, heads, crop):
        hypotheses = np.clip(self.pairs.combined(heads), 0, 1)
        yield 0, heads.shape[1], self._chosen(hypotheses)

    def _chosen(self, hypotheses):
        choice = np.asarray(self.function(hypotheses))
        if choice.shape == hypotheses.shape[1:] and choice.dtype.kind == "f":
            return choice.astype("float32")
        is_index = choice.ndim == 0 and choice.dtype.kind in "iu"
        if is_index and 0 <= choice < len(hypotheses):
            return hypotheses[int(choice)]
        raise ValueError(
            f"`select` must return an index below {len(hypotheses)} or a float image "
            f"of shape {hypotheses.shape[1:]}. Received: select(hypotheses)="
            f"{choice.dtype} of shape {choice.shape}"
            + (f", {choice}" if choice.ndim == 0 else "")
        )


def to_python(choice):
    """Arrays and lists as tuples of numbers, which compare and go into JSON."""
    if hasattr(choice, "__array__"):
        choice = np.asarray(choice).tolist()
    if isinstance(choice, (list, tuple)):
        return tuple(to_python(each) for each in choice)
    return choice


def _sum_to_one(weights):
    try:
        return abs(sum(weights) - 1) <= 1e-6  # False of NaN
    except TypeError:
        return False
