"""PSNR and SSIM of hypotheses, which is the best, and how well that is predicted."""

import math
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from keras_mhdeblur.losses.assignment import count_targets, weights_per_target, winner
from keras_mhdeblur.losses.image_losses import luma as luma_of
from keras_mhdeblur.utils.types import Tensor

_TAPS = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))  # of SSIM's window
_TAPS /= _TAPS.sum()


def psnr(
    y_true: Tensor,
    y_pred: Tensor,
    crop_border: int = 0,
    luma: bool = False,
    mask: Tensor | None = None,
) -> Tensor:
    """Peak signal-to-noise ratio per image, in dB; the peak is 1.

    Args:
        y_true, y_pred: (..., H, W, C) in [0, 1], broadcast over the leading axes.
            Predictions are clipped to [0, 1].
        crop_border: pixels left out at each border.
        luma: compare the BT.601 luma (range 16 to 235 of 255) of RGB images.
        mask: (H, W), true where pixels count; None for everywhere.

    Returns:
        (...); infinite where the images are equal.
    """
    y_true, y_pred = _prepare(y_true, y_pred, crop_border, luma)
    mse = _mean_inside(ops.square(y_pred - y_true), mask, crop_border)
    return -10 / math.log(10) * ops.log(mse)


def ssim(
    y_true: Tensor,
    y_pred: Tensor,
    crop_border: int = 0,
    variant: Literal["per_channel", "3d", "luma"] = "per_channel",
    mask: Tensor | None = None,
) -> Tensor:
    """Structural similarity per image, Gaussian window 11, sigma 1.5; the peak is 1.

    Args:
        y_true, y_pred: (..., H, W, C) in [0, 1], broadcast over the leading axes.
            Predictions are clipped to [0, 1].
        crop_border: pixels left out at each border.
        variant: which of the definitions in use.
            "per_channel": Wang et al. 2004, mean over channels, windows inside the
            image only: the right one for RGB, and the default.
            "3d": one 11x11x11 window across rows, columns *and colours*, borders
            replicated: what NAFNet, HINet and MH-C papers report; reads about 0.02
            higher.
            "luma": windows on the BT.601 luma, borders replicated.
        mask: (H, W), true where the similarity counts; None for everywhere.

    Returns:
        (...), at most 1.
    """
    if variant not in ("per_channel", "3d", "luma"):
        raise ValueError(
            '`variant` must be "per_channel", "3d" or "luma". '
            f"Received: variant={variant!r}"
        )
    y_true, y_pred = _prepare(
        y_true, y_pred, crop_border, variant == "luma", len(_TAPS)
    )

    def blur(images):
        shape = ops.shape(images)
        images = ops.reshape(images, (-1, *shape[-3:]))
        images = _gaussian(images, 1, inside=variant == "per_channel")
        images = _gaussian(images, 2, inside=variant == "per_channel")
        if variant == "3d":
            images = _gaussian_across_channels(images)
        return ops.reshape(images, (*shape[:-3], *ops.shape(images)[1:]))

    a, b = y_true, y_pred
    c1, c2 = 0.01**2, 0.03**2
    mean_a, mean_b = blur(a), blur(b)
    var_a = blur(a * a) - mean_a**2
    var_b = blur(b * b) - mean_b**2
    covariance = blur(a * b) - mean_a * mean_b
    similarity = (
        (2 * mean_a * mean_b + c1)
        * (2 * covariance + c2)
        / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    )
    if variant == "per_channel":  # one for every window inside the image
        crop_border += len(_TAPS) // 2
    return _mean_inside(similarity, mask, crop_border)


def _mean_inside(values, mask, crop_border):
    """Mean over (..., H, W, C) where a mask of the whole image is true."""
    if mask is None:
        return ops.mean(values, axis=(-3, -2, -1))
    weights = ops.expand_dims(ops.cast(mask, values.dtype), -1)
    if crop_border:
        inside = slice(crop_border, -crop_border)
        weights = weights[inside, inside]
    total = ops.sum(values * weights, axis=(-3, -2, -1))
    return total / (ops.sum(weights) * values.shape[-1])


