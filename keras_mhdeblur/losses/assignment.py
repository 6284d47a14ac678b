"""Losses of every hypothesis and the assignment of each label to its nearest one."""

from keras import ops

from keras_mhdeblur.hypotheses.pairs import pair_indices
from keras_mhdeblur.layers import HeadCombination


def pairwise_mse(errors, combine=True):
    """Mean squared error of every pair average, from the Gram matrix of the errors.

    With the errors e_i = mu_i - y and G_ij = mean(e_i e_j), the average of heads i
    and j has the mean squared error (G_ii + 2 G_ij + G_jj) / 4, so the combined
    images are never formed.

    Args:
        errors: (B, K, H, W, C), head images minus label.
        combine: which pairs, see `hypotheses.pairs.Pairs`.

    Returns:
        (B, K'), in the order of `hypotheses.pairs.Pairs`.
    """
    num_heads = errors.shape[1]
    flat = ops.reshape(errors, (ops.shape(errors)[0], num_heads, -1))
    # Scaled before the product, so that sums stay near one.
    flat = flat / ops.sqrt(ops.cast(ops.shape(flat)[2], flat.dtype))
    return pair_squares(flat, combine)


def pair_squares(errors, combine):
    """Squared norms (..., K') of the pair averages of vectors (..., K, N)."""
    gram = ops.matmul(errors, ops.swapaxes(errors, -1, -2))
    return ops.stack(
        [
            0.25 * (gram[..., i, i] + 2 * gram[..., i, j] + gram[..., j, j])
            for i, j in pair_indices(errors.shape[-2], combine)
        ],
        axis=-1,
    )


def hypothesis_losses(loss, label, stack, combine=True):
    """Loss of every hypothesis of every sample.

    Args:
        loss: an `ImageLoss` (any Keras loss works; its values are averaged per image).
        label: (B, H, W, C).
        stack: (B, K, H, W, C), head images.
        combine: which pair averages of the heads are the hypotheses, see
            `hypotheses.pairs.Pairs`.

    Returns:
        (B, K').
    """
    label = ops.expand_dims(label, 1)
    if combine and stack.shape[1] > 1:
        if hasattr(loss, "from_mse"):
            return loss.from_mse(pairwise_mse(loss.error(label, stack), combine))
        stack = HeadCombination(combine)(stack)
    values = getattr(loss, "call", loss)(label, stack)
    extra_axes = tuple(range(2, len(values.shape)))
    return ops.mean(values, axis=extra_axes) if extra_axes else values


def winner(losses):
    """One-hot choice of the smallest loss, without gradient.

    A plain minimum would split the gradient over ties.

    Args:
        losses: (..., K').

    Returns:
        (..., K'), of the dtype of `losses`.
    """
    best = ops.argmin(ops.stop_gradient(losses), axis=-1)
    return ops.one_hot(best, losses.shape[-1], dtype=losses.dtype)
