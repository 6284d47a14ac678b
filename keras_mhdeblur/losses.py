"""Image losses, and the loss over a stack of hypotheses that assigns the winner."""

import math

import keras
import numpy as np
from keras import ops

from keras_mhdeblur.assignment import hypothesis_losses, winner

# BT.601 luma weights of an RGB image in [0, 1] (the offset 16 cancels in differences).
LUMA = np.array([65.481, 128.553, 24.966], "float32") / 255.0


class ImageLoss(keras.losses.Loss):
    """Base of losses with one value per image.

    `call` takes labels and predictions (..., H, W, C) that broadcast over their
    leading axes and returns (...): with labels (B, 1, H, W, C) and a stack
    (B, K, H, W, C) it returns (B, K). Called as a loss it is averaged over the batch.

    Args:
        weight: factor of the loss.
    """

    def __init__(self, weight=1.0, **kwargs):
        super().__init__(**kwargs)
        self.weight = weight

    def get_config(self):
        return {**super().get_config(), "weight": self.weight}


class SquaredErrorLoss(ImageLoss):
    """Base of losses that are a function of the mean squared error.

    Their values for all pair averages follow from the Gram matrix of the errors
    (`assignment.pairwise_mse`).
    """

    def error(self, y_true, y_pred):
        return y_pred - y_true

    def from_mse(self, mse):
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

    def __init__(self, weight=1.0, name="mse_loss", **kwargs):
        super().__init__(weight, name=name, **kwargs)


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class PSNRLoss(SquaredErrorLoss):
    """Negative PSNR in dB of images in [0, 1]: 10 log10(mse + 1e-8) per image.

    Source: the training loss of NAFNet and HINet (arXiv 2105.06086, section 3.3).

    Args:
        weight: factor of the loss.
        to_luma: compare the BT.601 luma of RGB images instead of the colours.
    """

    def __init__(self, weight=1.0, to_luma=False, name="psnr_loss", **kwargs):
        super().__init__(weight, name=name, **kwargs)
        self.to_luma = to_luma

    def error(self, y_true, y_pred):
        error = y_pred - y_true
        if self.to_luma:
            error = ops.sum(error * LUMA, axis=-1, keepdims=True)
        return error

    def from_mse(self, mse):
        return self.weight * (10 / math.log(10)) * ops.log(mse + 1e-8)

    def get_config(self):
        return {**super().get_config(), "to_luma": self.to_luma}


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class L1Loss(ImageLoss):
    """Mean absolute error per image.

    Args:
        weight: factor of the loss.
    """

    def __init__(self, weight=1.0, name="l1_loss", **kwargs):
        super().__init__(weight, name=name, **kwargs)

    def call(self, y_true, y_pred):
        return self.weight * ops.mean(ops.abs(y_pred - y_true), axis=(-3, -2, -1))


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class CharbonnierLoss(ImageLoss):
    """Mean of sqrt(difference^2 + epsilon^2) per image (MPRNet, arXiv 2102.02808).

    Args:
        epsilon: where the loss turns from quadratic to linear.
        weight: factor of the loss.
    """

    def __init__(self, epsilon=1e-3, weight=1.0, name="charbonnier_loss", **kwargs):
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
        epsilon, weight: as in `CharbonnierLoss`.
    """

    def __init__(self, epsilon=1e-3, weight=1.0, name="edge_loss", **kwargs):
        super().__init__(epsilon, weight, name=name, **kwargs)

    def call(self, y_true, y_pred):
        # The Laplacian is linear: the one of the difference is the difference of both.
        edges = _laplacian(y_pred - y_true)
        return super().call(ops.zeros_like(edges), edges)


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class CombinedLoss(ImageLoss):
    """Sum of image losses, for example MPRNet's Charbonnier + 0.05 edge loss.

    The winner among hypotheses is the one with the smallest sum.

    Args:
        losses: image losses; give each its `weight`.
        weight: factor of the sum.
    """

    def __init__(self, losses, weight=1.0, name="combined_loss", **kwargs):
        super().__init__(weight, name=name, **kwargs)
        self.losses = [keras.losses.get(loss) for loss in losses]

    def call(self, y_true, y_pred):
        return self.weight * sum(loss.call(y_true, y_pred) for loss in self.losses)

    def get_config(self):
        losses = [keras.saving.serialize_keras_object(loss) for loss in self.losses]
        return {**super().get_config(), "losses": losses}


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class HypothesisLoss(keras.losses.Loss):
    """Loss of the hypothesis nearest to the label, per sample (winner takes all).

    Labels are (B, H, W, C), predictions head stacks (B, K, H, W, C), or a list of
    them, one per stage: every stage picks its own winner and the stage losses add up.
    The value per sample is the loss of the winner, so only the winner is trained.
    Source: arXiv 2208.13029, eq. 4 to 6.

    A head that loses from the start is never trained. With `relaxation` the losers
    share a small part of the gradient and stay alive (arXiv 1612.00197, eq. 6).

    Args:
        base: the loss of one image, an `ImageLoss` or any Keras loss.
        combine: which pair averages of the heads are the hypotheses, see
            `combination.pair_indices`.
        relaxation: weight that all hypotheses but the winner share; the winner has the
            rest of 1. 0 is the paper's winner takes all.
    """

    def __init__(
        self, base, combine=True, relaxation=0.0, name="hypothesis_loss", **kwargs
    ):
        super().__init__(name=name, **kwargs)
        if not 0 <= relaxation < 1:
            raise ValueError(
                "`relaxation` must be at least 0 and less than 1. "
                f"Received: relaxation={relaxation}"
            )
        self.base = keras.losses.get(base)
        self.combine = combine
        self.relaxation = relaxation

    def call(self, y_true, y_pred):
        stages = y_pred if isinstance(y_pred, (list, tuple)) else [y_pred]
        total = 0.0
        for stack in stages:
            losses = hypothesis_losses(self.base, y_true, stack, self.combine)
            weights = winner(losses)
            losers = losses.shape[1] - 1
            if self.relaxation and losers:
                share = self.relaxation / losers
                weights = share + (1 - self.relaxation - share) * weights
            total += ops.sum(weights * losses, axis=1)
        return total

    def get_config(self):
        return {
            **super().get_config(),
            "base": keras.saving.serialize_keras_object(self.base),
            "combine": self.combine,
            "relaxation": self.relaxation,
        }


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
