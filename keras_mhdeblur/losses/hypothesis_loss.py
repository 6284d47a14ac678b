"""The loss over a stack of hypotheses that assigns the winner."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_mhdeblur.layers import bilinear_downsample
from keras_mhdeblur.losses.assignment import (
    count_targets,
    hypothesis_losses,
    weights_per_target,
    winner,
)
from keras_mhdeblur.losses.image_losses import refuse_reduction
from keras_mhdeblur.utils.types import LossLike, Tensor

# Entries of configurations saved before annealing had a class of its own; only these
# values mean this loss.
_FORMER_ENTRIES = {
    "assignment": "hard",
    "annealing_steps": None,
    "balance": 0.0,
    "stage_assignment": "independent",
}


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class HypothesisLoss(keras.losses.Loss):
    """Loss of the hypothesis nearest to the label, per sample (winner takes all).

    Labels are (B, H, W, C), predictions head stacks (B, K, H, W, C), or a list of
    them, one per stage, final stage first; the stage losses add up. The value per
    sample is the loss of the winner, so only the winner is trained.
    Source: arXiv 2208.13029, eq. 4 to 6.

    A blurry photo has several right answers: every moment of its exposure. So labels
    may be (B, T, H, W, C), T targets per sample, with T known. Every target has a
    winner of its own, as in arXiv 2311.01052, and the values are (B, T), one per
    target. The `sample_weight` of a call is then (B,), one weight per sample, or
    (B, T), one per target; 0 leaves a target out, and `losses.target_weights` lets
    samples of fewer targets count as much as others. Mean squared errors come from the
    products of K + T images. Other losses take one target after the other, but in
    training the values of all T x K' images may stay in memory.

    Stacks may also have half or a quarter of the label's height and width, as those
    that MAXIM (arXiv 2201.02973) is trained with. They are compared with the label
    made smaller by `layers.bilinear_downsample`, and are stages like others.

    A head that loses from the start is never trained. With `relaxation` the losers
    share a small part of the gradient (arXiv 1612.00197, eq. 6), which keeps it alive.

    A subclass may change while training: `Deblurrer` calls the loss that `at_step`
    returns.

    Args:
        base: the loss of one image, an `ImageLoss` or any Keras loss, with the default
            `reduction`.
        combine: which pair averages of the heads are the hypotheses, see
            `hypotheses.pairs.Pairs`.
        relaxation: weight that all hypotheses but the winner share; the winner has the
            rest of 1. 0 is the paper's winner takes all.

    Raises:
        ValueError: `relaxation` is out of its range, or `base` has another `reduction`;
            in a call, a stack's known size is not the label's, half of it or a quarter,
            the number of targets is unknown, or weights or labels have a shape that is
            not named here.
    """

    def __init__(
        self,
        base: LossLike,
        combine: bool | str = True,
        relaxation: float = 0.0,
        name: str = "hypothesis_loss",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        if not 0 <= relaxation < 1:
            raise ValueError(
                "`relaxation` must be at least 0 and less than 1. "
                f"Received: relaxation={relaxation}"
            )
        self.base = keras.losses.get(base)
        refuse_reduction("base", self.base)
        self.combine = combine
        self.relaxation = relaxation

    def at_step(self, step: Tensor) -> keras.losses.Loss:
        """The loss of one step of the training: always this one.

        Subclasses that change while training return another loss. It has to be an
        object of its own, not this one with an attribute set for the step: on some
        backends the step is a tracer, and replicas share the loss.

        Args:
            step: the optimizer's iterations, a number or a scalar tensor.

        Returns:
            A Keras loss.
        """
        return self

    def __call__(self, y_true, y_pred, sample_weight=None):
        if sample_weight is not None:
            count = count_targets(y_true, _stages(y_pred)[0])
            if count is not None:
                sample_weight = weights_per_target(sample_weight, count)
        return super().__call__(y_true, y_pred, sample_weight)

    def call(self, y_true, y_pred):
        total = 0.0
        for losses in self.stage_losses(y_true, y_pred):
            weights = self.relaxed(winner(losses))
            total = total + ops.sum(weights * losses, axis=-1)
        return total

    def stage_losses(
        self, y_true: Tensor, y_pred: Tensor | Sequence[Tensor]
    ) -> list[Tensor]:
        """Losses of the hypotheses of every stage, final stage first.

        Returns:
            Tensors (B, K'), or (B, T, K') of labels (B, T, H, W, C).
        """
        stages = _stages(y_pred)
        count_targets(y_true, stages[0])
        return [
            hypothesis_losses(
                self.base, _label_at_size_of(stack, y_true), stack, self.combine
            )
            for stack in stages
        ]

    def relaxed(self, weights: Tensor) -> Tensor:
        """Weights (..., K') of the hypotheses, of which the losers get their part."""
        losers = weights.shape[-1] - 1
        if self.relaxation and losers:
            share = self.relaxation / losers
            weights = share + (1 - self.relaxation - share) * weights
        return weights

    def get_config(self):
        return {
            **super().get_config(),
            "base": keras.saving.serialize_keras_object(self.base),
            "combine": self.combine,
            "relaxation": self.relaxation,
        }

    @classmethod
    def from_config(cls, config):
        return cls(
            **{
                key: value
                for key, value in config.items()
                if key not in _FORMER_ENTRIES or value != _FORMER_ENTRIES[key]
            }
        )


def _stages(y_pred):
    return y_pred if isinstance(y_pred, (list, tuple)) else [y_pred]


def _label_at_size_of(stack, label):
    """Label (..., H, W, C) made as small as a stack (B, K, H/f, W/f, C), f = 1, 2 or 4.

    Where sizes are unknown when the graph is built, the graph chooses.
    """
    sizes = list(zip(label.shape[-3:-1], stack.shape[2:4]))
    possible = [
        factor
        for factor in (1, 2, 4)
        if all(
            large is None or (large % factor == 0 and small in (None, large // factor))
            for large, small in sizes
        )
    ]
    if not possible:
        raise ValueError(
            "Stacks must have the label's height and width, or half or a quarter of "
            f"them. Received: y_true.shape={tuple(label.shape)}, "
            f"y_pred.shape={tuple(stack.shape)}"
        )

    def smaller(factor):
        return label if factor == 1 else _downsampled(label, factor)

    def choose(factor, *others):
        if not others:
            return smaller(factor)
        found = ops.shape(label)[-3] // ops.shape(stack)[2] == factor
        return ops.cond(found, lambda: smaller(factor), lambda: choose(*others))

    return choose(*possible)


def _downsampled(images, factor):
    """`bilinear_downsample` of images (..., H, W, C)."""
    shape = ops.shape(images)
    small = bilinear_downsample(ops.reshape(images, (-1, *shape[-3:])), factor)
    return ops.reshape(small, (*shape[:-3], *ops.shape(small)[1:]))
