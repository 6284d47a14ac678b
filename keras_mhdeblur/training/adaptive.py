"""Fits the weights of `restore(select="adaptive")` to a trained model."""

import itertools

import keras
import numpy as np
from keras import ops

from keras_mhdeblur.deblurrer import Deblurrer
from keras_mhdeblur.hypotheses import adaptive
from keras_mhdeblur.inference.engine_choice import choose_engine
from keras_mhdeblur.utils.types import Batches

_BATCH_SIZE, _RATE = 32, 3e-3
# Added to squared errors: above 70 dB nothing is gained.
_FLOOR = 1e-7
# Features that vary less are not stretched: their coefficients would be huge, and drown
# the others in rounding.
_SMALLEST_SCALE = 0.01


def fit_adaptive_weights(
    model: Deblurrer,
    dataset: Batches,
    patches: int = 4096,
    caution: float = 0.5,
    epochs: int = 60,
    shrinkage: float = 0.5,
    patch_size: int | None = None,
) -> tuple[tuple[float, ...], ...]:
    """Finds with which weights the heads' mean is nearest to the labels.

    The weights are the softmax of a linear function of what the heads change in a
    patch (`hypotheses.adaptive`). It is fitted to the mean over patches of the PSNR of
    the weighted mean; the squared errors of the heads and their products suffice for
    that, so that the network sees each patch once.

    Args:
        model: trained `Deblurrer` with several heads; it does not change.
        dataset: iterable of batches (blurry, sharp), float (B, H, W, C) in [0, 1], of
            the kind that the model was trained on. Patches of 128x128 are as large as
            the neighbourhoods that `restore` looks at.
        patches: how many of them to take, at most.
        caution: how much more it counts, in dB, when a patch becomes worse than it
            was; 0 for not at all.
        epochs: passes over the patches' statistics.
        shrinkage: how far, from 0 to 1, the function is drawn towards 0, that is the
            weights towards equal ones. Photos differ from patches: half of what is
            fitted restores them better, above all those that would become worse.
        patch_size: side in pixels of the patches that images are cut into after the
            network has seen them whole; None: they are patches already. For networks
            that need larger ones than 128x128, as MAXIM does.

    Returns:
        Tuple of K tuples of floats, the `adaptive_weights` of `Deblurrer`.

    Raises:
        ValueError: if the model has one head, there is no patch, labels have several
            targets, or `shrinkage` is out of its range.

    Example:

    ```python
    model.adaptive_weights = fit_adaptive_weights(model, dataset)
    model.select = "adaptive"
    ```
    """
    if model.num_heads < 2:
        raise ValueError(
            "`model` must have several heads. "
            f"Received: model.num_heads={model.num_heads}"
        )
    if not 0 <= shrinkage <= 1:
        raise ValueError(
            f"`shrinkage` must be from 0 to 1. Received: shrinkage={shrinkage}"
        )
    found = _restored_patches(choose_engine(model), dataset, patch_size)
    all_features, all_errors = [], []
    for heads, blurry, sharp in itertools.islice(found, patches):
        all_features.append(adaptive.features(heads, blurry, reach=None)[0, 0])
        differences = np.stack([*heads, blurry]).reshape(len(heads) + 1, -1)
        differences = differences - sharp.reshape(1, -1)
        gram = differences @ differences.T / sharp.size
        # Of the blurry image its own error only.
        all_errors.append([*gram[:-1, :-1].ravel(), gram[-1, -1]])
    if not all_features:
        raise ValueError("`dataset` must hold at least one patch. Received: none")
    values, errors = np.array(all_features), np.array(all_errors, "float32")
    mean = values.mean(axis=0, dtype="float64")
    scale = np.maximum(values.std(axis=0, dtype="float64"), _SMALLEST_SCALE)
    layer = keras.layers.Dense(
        model.num_heads, activation="softmax", kernel_initializer="zeros"
    )
    steps = epochs * -(-len(values) // _BATCH_SIZE)
    fit = keras.Sequential([keras.Input(mean.shape), layer])
    fit.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(_RATE, steps)),
        _WeightedMeanLoss(caution),
    )
    fit.fit(
        (values - mean) / scale, errors, _BATCH_SIZE, epochs, verbose=0, shuffle=False
    )
    kernel, bias = layer.get_weights()
    kernel = kernel.T / scale
    coefficients = (1 - shrinkage) * np.column_stack([kernel, bias - kernel @ mean])
    return tuple(tuple(float(f"{c:.6g}") for c in row) for row in coefficients)


def _restored_patches(engine, dataset, patch_size):
    """Yields head images (K, h, w, C), blurry and sharp image (h, w, C) of patches."""
    pairs = ((x, y) for batch in dataset for x, y in zip(*map(np.asarray, batch)))
    for blurry, sharp in pairs:
        if blurry.shape != sharp.shape:
            raise ValueError(
                "`dataset` must hold one sharp image of the same shape for each blurry "
                f"one. Received: dataset of images {blurry.shape} and {sharp.shape}"
            )
        heads = engine.heads(blurry)
        places = []
        for size in blurry.shape[:2]:
            step = patch_size or size
            starts = range(0, size - step + 1, step)
            places.append([slice(start, start + step) for start in starts])
        for place in itertools.product(*places):
            yield heads[:, *place], blurry[place], sharp[place]


class _WeightedMeanLoss(keras.losses.Loss):
    """Logarithm of the squared error of the heads' weighted mean, per patch.

    Labels are rows of the K^2 mean products of the heads' errors, and the squared error
    of the blurry patch; predictions are the K weights.
    """

    def __init__(self, caution):
        super().__init__()
        self.caution = caution

    def call(self, y_true, y_pred):
        heads = y_pred.shape[-1]
        gram = ops.reshape(y_true[:, :-1], (-1, heads, heads))
        error = ops.einsum("bk,bkl,bl->b", y_pred, gram, y_pred)
        error, blurry = ops.log(error + _FLOOR), ops.log(y_true[:, -1] + _FLOOR)
        return error + self.caution * ops.relu(error - blurry)
