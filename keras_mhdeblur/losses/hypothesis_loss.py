"""The loss over a stack of hypotheses that assigns the winner."""

import keras
from keras import ops

from keras_mhdeblur.layers import bilinear_downsample
from keras_mhdeblur.losses.assignment import (
    hypothesis_losses,
    imbalance,
    soft_winner,
    winner,
)
from keras_mhdeblur.losses.image_losses import refuse_reduction


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class HypothesisLoss(keras.losses.Loss):
    """Loss of the hypothesis nearest to the label, per sample (winner takes all).

    Labels are (B, H, W, C), predictions head stacks (B, K, H, W, C), or a list of
    them, one per stage, final stage first; the stage losses add up. The value per
    sample is the loss of the winner, so only the winner is trained.
    Source: arXiv 2208.13029, eq. 4 to 6.

    Stacks may also have half or a quarter of the label's height and width, as those
    that MAXIM (arXiv 2201.02973) is trained with. They are compared with the label
    made smaller by `layers.bilinear_downsample`, and are stages like others.

    A head that loses from the start is never trained. Two things keep it alive: with
    `relaxation` the losers share a small part of the gradient all the time (arXiv
    1612.00197, eq. 6), with annealing a part that falls to zero (arXiv 2407.15580).
    `training.DeadHeadReset` revives what died.

    Annealing weights the hypotheses with `assignment.soft_winner`, at a temperature
    that falls linearly from 1 to 0; from then on, and in `evaluate`, the winner takes
    all. `relaxation` applies to the weights of either.

    Args:
        base: the loss of one image, an `ImageLoss` or any Keras loss, with the default
            `reduction`. Annealing needs values that are not negative, or a `PSNRLoss`.
        combine: which pair averages of the heads are the hypotheses, see
            `hypotheses.pairs.Pairs`.
        relaxation: weight that all hypotheses but the winner share; the winner has the
            rest of 1. 0 is the paper's winner takes all.
        assignment: "hard", the winner takes all, or "annealed".
        annealing_steps: optimizer steps after which the temperature is 0; needed with
            "annealed", and only there. A third to a half of the training is usual.
        balance: weight of `assignment.imbalance`, with "annealed" only; it falls to 0
            with the temperature. The usage is that of a replica's part of the batch,
            so results depend on the number of replicas. It acts on the logarithms of
            the distances, as `PSNRLoss` does: about 0.01 there, and that times a usual
            value of the loss with others.
        stage_assignment: "independent", every stage has its own winner (the paper), or
            "final", the winner of the final stage is that of all.

    Raises:
        ValueError: an argument is out of its range, or needs another `assignment`; in
            a call, a stack's known size is not the label's, half of it or a quarter.
    """

    def __init__(
        self,
        base,
        combine=True,
        relaxation=0.0,
        assignment="hard",
        annealing_steps=None,
        balance=0.0,
        stage_assignment="independent",
        name="hypothesis_loss",
        **kwargs,
    ):
        super().__init__(name=name, **kwargs)
        if not 0 <= relaxation < 1:
            raise ValueError(
                "`relaxation` must be at least 0 and less than 1. "
                f"Received: relaxation={relaxation}"
            )
        if assignment not in ("hard", "annealed"):
            raise ValueError(
                '`assignment` must be "hard" or "annealed"; what losers get in either '
                f"is `relaxation`. Received: assignment={assignment!r}"
            )
        if assignment == "annealed" and not (annealing_steps and annealing_steps > 0):
            raise ValueError(
                '`assignment="annealed"` needs `annealing_steps` above 0. '
                f"Received: annealing_steps={annealing_steps}"
            )
        if assignment == "hard" and (annealing_steps is not None or balance):
            raise ValueError(
                '`annealing_steps` and `balance` need `assignment="annealed"`. '
                f"Received: annealing_steps={annealing_steps}, balance={balance}"
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
        self.base = keras.losses.get(base)
        refuse_reduction("base", self.base)
        self.combine = combine
        self.relaxation = relaxation
        self.assignment = assignment
        self.annealing_steps = annealing_steps
        self.balance = balance
        self.stage_assignment = stage_assignment

    def at_step(self, step):
        """This loss as it is at a step of the training; `Deblurrer` calls it.

        Args:
            step: the optimizer's iterations, a number or a scalar tensor.

        Returns:
            A Keras loss.
        """
        return self if self.assignment == "hard" else _LossAtStep(self, step)

    def call(self, y_true, y_pred, temperature=None):
        stages = y_pred if isinstance(y_pred, (list, tuple)) else [y_pred]
        total, weights = 0.0, None
        for stack in stages:
            label = _label_at_size_of(stack, y_true)
            losses = hypothesis_losses(self.base, label, stack, self.combine)
            if weights is None or self.stage_assignment == "independent":
                weights = self._weights(losses, temperature)
                if temperature is not None and self.balance:
                    shares = self._shares(losses, temperature)
                    # A cold softmax is steep: the factor keeps the gradient bounded.
                    total = total + self.balance * temperature * imbalance(shares)
            total = total + ops.sum(weights * losses, axis=1)
        return total

    def _weights(self, losses, temperature):
        """Of the hypotheses in the loss: (B, K'), without gradient."""
        if temperature is None:
            weights = winner(losses)
        else:
            weights = ops.stop_gradient(self._shares(losses, temperature))
        losers = losses.shape[1] - 1
        if self.relaxation and losers:
            share = self.relaxation / losers
            weights = share + (1 - self.relaxation - share) * weights
        return weights

    def _shares(self, losses, temperature):
        distances = getattr(self.base, "distances", lambda values: values)
        return soft_winner(distances(losses), temperature)

    def get_config(self):
        return {
            **super().get_config(),
            "base": keras.saving.serialize_keras_object(self.base),
            "combine": self.combine,
            "relaxation": self.relaxation,
            "assignment": self.assignment,
            "annealing_steps": self.annealing_steps,
            "balance": self.balance,
            "stage_assignment": self.stage_assignment,
        }


class _LossAtStep(keras.losses.Loss):
    """An annealed `HypothesisLoss` with the temperature of one step.

    An object of its own, not an attribute that is set for the step: on some backends
    the step is a tracer, and replicas share the loss.
    """

    def __init__(self, loss, step):
        super().__init__(loss.name, loss.reduction, loss.dtype)
        self.loss = loss
        progress = ops.cast(step, "float32") / loss.annealing_steps
        self.temperature = ops.maximum(1 - progress, 0.0)

    def call(self, y_true, y_pred):
        return self.loss.call(y_true, y_pred, self.temperature)


def _label_at_size_of(stack, label):
    """Label (B, H, W, C) made as small as a stack (B, K, H/f, W/f, C), f = 1, 2 or 4.

    Where sizes are unknown when the graph is built, the graph chooses.
    """
    sizes = list(zip(label.shape[1:3], stack.shape[2:4]))
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
        return label if factor == 1 else bilinear_downsample(label, factor)

    def choose(factor, *others):
        if not others:
            return smaller(factor)
        found = ops.shape(label)[1] // ops.shape(stack)[2] == factor
        return ops.cond(found, lambda: smaller(factor), lambda: choose(*others))

    return choose(*possible)