def _prepare(y_true, y_pred, crop_border, luma, smallest=1):
    y_true = ops.cast(y_true, "float32")
    y_pred = ops.clip(ops.cast(y_pred, "float32"), 0, 1)
    needed = smallest + 2 * crop_border
    if any(size is not None and size < needed for size in y_pred.shape[-3:-1]):
        raise ValueError(
            f"Images must have at least {smallest} x {smallest} pixels inside "
            f"`crop_border`. Received: y_pred.shape={tuple(y_pred.shape)}, "
            f"crop_border={crop_border}"
        )
    if crop_border:
        inside = slice(crop_border, -crop_border)
        y_true = y_true[..., inside, inside, :]
        y_pred = y_pred[..., inside, inside, :]
    if luma:
        y_true, y_pred = (luma_of(y) + 16 / 255 for y in (y_true, y_pred))
    return y_true, y_pred


def _gaussian(images, axis, inside=False):
    """11-tap Gaussian along axis 1 or 2; borders are replicated, or `inside` only."""
    reach = len(_TAPS) // 2
    if not inside:
        size = ops.shape(images)[axis]
        positions = ops.clip(ops.arange(-reach, size + reach), 0, size - 1)
        images = ops.take(images, positions, axis=axis)
    # A convolution takes a fifth of the time of eleven shifted copies.
    kernel = _TAPS.reshape((-1, 1, 1, 1) if axis == 1 else (1, -1, 1, 1))
    kernel = np.tile(kernel, (1, 1, images.shape[-1], 1))
    return ops.depthwise_conv(images, ops.cast(kernel, images.dtype), padding="valid")


def _gaussian_across_channels(images):
    """11-tap Gaussian along the last axis; the first and last are replicated."""
    channels = images.shape[-1]
    weights = np.zeros((channels, channels))
    for target in range(channels):
        sources = np.clip(
            np.arange(len(_TAPS)) + target - len(_TAPS) // 2, 0, channels - 1
        )
        np.add.at(weights[:, target], sources, _TAPS)
    return ops.matmul(images, ops.cast(weights, images.dtype))


def finite_psnr(y_true: Tensor, y_pred: Tensor, mask: Tensor | None = None) -> Tensor:
    """`psnr`, at most 100 dB: equal images do not make a mean infinite."""
    return ops.minimum(psnr(y_true, y_pred, mask=mask), 100.0)


