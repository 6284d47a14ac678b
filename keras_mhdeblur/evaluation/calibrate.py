"""Fits a `Calibration` to pairs with known answers (split conformal prediction).

Everything that is checked is checked on pairs of scenes that the checked function was
not fitted to: scenes are divided into folds, and each fold is judged by functions that
were fitted to the others.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mhdeblur.deblurrer import Deblurrer
from keras_mhdeblur.evaluation.image_sets import ImageSet, Pair
from keras_mhdeblur.evaluation.protocols import PLAIN
from keras_mhdeblur.hypotheses.adaptive import BLOCK, block_sums, neighbourhood
from keras_mhdeblur.hypotheses.calibration import (
    REACH,
    Calibration,
    gate_shares,
    with_share,
)
from keras_mhdeblur.hypotheses.moments import NUM_PHOTO_FEATURES, features, moments
from keras_mhdeblur.hypotheses.perceptron import Perceptron
from keras_mhdeblur.inference.guard import guarded
from keras_mhdeblur.presets.litert import choice_fingerprint
from keras_mhdeblur.utils.progress import ProgressBar

MIN_PAIRS, MIN_SCENES = 100, 5
_FOLDS = 5
# An image is worse than its input where it loses more than this, in dB.
TOLERANCE = 0.1
# Losers among the calibration's pairs that the threshold of the gate may leave.
_RATE = 1 / 2000
# Squared errors below the first are no loss to the gate (50 dB); PSNR above the second
# is not told apart.
_GATE_FLOOR, _MOST_PSNR = 1e-5, 60.0
_CAUTION = 40.0
_GAINS = (-3.0, 6.0)
_UNITS, _BATCH_SIZE, _STEPS, _RATE_OF_STEPS = 16, 256, 3000, 5e-3
_SAMPLES = 64


@dataclasses.dataclass(frozen=True)
class Example:
    """A pair after the model has seen it.

    Attributes:
        sums: (M, rows, columns), `moments`.
        outcome: (3, rows, columns), sums over blocks of e * e, e * d and d * d, with e
            the blurry photo's error and d what restoring changed.
        samples: (N, 4): error of the blurry photo and change at some values, and the
            row and column of their block.
        scene: name of the scene.
    """

    sums: np.ndarray
    outcome: np.ndarray
    samples: np.ndarray
    scene: str


def calibrate(
    model: Deblurrer,
    pairs: ImageSet | Iterable[Pair],
    *,
    seed: int = 0,
    progress: bool = False,
) -> Calibration:
    """Fits the gate and the statements of `restore` to pairs.

    The statements hold for photos that are exchangeable with the pairs: of the same
    kinds, in the same proportions. Pairs that chose or trained the model spoil them.

    Args:
        model: `Deblurrer`; it does not change. Set the result as its `calibration`.
        pairs: `ImageSet`, or iterable of `Pair`; at least 100 of at least 5 scenes.
        seed: integer, of the folds and the fits.
        progress: whether to show a progress bar on stderr.

    Returns:
        `Calibration`.

    Raises:
        ValueError: there are too few pairs or scenes, or the images of a pair differ in
            size.

    Example:

    ```python
    images = evaluation.ImageSet("zoo/sets/choose.yaml", "data")
    model.calibration = evaluation.calibrate(model, images)
    ```
    """
    seen = examples(model, pairs, seed, progress)
    return fit_calibration(seen, model.num_heads, choice_fingerprint(model), seed)


def examples(
    model: Deblurrer,
    pairs: ImageSet | Iterable[Pair],
    seed: int = 0,
    progress: bool = False,
) -> list[Example]:
    """What a model makes of pairs."""
    heads_of = PLAIN.of(model).head_function(model)
    selection = model.head_info.parse(model.select)
    bar = ProgressBar(len(pairs)) if progress and isinstance(pairs, ImageSet) else None
    random = np.random.default_rng(seed)
    found = []
    for pair in pairs.pairs() if isinstance(pairs, ImageSet) else pairs:
        if pair.blurry.shape != pair.sharp.shape:
            raise ValueError(
                "`pairs` must hold images of one size. Received: images of shapes "
                f"{pair.blurry.shape} and {pair.sharp.shape}"
            )
        blurry, sharp = (x.astype("float32") / 255 for x in (pair.blurry, pair.sharp))
        heads = heads_of(blurry)
        found.append(example(heads, selection, blurry, sharp, pair.scene, random))
        if bar is not None:
            bar.finish()
    if bar is not None:
        bar.close()
    return found


def example(heads, selection, blurry, sharp, scene, random):
    """The `Example` of a pair, float32 images, and its head images."""
    kept, blocks = guarded(heads, blurry, selection.weights)
    image = selection.image(kept if blocks.any() else heads, blurry)
    change = np.clip(image, 0, 1) - blurry
    error = blurry - sharp
    outcome = [
        block_sums((a * b).mean(axis=-1), (BLOCK, BLOCK))
        for a, b in ((error, error), (error, change), (change, change))
    ]
    places = random.integers(0, blurry.shape, (_SAMPLES, 3))
    values = [array[tuple(places.T)] for array in (error, change)]
    samples = np.column_stack([*values, places[:, :2] // BLOCK])
    return Example(moments(heads, blurry), np.stack(outcome), samples, scene)


def fit_calibration(
    seen: list[Example], num_heads: int, fingerprint: str, seed: int = 0
) -> Calibration:
    """The calibration of examples; see `calibrate`."""
    scenes = sorted({one.scene for one in seen})
    if len(seen) < MIN_PAIRS or len(scenes) < MIN_SCENES:
        raise ValueError(
            f"`pairs` must be at least {MIN_PAIRS} of at least {MIN_SCENES} scenes. "
            f"Received: {len(seen)} pairs of {len(scenes)} scenes"
        )
    order = np.random.default_rng(seed).permutation(len(scenes)) % _FOLDS
    fold_of = dict(zip(scenes, order))
    folds = np.array([fold_of[one.scene] for one in seen])

    def fitted(values, targets, owners, loss):
        """Functions fitted to all folds but one, for each, and to all."""
        others = [folds[owners] != left for left in (*range(_FOLDS), -1)]
        return [
            _fit_perceptron(values[chosen], targets[chosen], loss, seed)
            for chosen in others
        ]

    # The gate is fitted to whole images and their quarters.
    values, outcomes, owners = _pieces(seen, num_heads)
    *gates, gate = fitted(values, outcomes, owners, _GateLoss())
    local = [features(neighbourhood(one.sums, REACH), num_heads) for one in seen]
    scores = [gates[fold](value) for fold, value in zip(folds, local)]
    threshold = _threshold(seen, scores)
    shares = [gate_shares(score, threshold) for score in scores]

    whole = np.stack(
        [
            with_share(features(one.sums.sum(axis=(1, 2)), num_heads), share.mean())
            for one, share in zip(seen, shares)
        ]
    )
    before, after = np.array(
        [image_psnr(one, share) for one, share in zip(seen, shares)]
    ).T
    every = np.arange(len(seen))
    psnr, gains = np.minimum(after, _MOST_PSNR), np.clip(after - before, *_GAINS)
    *errors, error = fitted(whole, psnr[:, None], every, keras.losses.Huber(2.0))
    *tellers, gain = fitted(whole, gains[:, None], every, keras.losses.Huber(0.5))
    told = np.array([errors[fold](row) for fold, row in zip(folds, whole)])
    changed = np.array([share.any() for share in shares])
    expected = np.array([tellers[fold](row) for fold, row in zip(folds, whole)])
    levels, likely = _increasing(expected[changed], (after > before)[changed])
    photo = whole[:, :NUM_PHOTO_FEATURES]
    return Calibration(
        fingerprint=fingerprint,
        num_heads=num_heads,
        gate=gate,
        threshold=threshold,
        error=error,
        gain=gain,
        residuals=np.quantile(psnr - told, np.linspace(0, 1, 101)),
        scores=levels,
        probabilities=likely,
        widths=_widths(seen, shares, local, [errors[fold] for fold in folds]),
        lowest=photo.min(axis=0),
        highest=photo.max(axis=0),
        pairs=len(seen),
    )


def image_psnr(one: Example, shares: np.ndarray) -> tuple[float, float]:
    """PSNR of the blurry photo and of the gated image in dB, at most 100."""
    square, product, change = one.outcome
    count = one.sums[0].sum()
    after = square + 2 * shares * product + shares**2 * change

    def psnr(errors):
        return float(-10 * np.log10(max(errors.sum() / count, 0) + 1e-10))

    return psnr(square), psnr(after)


def _pieces(seen, num_heads):
    """Features and outcomes of images and of their quarters, and whose they are."""
    values, outcomes, owners = [], [], []
    for index, one in enumerate(seen):
        rows, columns = (size // 2 for size in one.sums.shape[1:])
        halves = [(slice(size), slice(size, None)) for size in (rows, columns)]
        places = [(slice(None), slice(None))]
        if min(rows, columns) >= 4:
            places += [(row, column) for row in halves[0] for column in halves[1]]
        for row, column in places:
            sums = one.sums[:, row, column].sum(axis=(1, 2))
            values.append(features(sums, num_heads))
            outcomes.append(one.outcome[:, row, column].sum(axis=(1, 2)) / sums[0])
            owners.append(index)
    return np.stack(values), np.stack(outcomes), np.array(owners)


def _threshold(seen, scores):
    """The least share to keep with which hardly any image loses."""
    allowed = len(seen) * _RATE
    for threshold in (*np.arange(0, 1, 0.05), 0.97, 0.99, 0.995):
        psnr = [
            image_psnr(one, gate_shares(score, threshold))
            for one, score in zip(seen, scores)
        ]
        if sum(after < before - TOLERANCE for before, after in psnr) <= allowed:
            return round(float(threshold), 3)
    return 1.0


def _widths(seen, shares, local, errors):
    """Percentiles of errors at pixels, in units of what `error` tells of blocks."""
    ratios = []
    for one, share, values, error in zip(seen, shares, local, errors):
        if not share.any():
            continue
        deviations = 10 ** (-error(with_share(values, share)) / 20)
        rows, columns = one.samples[:, 2:].astype(int).T
        kept = share[rows, columns]
        left = one.samples[:, 0] + kept * one.samples[:, 1]
        ratios.append(np.abs(left) / deviations[rows, columns])
    if not ratios:
        return np.zeros(101)
    return np.quantile(np.concatenate(ratios), np.linspace(0, 1, 101))


def _increasing(scores, successes):
    """Steps of the increasing function nearest to successes (isotonic regression)."""
    if not len(scores):
        return np.zeros(1), np.zeros(1)
    order = np.argsort(scores, kind="stable")
    blocks: list[list[float]] = []
    for score, success in zip(scores[order], successes[order]):
        blocks.append([float(success), 1.0, float(score)])
        while len(blocks) > 1 and blocks[-2][0] * blocks[-1][1] >= (
            blocks[-1][0] * blocks[-2][1]
        ):
            last = blocks.pop()
            blocks[-1] = [
                blocks[-1][0] + last[0],
                blocks[-1][1] + last[1],
                (blocks[-1][2] * blocks[-1][1] + last[2] * last[1])
                / (blocks[-1][1] + last[1]),
            ]
    # One more failure and success than there were: nobody is sure of anything.
    likely = [(wins + 1) / (count + 2) for wins, count, _ in blocks]
    return np.array([block[2] for block in blocks]), np.maximum.accumulate(likely)


class _GateLoss(keras.losses.Loss):
    """Loss of PSNR by a share of the change, losers many times.

    Labels are rows of the mean squares e * e, e * d and d * d; predictions are scores.
    """

    def call(self, y_true, y_pred):
        share = ops.sigmoid(y_pred[:, 0])
        square, product, change = (y_true[:, k] for k in range(3))
        after = square + 2 * share * product + share**2 * change
        gain = ops.log(square + _GATE_FLOOR) - ops.log(
            ops.maximum(after, 0) + _GATE_FLOOR
        )
        return 10 / np.log(10) * (_CAUTION * ops.relu(-gain) - gain)


def _fit_perceptron(values, targets, loss, seed):
    mean = values.mean(axis=0, dtype="float64")
    scale = np.maximum(values.std(axis=0, dtype="float64"), 0.01)
    random = np.random.default_rng(seed)

    def dense(units, **options):
        start = keras.initializers.GlorotUniform(int(random.integers(2**31)))
        decay = keras.regularizers.L2(1e-4)
        return keras.layers.Dense(
            units, kernel_initializer=start, kernel_regularizer=decay, **options
        )

    hidden, output = dense(_UNITS, activation="tanh"), dense(1)
    network = keras.Sequential([keras.Input(mean.shape), hidden, output])
    rates = keras.optimizers.schedules.CosineDecay(_RATE_OF_STEPS, _STEPS)
    network.compile(keras.optimizers.Adam(rates, global_clipnorm=1.0), loss)
    scaled = np.clip((values - mean) / scale, -5, 5).astype("float32")
    targets = targets.astype("float32")
    batch_size = min(_BATCH_SIZE, len(scaled))
    # Batches are drawn here, so that they do not depend on the backend.
    steps = np.concatenate(
        [
            random.permutation(len(scaled))
            for _ in range(-(-_STEPS * batch_size // len(scaled)))
        ]
    )[: _STEPS * batch_size]
    network.fit(
        scaled[steps], targets[steps], batch_size=batch_size, shuffle=False, verbose=0
    )
    kernel, bias = (np.asarray(v, "float64") for v in hidden.get_weights())
    last, last_bias = (np.asarray(v, "float64") for v in output.get_weights())
    return Perceptron(mean, scale, kernel.T, bias, last[:, 0], last_bias[0])


def records(seen: list[Example], calibration: Calibration) -> dict[str, Any]:
    """Shares of pairs for which the statements of a calibration are right.

    Args:
        seen: `examples` of pairs that the calibration was not fitted to.
        calibration: `Calibration`.

    Returns:
        Dictionary. "images". "gain" and "ungated": mean gains in dB, with the gate and
        without. "worse", "ungated_worse": numbers of images that lose more than 0.1 dB.
        "least", "ungated_least": smallest gains. "kept": share of the images that are
        left as they are. "bound": share of the images at or above their lower bound of
        90 %. "band": share of the values within their band of 90 %. "probability": mean
        of the probabilities of a gain, and "gained": share of images that gain.
        "familiar": share of familiar images.
    """
    rows = []
    for one in seen:
        shares = calibration.shares(one.sums)
        before, after = image_psnr(one, shares)
        _, ungated = image_psnr(one, np.ones_like(shares))
        said = calibration.statement(one.sums, shares)
        deviations = calibration.deviations(one.sums, shares)
        places = tuple(one.samples[:, 2:].astype(int).T)
        left = np.abs(one.samples[:, 0] + shares[places] * one.samples[:, 1])
        rows.append(
            {
                "gain": after - before,
                "ungated": ungated - before,
                "kept": not shares.any(),
                "bound": min(after, _MOST_PSNR) >= said.psnr_lower_bound(0.9),
                "band": np.mean(left <= said.width(0.9) * deviations[places]),
                "probability": said.gain_probability,
                "gained": after > before,
                "familiar": said.familiar,
            }
        )
    columns = {name: np.array([row[name] for row in rows], float) for name in rows[0]}
    result = {name: round(float(v.mean()), 4) for name, v in columns.items()}
    for name, prefix in (("gain", ""), ("ungated", "ungated_")):
        result[f"{prefix}least"] = round(float(columns[name].min()), 4)
        result[f"{prefix}worse"] = int((columns[name] < -TOLERANCE).sum())
    return {"images": len(rows), **result}
