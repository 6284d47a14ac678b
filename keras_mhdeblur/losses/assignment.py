"""Losses of every hypothesis and the assignment of each label to its nearest one."""

from keras import ops

from keras_mhdeblur.hypotheses.pairs import pair_indices
from keras_mhdeblur.layers import HeadCombination
from keras_mhdeblur.utils.types import Tensor


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


def pairwise_target_mse(errors, deviations, combine=True):
    """Mean squared error of every pair average to every target, from Gram matrices.

    With G of the errors e_i = mu_i - m and the deviations d_t = y_t - m, for any image
    m, the average of heads i and j has the mean squared error
    (G_ii + 2 G_ij + G_jj) / 4 - G_it - G_jt + G_tt to the target t. That is a small
    difference, and less exact than its terms. So m should be near the targets, and
    every row of pixels has a G of its own: the rounding of many rows averages out.

    Args:
        errors: (B, K, H, W, C), head images minus m.
        deviations: (B, T, H, W, C), targets minus m.
        combine: which pairs, see `hypotheses.pairs.Pairs`.

    Returns:
        (B, T, K'), not negative.
    """
    heads = errors.shape[1]
    # In one matrix, so that what rounds the factors rounds all products alike.
    images = ops.concatenate([errors, deviations], axis=1)
    batch, count, height, width, channels = ops.shape(images)
    rows = ops.transpose(images, (0, 2, 1, 3, 4))
    rows = ops.reshape(rows, (batch, height, count, width * channels))
    gram = _gram(rows / ops.sqrt(ops.cast(width * channels, rows.dtype)))
    squares = _squares_of_pairs(gram[..., :heads, :heads], combine)
    products = ops.stack(
        [
            gram[..., heads:, i] + gram[..., heads:, j]
            for i, j in pair_indices(heads, combine)
        ],
        axis=-1,
    )
    own = ops.diagonal(gram[..., heads:, heads:], axis1=-2, axis2=-1)
    mse = squares[..., None, :] - products + own[..., None]
    return ops.maximum(ops.mean(mse, axis=1), 0.0)


def pair_squares(errors, combine):
    """Squared norms (..., K') of the pair averages of vectors (..., K, N)."""
    return _squares_of_pairs(_gram(errors), combine)


def _gram(vectors):
    return ops.matmul(vectors, ops.swapaxes(vectors, -1, -2))


def _squares_of_pairs(gram, combine):
    return ops.stack(
        [
            0.25 * (gram[..., i, i] + 2 * gram[..., i, j] + gram[..., j, j])
            for i, j in pair_indices(gram.shape[-1], combine)
        ],
        axis=-1,
    )


def hypothesis_losses(loss, label, stack, combine=True):
    """Loss of every hypothesis of every sample, to its label or to every target.

    Args:
        loss: an `ImageLoss` (any Keras loss works; its values are averaged per image).
        label: (B, H, W, C), or (B, T, H, W, C), T targets per sample.
        stack: (B, K, H, W, C), head images.
        combine: which pair averages of the heads are the hypotheses, see
            `hypotheses.pairs.Pairs`.

    Returns:
        (B, K'), or (B, T, K').
    """
    if len(label.shape) == len(stack.shape):
        return _losses_of_targets(loss, label, stack, combine)
    label = ops.expand_dims(label, 1)
    if combine and stack.shape[1] > 1:
        if hasattr(loss, "from_mse"):
            return loss.from_mse(pairwise_mse(loss.error(label, stack), combine))
        stack = HeadCombination(combine)(stack)
    values = getattr(loss, "call", loss)(label, stack)
    extra_axes = tuple(range(2, len(values.shape)))
    return ops.mean(values, axis=extra_axes) if extra_axes else values


def _losses_of_targets(loss, targets, stack, combine):
    if hasattr(loss, "from_mse"):
        mean = ops.mean(targets, axis=1, keepdims=True)
        errors, deviations = loss.error(mean, stack), loss.error(mean, targets)
        return loss.from_mse(pairwise_target_mse(errors, deviations, combine))
    if combine and stack.shape[1] > 1:
        stack = HeadCombination(combine)(stack)
    # One target after the other: T x K' images at once would be large.
    losses = [
        hypothesis_losses(loss, target, stack, False)
        for target in ops.unstack(targets, axis=1)
    ]
    return ops.stack(losses, axis=1)


def count_targets(y_true: Tensor, y_pred: Tensor) -> int | None:
    """Number of targets per sample in labels, checked against predictions.

    Args:
        y_true: (B, H, W, C), or (B, T, H, W, C), T targets per sample.
        y_pred: (B, K, H, W, C).

    Returns:
        T; None of labels (B, H, W, C).

    Raises:
        ValueError: T is unknown, or ranks or numbers of channels do not fit.
    """
    labels, images = _known_shape("y_true", y_true), _known_shape("y_pred", y_pred)
    received = f"Received: y_true.shape={labels}, y_pred.shape={images}"
    if len(labels) == len(images) - 1:
        return None
    if len(labels) != len(images) or len({labels[-1], images[-1]} - {None}) > 1:
        raise ValueError(
            "`y_true` must be of shape (B, H, W, C), or (B, T, H, W, C) with T targets "
            f"per sample, for `y_pred` of shape (B, K, H, W, C). {received}"
        )
    if not labels[1]:
        raise ValueError(
            "`y_true` of shape (B, T, H, W, C) must have a known number of targets T, "
            f"at least 1. {received}"
        )
    return labels[1]


def weights_per_target(sample_weight: Tensor, count: int) -> Tensor:
    """Weights of samples, (B,) or (B, 1), or of their targets, (B, T), as (B, T).

    Raises:
        ValueError: the weights have another shape.
    """
    sample_weight = ops.convert_to_tensor(sample_weight)
    shape = _known_shape("sample_weight", sample_weight)
    if shape[1:] in ((), (1,)):
        return ops.repeat(ops.reshape(sample_weight, (-1, 1)), count, axis=1)
    if shape[1:] not in ((count,), (None,)):
        raise ValueError(
            f"`sample_weight` must be of shape (B,) or (B, T), here T={count}. "
            f"Received: sample_weight.shape={shape}"
        )
    return sample_weight


def _known_shape(name, tensor):
    # TensorFlow forgets the rank where one graph is to take two of them.
    if getattr(tensor.shape, "rank", 0) is None:
        raise ValueError(
            f"`{name}` must have a known rank; compile the model anew before it takes "
            f"labels or weights of another rank. Received: {name}.shape=<unknown>"
        )
    return tuple(tensor.shape)


def target_weights(counts: Tensor, num_targets: int) -> Tensor:
    """Sample weights for `fit` where samples have fewer targets than their labels hold.

    Of labels (B, T, H, W, C) the first `counts` targets of each sample are valid, the
    others are filling, for example copies of valid ones. A valid target gets T / count,
    another 0, so that every sample counts the same.

    Args:
        counts: (B,) integers, numbers of valid targets, 0 to T; with 0 a sample does
            not count.
        num_targets: T.

    Returns:
        (B, T) float32, the `sample_weight` of `losses.HypothesisLoss`.

    Example:

    ```python
    weights = mhd.losses.target_weights([8, 5], 8)
    model.train_on_batch(blurry, targets, sample_weight=weights)
    ```
    """
    counts = ops.cast(ops.convert_to_tensor(counts), "float32")[:, None]
    valid = ops.arange(num_targets, dtype="float32") < counts
    return ops.where(valid, num_targets / ops.maximum(counts, 1.0), 0.0)


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
