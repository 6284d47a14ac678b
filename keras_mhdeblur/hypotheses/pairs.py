"""Pairs of heads that combine into hypotheses."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np

from keras_mhdeblur.utils.types import Tensor


@dataclasses.dataclass(frozen=True)
class Pairs:
    """The pairs of heads whose averages are the hypotheses.

    Args:
        num_heads: number of head images K.
        combine: True for all pairs, (i, i) included; False for (i, i) only, every head
            by itself; "axes" for every head of the second half with every head of the
            first, for networks with two decoders (`networks.XYDeblur`).

    Attributes:
        indices: tuple of pairs (i, j), j <= i: K(K+1)/2, K or (K/2)^2 of them. Of all
            pairs the order is the lower triangle row by row, (0, 0), (1, 0), (1, 1),
            (2, 0), ..., so that (i, j) has the index `i * (i + 1) // 2 + j`.
        names: list of the hypotheses' names in order, "0", "0+1", "1", ... or "0",
            "1", ...; "0+1" is the average of the heads 0 and 1.
    """

    num_heads: int
    combine: bool | str = True

    def __len__(self):
        return len(self.indices)

    def __iter__(self):
        return iter(self.indices)

    @functools.cached_property
    def indices(self) -> tuple[tuple[int, int], ...]:
        triangle = [(i, j) for i in range(self.num_heads) for j in range(i + 1)]
        if self.combine == "axes":
            half = self.num_heads // 2
            return tuple((i, j) for i, j in triangle if j < half <= i)
        if self.combine:
            return tuple(triangle)
        return tuple((i, i) for i in range(self.num_heads))

    @property
    def names(self) -> list[str]:
        return [str(i) if i == j else f"{j}+{i}" for i, j in self.indices]

    def combined(self, heads: np.ndarray) -> np.ndarray:
        """Hypotheses (K', ...) of head images (K, ...), not clipped."""
        if not self.combine:
            return heads
        first, second = (list(index) for index in zip(*self.indices))
        hypotheses = heads[first]
        hypotheses += heads[second]
        hypotheses *= 0.5
        return hypotheses

    def variance(
        self,
        heads: Tensor,
        variance_of: Callable[[Tensor], Tensor],
        split: Callable[[Tensor], Sequence[Tensor]],
    ) -> Tensor:
        """Variance over the hypotheses, from that over the heads.

        Args:
            heads: head images.
            variance_of: function from head images to the variance over them.
            split: function from head images to both halves of them.
        """
        if self.combine == "axes":
            # The two averaged heads vary independently of each other.
            return sum(variance_of(half) for half in split(heads)) / 4
        variance = variance_of(heads)
        if self.combine:
            # Over the K(K+1)/2 pair averages it is this multiple of that over the K.
            factor = (self.num_heads + 2) / (2 * (self.num_heads + 1))
            variance = variance * factor
        return variance

    def explained(self) -> str:
        """The pairs in words, for messages that ask for one of them."""
        half = self.num_heads // 2
        if self.combine == "axes":
            return f"a head from 0 to {half - 1} and one from {half} on"
        return "one head, for this model does not combine heads"


def pair_indices(num_heads, combine=True):
    """`Pairs.indices` as a list."""
    return list(Pairs(num_heads, combine).indices)
