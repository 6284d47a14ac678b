"""Loss and metrics of predicted winners, for `WinnerPredictor`."""

import math
from typing import Any

import keras
from keras import ops

from keras_mhdeblur.layers import PadToMultiple
from keras_mhdeblur.losses.assignment import pair_squares, winner
from keras_mhdeblur.metrics import HypothesisMetric
from keras_mhdeblur.utils.types import Tensor

# Side in pixels of the blocks of `block_mse`.
BLOCK = 16


def block_mse(errors: Tensor, combine: bool | str = True) -> Tensor:
    """As `pairwise_mse`, for every block of 16x16 pixels.

    Args:
        errors: (B, K, H, W, C), head images minus label.
        combine: which pairs, see `hypotheses.pairs.Pairs`.

    Returns:
        (B, ceil(H/16), ceil(W/16), K'); the last blocks may be smaller.
    """
    num_heads, channels = errors.shape[1], errors.shape[-1]
    size = ops.shape(errors)[2:4]
    x = ops.transpose(errors, (0, 2, 3, 1, 4))
    x = PadToMultiple(BLOCK)(ops.reshape(x, (-1, *size, num_heads * channels)))
    rows, columns = (padded // BLOCK for padded in ops.shape(x)[1:3])
    x = ops.reshape(x, (-1, rows, BLOCK, columns, BLOCK, num_heads, channels))
    x = ops.transpose(x, (0, 1, 3, 5, 2, 4, 6))
    x = ops.reshape(x, (-1, rows, columns, num_heads, BLOCK * BLOCK * channels))
    down, across = (
        ops.cast(ops.minimum(BLOCK, old - BLOCK * ops.arange(count)), x.dtype)
        for old, count in zip(size, (rows, columns))
    )
    values = channels * down[:, None] * across
    return pair_squares(x / ops.sqrt(values)[..., None, None], combine)


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class WinnerLoss(keras.losses.Loss):
    """Cross-entropy of predicted winners: of logits against hypotheses' errors.

    Labels are the errors (..., K') of the hypotheses, of which the smallest wins;
    predictions are logits (..., K'), whose softmax is the probability of winning.

    Resilient multiple choice learning (arXiv 2311.01052) scores every hypothesis by
    itself, with sigmoids and binary cross-entropy, because several labels of one input
    may have different winners. Here an input has one label and so one winner: a softmax
    says so, its values sum to one, as weights of hypotheses must, and the cross-entropy
    is smallest where they are the winners' true frequencies.
    """

    def __init__(self, name: str = "winner_loss", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)

    def call(self, y_true, y_pred):
        return ops.categorical_crossentropy(winner(y_true), y_pred, from_logits=True)


class WinnerMetric(HypothesisMetric):
    """Base of metrics of predicted winners, averaged over images or blocks.

    Labels are the hypotheses' mean squared errors (..., K'), predictions logits
    (..., K'), as in `losses.WinnerLoss`. Sample weights have one value per prediction.
    """

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_true, y_pred = (
            ops.reshape(ops.cast(y, "float32"), (-1, y_pred.shape[-1]))
            for y in (y_true, y_pred)
        )
        self.accumulate(y_true, y_pred, sample_weight)


def _of_chosen(values, logits):
    """Those of the values (N, K') whose logits are the largest, (N,)."""
    best = ops.argmax(logits, axis=1)
    return ops.take_along_axis(values, best[:, None], axis=1)[:, 0]


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class WinnerAccuracy(WinnerMetric):
    """Share of the winners that are the most probable hypothesis."""

    def __init__(
        self, name: str = "accuracy", num_hypotheses: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(name, num_hypotheses, **kwargs)

    def measure(self, y_true: Tensor, logits: Tensor) -> Tensor:
        return _of_chosen(winner(y_true), logits)


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class MajorityAccuracy(WinnerMetric):
    """Accuracy of always predicting the most frequent winner.

    A predictor that knows nothing of the image reaches it.
    """

    def __init__(
        self,
        name: str = "majority_accuracy",
        num_hypotheses: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name, num_hypotheses, **kwargs)

    def measure(self, y_true: Tensor, logits: Tensor) -> Tensor:
        return winner(y_true)

    def result(self):
        return ops.max(self.means())


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class CalibrationError(WinnerMetric):
    """Expected calibration error of the most probable hypothesis, in [0, 1].

    |probability - accuracy| in 15 equal bins of the probability, weighted by the
    predictions in them (arXiv 1706.04599, eq. 5).
    """

    bins = 15

    def __init__(
        self,
        name: str = "calibration_error",
        num_hypotheses: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name, num_hypotheses, **kwargs)

    def build(self, num_hypotheses):
        self.num_hypotheses = num_hypotheses
        self.total = self.add_variable((self.bins,), "zeros", name="total")

    def measure(self, y_true: Tensor, logits: Tensor) -> Tensor:
        confidence = ops.max(ops.softmax(logits, axis=1), axis=1)
        excess = confidence - _of_chosen(winner(y_true), logits)
        index = ops.cast(ops.ceil(confidence * self.bins), "int32") - 1
        index = ops.clip(index, 0, self.bins - 1)
        return ops.one_hot(index, self.bins, dtype="float32") * excess[:, None]

    def result(self):
        return ops.sum(ops.abs(self.means()))


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class SelectionRegret(WinnerMetric):
    """Best hypothesis' PSNR minus that of the most probable one, in dB, mean.

    Of predictions before clipping; PSNR counts as at most 100 dB.
    """

    def __init__(
        self, name: str = "regret", num_hypotheses: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(name, num_hypotheses, **kwargs)

    def measure(self, y_true: Tensor, logits: Tensor) -> Tensor:
        psnrs = -10 / math.log(10) * ops.log(ops.maximum(y_true, 1e-10))
        return ops.max(psnrs, axis=1) - _of_chosen(psnrs, logits)
