"""Losses of one image, one value each."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mhdeblur.utils.types import LossLike, Tensor

# BT.601 luma weights of an RGB image in [0, 1] (the offset 16 cancels in differences).
LUMA = np.array([65.481, 128.553, 24.966], "float32") / 255.0


def luma(images):
    """BT.601 luma (..., 1), less its offset, of RGB images or differences of them."""
    if images.shape[-1] != 3:
        raise ValueError(
            f"Only RGB images have a luma. Received: images.shape={tuple(images.shape)}"
        )
    weights = ops.convert_to_tensor(LUMA, images.dtype)
    return ops.sum(images * weights, axis=-1, keepdims=True)


class ImageLoss(keras.losses.Loss):
    """Base of losses with one value per image.

    `call` takes labels and predictions (..., H, W, C) that broadcast over their
    leading axes and returns (...): with labels (B, 1, H, W, C) and a stack
    (B, K, H, W, C) it returns (B, K). Called as a loss it is averaged over the batch.

    Args:
        weight: factor of the loss.
    """

    def __init__(self, weight: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.weight = weight

    def get_config(self):
        return {**super().get_config(), "weight": self.weight}


class SquaredErrorLoss(ImageLoss):
    """Base of losses that are a function of the mean squared error.

    Their values for all pair averages follow from the Gram matrix of the errors
    (`assignment.pairwise_mse`). `error` has to be linear in the difference of images.
    """

    def error(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return y_pred - y_true

    def from_mse(self, mse: Tensor) -> Tensor:
        return self.weight * mse

    def call(self, y_true, y_pred):
        error = self.error(y_true, y_pred)
        return self.from_mse(ops.mean(ops.square(error), axis=(-3, -2, -1)))


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class MSELoss(SquaredErrorLoss):
    """Mean squared error per image.

    Args:
        weight: factor of the loss.
    """

    def __init__(
        self, weight: float = 1.0, name: str = "mse_loss", **kwargs: Any
    ) -> None:
        super().__init__(weight, name=name, **kwargs)


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class PSNRLoss(SquaredErrorLoss):
    """Negative PSNR in dB of images in [0, 1]: 10 log10(mse + epsilon) per image.

    Source: the training loss of NAFNet and HINet (arXiv 2105.06086, section 3.3).

    Args:
        weight: factor of the loss.
        to_luma: compare the BT.601 luma of RGB images instead of the colours.
        epsilon: added to the mean squared error. The gradient of an image that is
            nearly right is long: at 60 dB that of 32 images at 30 dB. With 2e-5 it is
            longest at 47 dB, so that images which are hardly blurred do not rule the
            batches.

    Raises:
        ValueError: `epsilon` is not positive.
    """

    def __init__(
        self,
        weight: float = 1.0,
        to_luma: bool = False,
        epsilon: float = 1e-8,
        name: str = "psnr_loss",
        **kwargs: Any,
    ) -> None:
        super().__init__(weight, name=name, **kwargs)
        if not epsilon > 0:
            raise ValueError(f"`epsilon` must be positive. Received: epsilon={epsilon}")
        self.to_luma = to_luma
        self.epsilon = epsilon

    def error(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        error = y_pred - y_true
        return luma(error) if self.to_luma else error

    def from_mse(self, mse: Tensor) -> Tensor:
        return self.weight * (10 / math.log(10)) * ops.log(mse + self.epsilon)

    def get_config(self):
        return {
            **super().get_config(),
            "to_luma": self.to_luma,
            "epsilon": self.epsilon,
        }


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class L1Loss(ImageLoss):
    """Mean absolute error per image.

    Args:
        weight: factor of the loss.
    """

    def __init__(
        self, weight: float = 1.0, name: str = "l1_loss", **kwargs: Any
    ) -> None:
        super().__init__(weight, name=name, **kwargs)

    def call(self, y_true, y_pred):
        return self.weight * ops.mean(ops.abs(y_pred - y_true), axis=(-3, -2, -1))


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class CharbonnierLoss(ImageLoss):
    """Mean of sqrt(difference^2 + epsilon^2) per image (MPRNet, arXiv 2102.02808).

    Args:
        weight: factor of the loss.
        epsilon: where the loss turns from quadratic to linear.
    """

    def __init__(
        self,
        weight: float = 1.0,
        epsilon: float = 1e-3,
        name: str = "charbonnier_loss",
        **kwargs: Any,
    ) -> None:
        super().__init__(weight, name=name, **kwargs)
        self.epsilon = epsilon

    def call(self, y_true, y_pred):
        values = ops.sqrt(ops.square(y_pred - y_true) + self.epsilon**2)
        return self.weight * ops.mean(values, axis=(-3, -2, -1))

    def get_config(self):
        return {**super().get_config(), "epsilon": self.epsilon}


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class EdgeLoss(CharbonnierLoss):
    """Charbonnier loss between the Laplacians of the images (MPRNet, eq. 3).

    The Laplacian of an image is the image minus its Gaussian pyramid expansion: blur,
    keep every second pixel, times four, blur again.

    Args:
        weight, epsilon: as in `CharbonnierLoss`.
    """

    def __init__(
        self,
        weight: float = 1.0,
        epsilon: float = 1e-3,
        name: str = "edge_loss",
        **kwargs: Any,
    ) -> None:
        super().__init__(weight, epsilon, name=name, **kwargs)

    def call(self, y_true, y_pred):
        # The Laplacian is linear: the one of the difference is the difference of both.
        edges = _laplacian(y_pred - y_true)
        return super().call(ops.zeros_like(edges), edges)


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class FrequencyLoss(ImageLoss):
    """Mean modulus of the Fourier coefficients of the difference, per image.

    With F the sum over rows and columns of (y_pred - y_true) exp(-2 pi i (u y / H +
    v x / W)), of each channel, it is the mean of |F| / sqrt(H W) over all H W
    frequencies (u, v) and the channels: F is scaled to keep the norm of the
    difference, so that an error that looks like noise counts alike in crops of all
    sizes, and about as much as in `L1Loss`. The plain sum of |F| is
    C (H W)^1.5 times as much.

    The modulus is sqrt(re^2 + im^2 + 1e-12), which has a gradient at zero. It is
    computed in float32 always.

    Source: MAXIM (arXiv 2201.02973), which adds it to the Charbonnier loss with weight
    0.1 and does not say how F is scaled, nor whether the norm is a sum or a mean::

        CombinedLoss([CharbonnierLoss(), FrequencyLoss(weight=0.1)])

    Args:
        weight: factor of the loss. MIMO-UNet (arXiv 2108.05054) has 0.1 for the mean
            of |re F| and |im F| without scale: about 16 here, for crops of 256 x 256.
    """

    def __init__(
        self, weight: float = 1.0, name: str = "frequency_loss", **kwargs: Any
    ) -> None:
        super().__init__(weight, name=name, **kwargs)

    def call(self, y_true, y_pred):
        error = ops.cast(y_pred, "float32") - ops.cast(y_true, "float32")
        error = ops.moveaxis(error, -1, -3)
        height, width = ops.shape(error)[-2:]
        real, imaginary = ops.fft2((error, ops.zeros_like(error)))
        squares = ops.square(real) + ops.square(imaginary)
        squares = squares / ops.cast(height * width, "float32")
        return self.weight * ops.mean(ops.sqrt(squares + 1e-12), axis=(-3, -2, -1))


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class CombinedLoss(ImageLoss):
    """Sum of image losses, for example MPRNet's Charbonnier + 0.05 edge loss.

    MAXIM's is Charbonnier + 0.1 `FrequencyLoss`. The winner among hypotheses is the one
    with the smallest sum.

    Args:
        losses: list of `ImageLoss`es; give each its `weight`.
        weight: factor of the sum.

    Raises:
        ValueError: the list is empty, has another kind of loss, or one with a
            `reduction` of its own.
    """

    def __init__(
        self,
        losses: Sequence[LossLike],
        weight: float = 1.0,
        name: str = "combined_loss",
        **kwargs: Any,
    ) -> None:
        super().__init__(weight, name=name, **kwargs)
        self.losses = [keras.losses.get(loss) for loss in losses]
        # Keras' own losses average over other axes.
        if not losses or not all(isinstance(part, ImageLoss) for part in self.losses):
            raise ValueError(
                "`losses` must be a list of one or more `ImageLoss`es. "
                f"Received: losses={losses}"
            )
        for part in self.losses:
            refuse_reduction("losses", part)

    def call(self, y_true, y_pred):
        values = [loss.call(y_true, y_pred) for loss in self.losses]
        # Unlike Python's sum, it takes values of several dtypes.
        return self.weight * functools.reduce(ops.add, values)

    def get_config(self):
        losses = [keras.saving.serialize_keras_object(loss) for loss in self.losses]
        return {**super().get_config(), "losses": losses}


def _laplacian(images):
    """Image minus its pyramid expansion; any number of leading axes."""
    shape = ops.shape(images)
    images = ops.reshape(images, (-1, *shape[-3:]))
    height, width = shape[-3:-1]
    rows = ops.cast(ops.arange(height) % 2 == 0, images.dtype)
    columns = ops.cast(ops.arange(width) % 2 == 0, images.dtype)
    even = ops.reshape(rows, (-1, 1, 1)) * ops.reshape(columns, (-1, 1))
    laplacian = images - _blur5(4 * even * _blur5(images))
    return ops.reshape(laplacian, shape)


def _blur5(images):
    """5-tap binomial-like blur of (N, H, W, C), borders replicated."""
    for axis in (1, 2):
        size = ops.shape(images)[axis]
        positions = ops.arange(size)
        images = sum(
            tap * ops.take(images, ops.clip(positions + offset, 0, size - 1), axis=axis)
            for offset, tap in zip(range(-2, 3), (0.05, 0.25, 0.4, 0.25, 0.05))
        )
    return images


def refuse_reduction(name, loss):
    """Parts give one value per image; the batch is reduced by the loss they are in."""
    reduction = getattr(loss, "reduction", None)
    if reduction in ("sum", "mean_with_sample_weight"):
        raise ValueError(
            f"`{name}` cannot reduce the batch: give `reduction` to the loss that "
            f"contains it. Received: {name}.reduction={reduction!r}"
        )
