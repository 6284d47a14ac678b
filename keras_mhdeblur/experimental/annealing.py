"""Annealed assignment: all hypotheses learn at first, the winner alone in the end.

No published recipe uses it: in `zoo/ablation` it scores lower than `relaxation`. A
recipe that scores higher with it brings it back.
"""

import math
from typing import Any, Literal

import keras
from keras import ops

from keras_mhdeblur.losses import HypothesisLoss, PSNRLoss
from keras_mhdeblur.losses.assignment import winner
from keras_mhdeblur.utils.types import LossLike, Tensor

# Annealing ends here: colder shares are those of the winner but for rounding.
_COLDEST = 1e-3


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class AnnealedHypothesisLoss(HypothesisLoss):
    """A `HypothesisLoss` whose losers get a part that falls to zero.

    The hypotheses have the weights of `soft_winner`, at a temperature that falls
    linearly from 1 to 0 (arXiv 2407.15580). From then on, and in `evaluate`, the winner
    takes all. `relaxation` applies to the weights of either.

    Args:
        base: the loss of one image, as in `HypothesisLoss`. Its values must not be
            negative, or it must be a `PSNRLoss`.
        combine: as in `HypothesisLoss`.
        relaxation: as in `HypothesisLoss`.
        annealing_steps: optimizer steps after which the temperature is 0. A third to a
            half of the training is usual.
        balance: weight of `imbalance`; it falls to 0 with the temperature. The usage is
            that of a replica's part of the batch, so results depend on the number of
            replicas. It acts on the logarithms of the distances, as `PSNRLoss` does:
            about 0.01 there, and that times a usual value of the loss with others.
        stage_assignment: "independent", every stage has its own winner (the paper), or
            "final", the winner of the final stage is that of all.

    Raises:
        ValueError: an argument is out of its range; in a call, labels have several
            targets per sample.

    Example:

    ```python
    loss = AnnealedHypothesisLoss(mhd.losses.PSNRLoss(), annealing_steps=1000)
    model.compile(optimizer, loss)
    ```
    """

    def __init__(
        self,
        base: LossLike,
        combine: bool | str = True,
        relaxation: float = 0.0,
        *,
        annealing_steps: int,
        balance: float = 0.0,
        stage_assignment: Literal["independent", "final"] = "independent",
        name: str = "annealed_hypothesis_loss",
        **kwargs: Any,
    ) -> None:
        super().__init__(base, combine, relaxation, name=name, **kwargs)
        if not annealing_steps or annealing_steps <= 0:
            raise ValueError(
                "`annealing_steps` must be above 0. "
                f"Received: annealing_steps={annealing_steps}"
            )
        if balance < 0:
            raise ValueError(
                f"`balance` must not be negative. Received: balance={balance}"
            )
        if stage_assignment not in ("independent", "final"):
            raise ValueError(
                '`stage_assignment` must be "independent" or "final". '
                f"Received: stage_assignment={stage_assignment!r}"
            )
        self.annealing_steps = annealing_steps
        self.balance = balance
        self.stage_assignment = stage_assignment

    def at_step(self, step: Tensor) -> keras.losses.Loss:
        return _LossAtStep(self, step)

    def call(self, y_true, y_pred, temperature=None):
        if len(y_true.shape) > 4:
            raise ValueError(
                "The annealed assignment takes one label per sample, (B, H, W, C). "
                f"Received: y_true.shape={tuple(y_true.shape)}"
            )
        total, weights = 0.0, None
        for losses in self.stage_losses(y_true, y_pred):
            if weights is None or self.stage_assignment == "independent":
                weights = self._weights(losses, temperature)
                if temperature is not None and self.balance:
                    shares = self._shares(losses, temperature)
                    # A cold softmax is steep: the factor keeps the gradient bounded.
                    total = total + self.balance * temperature * imbalance(shares)
            total = total + ops.sum(weights * losses, axis=1)
        return total

    def _weights(self, losses, temperature):
        """Weights (B, K') of the hypotheses in the loss, without gradient."""
        if temperature is None:
            return self.relaxed(winner(losses))
        return self.relaxed(ops.stop_gradient(self._shares(losses, temperature)))

    def _shares(self, losses, temperature):
        return soft_winner(_distances(self.base, losses), temperature)

    def get_config(self):
        return {
            **super().get_config(),
            "annealing_steps": self.annealing_steps,
            "balance": self.balance,
            "stage_assignment": self.stage_assignment,
        }


class _LossAtStep(keras.losses.Loss):
    """An `AnnealedHypothesisLoss` with the temperature of one step."""

    def __init__(self, loss, step):
        super().__init__(loss.name, loss.reduction, loss.dtype)
        self.loss = loss
        progress = ops.cast(step, "float32") / loss.annealing_steps
        self.temperature = ops.maximum(1 - progress, 0.0)

    def call(self, y_true, y_pred):
        return self.loss.call(y_true, y_pred, self.temperature)


def _distances(base, losses):
    """Values of a loss as distances to the label."""
    if not isinstance(base, PSNRLoss):
        return losses
    # Decibels have no zero: the mean squared errors are compared.
    return ops.exp(losses * math.log(10) / (10 * base.weight))


def soft_winner(distances: Tensor, temperature: Tensor) -> Tensor:
    """Shares of the hypotheses in every label, larger for the nearer ones.

    softmax(-d / (T mean d)), with the mean over a sample's hypotheses, so that a
    temperature T means the same for easy and for hard samples. Source: annealed
    multiple choice learning (arXiv 2407.15580); the division by the mean is ours.

    Args:
        distances: (B, K'), from each hypothesis to the label, not negative.
        temperature: scalar; below 1e-3 the shares are those of `winner`.

    Returns:
        (B, K'), rows sum to one; with gradient.
    """
    mean = ops.mean(ops.abs(distances), axis=1, keepdims=True)
    unit = ops.maximum(temperature, _COLDEST) * mean
    # All of a sample's distances may be zero.
    shares = ops.softmax(-distances / ops.maximum(unit, 1e-30), axis=1)
    return ops.where(temperature < _COLDEST, winner(distances), shares)


def imbalance(shares: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the hypotheses' usage from equal usage.

    Args:
        shares: (B, K'), rows sum to one; the usage is their mean over the batch.

    Returns:
        Scalar in nats: 0 where all are used alike, log K' where one is used alone.
    """
    usage = ops.mean(shares, axis=0)
    # At zero the logarithm has no gradient.
    logarithm = ops.log(shares.shape[1] * ops.maximum(usage, 1e-12))
    return ops.sum(usage * logarithm)