class HypothesisMetric(keras.metrics.Metric):
    """Base of metrics of hypotheses (B, K', H, W, C) against labels (B, H, W, C).

    `measure` gives the values that are averaged over the samples: (B,) or (B, K').
    Labels may also be (B, T, H, W, C), T targets per sample, as for
    `losses.HypothesisLoss`: the mean is then over the samples and their targets. Sample
    weights, (B,) or with targets (B, T), are honoured; Keras passes those of `fit` to
    `weighted_metrics` only. PSNR counts as at most 100 dB, so that one image that is
    predicted exactly does not make the mean infinite. Before the first update results
    are 0; those per hypothesis are none while K' is unknown.

    Args:
        name: name of the metric.
        num_hypotheses: K', if known; otherwise read off the first update.
    """

    def __init__(
        self, name: str, num_hypotheses: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.num_hypotheses = None
        self.count = self.add_variable((), "zeros", name="count")
        if num_hypotheses is not None:
            self.build(num_hypotheses)

    def build(self, num_hypotheses):
        """Creates the sums; `Deblurrer.compile` calls it."""
        self.num_hypotheses = num_hypotheses
        self.total = self.add_variable((num_hypotheses,), "zeros", name="total")

    def measure(self, y_true: Tensor, hypotheses: Tensor) -> Tensor:
        raise TypeError(f"{type(self).__name__} has to define `measure`.")

    def update_state(self, y_true, y_pred, sample_weight=None):
        count = count_targets(y_true, y_pred)
        if count is None:
            self.accumulate(y_true, y_pred, sample_weight)
            return
        if sample_weight is not None:
            sample_weight = weights_per_target(sample_weight, count)
        # One target after the other: T x K' images at once would be large.
        for t in range(count):
            weight = None if sample_weight is None else sample_weight[:, t]
            self.accumulate(y_true[:, t], y_pred, weight)

    def accumulate(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None
    ) -> None:
        """Adds the values to one label per sample."""
        if self.num_hypotheses is None:
            self.build(y_pred.shape[1])
        values = self.measure(y_true, y_pred)
        if len(values.shape) == 1:
            values = ops.repeat(values[:, None], self.num_hypotheses, axis=1)
        weight = ops.ones_like(values[:, 0])
        if sample_weight is not None:
            sample_weight = ops.cast(sample_weight, values.dtype)
            weight = weight * ops.reshape(sample_weight, (-1,))
        self.total.assign_add(ops.sum(values * weight[:, None], axis=0))
        self.count.assign_add(ops.sum(weight))

    def means(self) -> Tensor:
        """Mean of every hypothesis' value over samples and targets, (K',)."""
        if self.num_hypotheses is None:
            return ops.zeros((1,))
        return ops.divide_no_nan(self.total, self.count)

    def result(self):
        return self.means()[0]

    def get_config(self):
        return {**super().get_config(), "num_hypotheses": self.num_hypotheses}


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class PSNROverall(HypothesisMetric):
    """Mean over the images of the best hypothesis' PSNR (arXiv 2208.13029, eq. 7a).

    It needs the label to choose, so it is an upper bound, not the quality of one
    output. PSNR in dB, of predictions clipped to [0, 1].

    With several targets per sample it is CovPSNR@K': the mean over the targets of the
    PSNR of the hypothesis nearest to each, how much of an exposure the K' hypotheses
    cover (`evaluation.coverage`).
    """

    def __init__(
        self,
        name: str = "psnr_overall",
        num_hypotheses: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name, num_hypotheses, **kwargs)

    def measure(self, y_true: Tensor, hypotheses: Tensor) -> Tensor:
        return ops.max(finite_psnr(y_true[:, None], hypotheses), axis=1)


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class PSNRSingleHead(HypothesisMetric):
    """Mean PSNR of the hypothesis best on average (arXiv 2208.13029, eq. 7b)."""

    def __init__(
        self,
        name: str = "psnr_single",
        num_hypotheses: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name, num_hypotheses, **kwargs)

    def measure(self, y_true: Tensor, hypotheses: Tensor) -> Tensor:
        return finite_psnr(y_true[:, None], hypotheses)

    def result(self):
        return ops.max(self.means())


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class PSNRMean(HypothesisMetric):
    """Mean PSNR of the average of the hypotheses."""

    def __init__(
        self, name: str = "psnr_mean", num_hypotheses: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(name, num_hypotheses, **kwargs)

    def measure(self, y_true: Tensor, hypotheses: Tensor) -> Tensor:
        return finite_psnr(y_true, ops.mean(hypotheses, axis=1))


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class PSNRPerHypothesis(HypothesisMetric):
    """Mean PSNR of every hypothesis, as `psnr_0`, `psnr_1`, ..."""

    def __init__(
        self,
        name: str = "psnr_per_hypothesis",
        num_hypotheses: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name, num_hypotheses, **kwargs)

    def measure(self, y_true: Tensor, hypotheses: Tensor) -> Tensor:
        return finite_psnr(y_true[:, None], hypotheses)

    def result(self):
        means = self.means()
        return {f"psnr_{k}": means[k] for k in range(self.num_hypotheses or 0)}


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class HypothesisUsage(HypothesisMetric):
    """Share of the samples, or of their targets, that each hypothesis is nearest to.

    Results are `usage_0`, `usage_1`, ...; they sum to one. A hypothesis that stays
    at zero is dead.
    """

    def __init__(
        self,
        name: str = "hypothesis_usage",
        num_hypotheses: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name, num_hypotheses, **kwargs)

    def measure(self, y_true: Tensor, hypotheses: Tensor) -> Tensor:
        # Not clipped: the assignment is made on what the network predicts.
        error = ops.square(hypotheses - y_true[:, None])
        return winner(ops.mean(error, axis=(-3, -2, -1)))

    def result(self):
        means = self.means()
        return {f"usage_{k}": means[k] for k in range(self.num_hypotheses or 0)}


# Models saved under the former names still load.
keras.saving.get_custom_objects().update(
    {
        "keras_mhdeblur>PSNRPerHead": PSNRPerHypothesis,
        "keras_mhdeblur>HeadUsage": HypothesisUsage,
    }
)
