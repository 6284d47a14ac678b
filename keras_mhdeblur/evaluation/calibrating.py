"""Fits a `Calibration` to pairs with known answers (cross-conformal prediction).

Everything that is checked is checked on pairs of scenes that the checked function was
not fitted to: scenes are divided into folds, and each fold is judged by functions that
were fitted to the others, and to pairs that only train.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mhdeblur.deblurrer import Deblurrer
from keras_mhdeblur.evaluation.image_sets import ImageSet, Pair
from keras_mhdeblur.evaluation.protocols import PLAIN
from keras_mhdeblur.evaluation.set_scores import TOLERANCE
from keras_mhdeblur.hypotheses.adaptive import BLOCK, block_sums, neighbourhood
from keras_mhdeblur.hypotheses.calibration import (
    REACH,
    Calibration,
    gate_share,
    whole,
    with_share,
)
from keras_mhdeblur.hypotheses.moments import NUM_PHOTO_FEATURES, features, moments
from keras_mhdeblur.hypotheses.perceptron import Perceptron
from keras_mhdeblur.inference.guard import guarded_image
from keras_mhdeblur.inference.trust import calibration_of
from keras_mhdeblur.presets.litert import choice_fingerprint
from keras_mhdeblur.utils.progress import ProgressBar

MIN_PAIRS, MIN_SCENES = 100, 5
_FOLDS = 5
# Share of the images that may lose.
_MOST_LOSERS = 0.001
_THRESHOLDS = (*np.arange(0, 0.9, 0.1), *np.arange(0.9, 0.99, 0.01), 0.99, 0.995)
# Squared errors below the first are no loss to the gate (50 dB); PSNR above the second
# is not told apart.
_GATE_FLOOR, _MOST_PSNR = 1e-5, 60.0
# How much more a loss counts than a gain, and the gains in dB that are told apart.
_CAUTION = 40.0
_GAINS = (-3.0, 6.0)
_UNITS, _BATCH_SIZE, _LEARNING_RATE = 16, 256, 5e-3
_SAMPLES = 64


@dataclasses.dataclass(frozen=True)
class Example:
    """A pair after the model has seen it.

    Attributes:
        sums: (M, rows, columns), `moments`.
        outcome: (3, rows, columns), sums over blocks of e * e, e * d and d * d, with e
            the blurry photo's error and d what restoring changes.
        samples: (N, 4): error of the blurry photo and change at some values, and the
            row and column of their block.
        scene, kind, name: as of the `Pair`.
    """

    sums: np.ndarray
    outcome: np.ndarray
    samples: np.ndarray
    scene: str
    kind: str = ""
    name: str = ""


def calibrate(
    model: Deblurrer,
    pairs: ImageSet | Iterable[Pair],
    *,
    training_pairs: ImageSet | Iterable[Pair] = (),
    gate: bool = True,
    seed: int = 0,
    progress: bool = False,
) -> Calibration:
    """Fits the gate and the statements of `restore` to pairs.

    The statements hold for photos that are exchangeable with the pairs: of the same
    kinds, in the same proportions. Pairs that chose or trained the model spoil them.

    Args:
        model: `Deblurrer`; it does not change. Set the result as its `calibration`.
        pairs: `ImageSet`, or iterable of `Pair`; at least 100 of at least 5 scenes.
        training_pairs: further pairs, to which functions are fitted, too. Thresholds
            and statements do not depend on them, so the model may have seen them. The
            more scenes, the fewer photos become worse.
        gate: whether photos that are not expected to become better are left as they
            are; without it there are statements only.
        seed: integer, of the folds and the fits.
        progress: whether to show a progress bar on stderr.

    Returns:
        `Calibration`.

    Raises:
        ValueError: there are too few pairs or scenes, both kinds of pairs are of one
            scene, or the images of a pair differ in size.

    Example:

    ```python
    images = evaluation.ImageSet("zoo/sets/choose.yaml", "data")
    model.calibration = evaluation.calibrate(model, images)
    ```
    """
    seen = examples(model, pairs, seed, progress)
    training = examples(model, training_pairs, seed, progress)
    fingerprint = choice_fingerprint(model)
    return fit_calibration(
        seen, model.num_heads, fingerprint, training, seed, gate=gate
    )


def examples(
    model: Deblurrer,
    pairs: ImageSet | Iterable[Pair],
    seed: int = 0,
    progress: bool = False,
) -> list[Example]:
    """The `Example` of every pair."""
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
        one = example(heads, selection, blurry, sharp, pair.scene, random)
        found.append(dataclasses.replace(one, kind=pair.kind, name=pair.name))
        if bar is not None:
            bar.finish()
    if bar is not None:
        bar.close()
    return found


def example(heads, selection, blurry, sharp, scene, random):
    """The `Example` of a pair, float32 images, and its head images."""
    image = guarded_image(heads, blurry, selection)
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
    seen: list[Example],
    num_heads: int,
    fingerprint: str,
    training: Sequence[Example] = (),
    seed: int = 0,
    steps: int = 3000,
    gate: bool = True,
) -> Calibration:
    """The calibration of examples; see `calibrate`.

    Args:
        seen: of `examples`.
        num_heads: K.
        fingerprint: of the model and its choices.
        training: further examples, which only train.
        seed: integer, of the folds and the fits.
        steps: steps of every fit.
        gate: whether there is one.
    """
    scenes = sorted({one.scene for one in seen})
    if len(seen) < MIN_PAIRS or len(scenes) < MIN_SCENES:
        raise ValueError(
            f"`pairs` must be at least {MIN_PAIRS} of at least {MIN_SCENES} scenes. "
            f"Received: {len(seen)} pairs of {len(scenes)} scenes"
        )
    common = {one.scene for one in training}.intersection(scenes)
    if common:
        raise ValueError(
            "`training_pairs` must be of other scenes than `pairs`. Received: both of "
            f"{min(common)!r}"
        )
    order = np.random.default_rng(seed).permutation(len(scenes)) % _FOLDS
    fold_of = dict(zip(scenes, order))
    # Training examples are in no fold: theirs is the number of the last functions.
    folds = np.array([fold_of[one.scene] for one in seen] + [_FOLDS] * len(training))
    every = [*seen, *training]
    checked = slice(len(seen))

    def fitted(values, targets, owners, loss):
        """Functions fitted to all folds but one, for each, and at last to all."""
        others = np.stack([folds[owners] != left for left in (*range(_FOLDS), -1)])
        return _fit_perceptrons(values, targets, others.T, loss, seed, steps)

    of_images = np.stack([features(whole(one.sums), num_heads) for one in every])
    gates, threshold, shares = [None], 0.0, [1.0] * len(every)
    if gate:
        # It is fitted to whole images and their quarters.
        values, outcomes, owners = _pieces(every, num_heads)
        gates = fitted(values, outcomes, owners, _gate_loss)
        scores = [float(gates[fold](row)) for fold, row in zip(folds, of_images)]
        threshold = _threshold(seen, scores[checked])
        shares = [_share(one, score, threshold) for one, score in zip(every, scores)]
    rows = np.stack([with_share(row, share) for row, share in zip(of_images, shares)])
    before, after = np.array(
        [image_psnr(one, share) for one, share in zip(every, shares)]
    ).T
    owners = np.arange(len(every))
    psnr, gains = np.minimum(after, _MOST_PSNR), np.clip(after - before, *_GAINS)
    errors = fitted(rows, psnr[:, None], owners, _huber(2.0))
    tellers = fitted(rows, gains[:, None], owners, _huber(0.5))
    rows, folds, shares = rows[checked], folds[checked], shares[checked]
    told = np.array([errors[fold](row) for fold, row in zip(folds, rows)])
    changed = np.array(shares) > 0
    expected = np.array([tellers[fold](row) for fold, row in zip(folds, rows)])
    gained = (after > before)[checked]
    levels, likely = _increasing(expected[changed], gained[changed])
    photo = rows[:, :NUM_PHOTO_FEATURES]
    return Calibration(
        fingerprint=fingerprint,
        num_heads=num_heads,
        gate=gates[-1],
        threshold=threshold,
        error=errors[-1],
        gain=tellers[-1],
        residuals=np.quantile(psnr[checked] - told, np.linspace(0, 1, 101)),
        scores=levels,
        probabilities=likely,
        widths=_widths(seen, shares, num_heads, [errors[fold] for fold in folds]),
        lowest=photo.min(axis=0),
        highest=photo.max(axis=0),
        pairs=len(seen),
    )


def image_psnr(one: Example, share: float) -> tuple[float, float]:
    """PSNR of the blurry photo and of the gated image in dB, at most 100."""
    square, product, change = _means(one)

    def psnr(error):
        return float(-10 * np.log10(max(error, 0) + 1e-10))

    return psnr(square), psnr(square + 2 * share * product + share**2 * change)


def _means(one):
    """Means over the image of e * e, e * d and d * d."""
    return one.outcome.sum(axis=(1, 2)) / one.sums[0].sum()


def _share(one, score, threshold):
    """`Calibration.share` of an example."""
    return gate_share(score, threshold, _means(one)[2])


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
    """The lowest threshold with few enough losers, or the one with the fewest."""
    found = []
    for threshold in _THRESHOLDS:
        psnr = np.array(
            [
                image_psnr(one, _share(one, score, threshold))
                for one, score in zip(seen, scores)
            ]
        )
        losers = (psnr[:, 1] < psnr[:, 0] - TOLERANCE).sum()
        found.append((max(losers, _MOST_LOSERS * len(seen)), threshold))
    return round(float(min(found)[1]), 3)


def _widths(seen, shares, num_heads, errors):
    """Percentiles of errors at pixels, in units of what `error` tells of blocks."""
    ratios = []
    for one, share, error in zip(seen, shares, errors):
        if share == 0:
            continue
        local = features(neighbourhood(one.sums, REACH), num_heads)
        deviations = 10 ** (-error(with_share(local, share)) / 20)
        ratios.append(np.abs(_left(one, share)) / deviations[_places(one)])
    if not ratios:
        return np.zeros(101)
    return np.quantile(np.concatenate(ratios), np.linspace(0, 1, 101))


def _left(one, share):
    """Errors at the sampled values where a share of the change is kept."""
    return one.samples[:, 0] + share * one.samples[:, 1]


def _places(one):
    """Rows and columns of the blocks of the sampled values."""
    return tuple(one.samples[:, 2:].astype(int).T)


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


def _gate_loss(outcome, scores):
    """Loss of PSNR by shares of the change, losers many times.

    Args:
        outcome: (B, 3), means of e * e, e * d and d * d.
        scores: (B, G), of several gates.
    """
    share = ops.sigmoid(scores)
    square, product, change = (outcome[:, k : k + 1] for k in range(3))
    after = ops.maximum(square + 2 * share * product + share**2 * change, 0)
    gain = ops.log(square + _GATE_FLOOR) - ops.log(after + _GATE_FLOOR)
    return 10 / np.log(10) * (_CAUTION * ops.relu(-gain) - gain)


def _huber(delta):
    """Huber's loss of (B, 1) and (B, G), with the given turn."""

    def loss(targets, values):
        error = ops.abs(targets - values)
        small = ops.minimum(error, delta)
        return small * (error - small / 2)

    return loss


class _Perceptrons(keras.layers.Layer):
    """Several perceptrons of one hidden layer side by side: (B, F) to (B, G)."""

    def __init__(self, count, seed):
        super().__init__()
        self.count = count
        self.seed = seed

    def build(self, shape):
        start = keras.initializers.RandomNormal(0, shape[-1] ** -0.5, self.seed)
        decay = keras.regularizers.L2(1e-4)
        self.parts = [
            self.add_weight(size, initializer=start, regularizer=decay)
            if is_kernel
            else self.add_weight(size, initializer="zeros")
            for size, is_kernel in (
                ((self.count, shape[-1], _UNITS), True),
                ((self.count, _UNITS), False),
                ((self.count, _UNITS), True),
                ((self.count,), False),
            )
        ]

    def call(self, values):
        kernel, bias, last, last_bias = self.parts
        hidden = ops.tanh(ops.einsum("bf,gfn->bgn", values, kernel) + bias)
        return ops.einsum("bgn,gn->bg", hidden, last) + last_bias


def _fit_perceptrons(values, targets, chosen, loss, seed, steps):
    """A `Perceptron` for each column of (N, G) booleans, fitted to those examples."""
    mean = values.mean(axis=0, dtype="float64")
    scale = np.maximum(values.std(axis=0, dtype="float64"), 0.01)
    count, width = chosen.shape[1], targets.shape[1]
    layer = _Perceptrons(count, seed)
    network = keras.Sequential([keras.Input(mean.shape), layer])

    def masked(rows, scores):
        return ops.mean(rows[:, width:] * loss(rows[:, :width], scores), axis=-1)

    rates = keras.optimizers.schedules.CosineDecay(_LEARNING_RATE, steps)
    network.compile(keras.optimizers.Adam(rates, global_clipnorm=1.0), masked)
    scaled = np.clip((values - mean) / scale, -5, 5).astype("float32")
    rows = np.concatenate([targets, chosen], axis=1).astype("float32")
    batch_size = min(_BATCH_SIZE, len(scaled))
    # Drawn here, so that the batches do not depend on the backend.
    random = np.random.default_rng(seed)
    passes = -(-steps * batch_size // len(scaled))
    drawn = np.concatenate([random.permutation(len(scaled)) for _ in range(passes)])
    drawn = drawn[: steps * batch_size]
    network.fit(
        scaled[drawn], rows[drawn], batch_size=batch_size, shuffle=False, verbose=0
    )
    weights = [np.asarray(weight, "float64") for weight in layer.get_weights()]
    return [
        Perceptron(mean, scale, hidden.T, *others) for hidden, *others in zip(*weights)
    ]


def check_calibration(
    model: Deblurrer,
    pairs: ImageSet | Iterable[Pair],
    *,
    seed: int = 0,
    progress: bool = False,
) -> dict[str, dict[str, Any]]:
    """How often what `restore` says of photos is true, for every kind of images.

    Args:
        model: `Deblurrer` with a calibration of its present weights.
        pairs: `ImageSet` or iterable of `Pair`, of photos that neither trained the
            model nor calibrated it.
        seed: integer, of the values at which the band is checked.
        progress: whether to show a progress bar on stderr.

    Returns:
        Dictionary from the kinds, and "all", to dictionaries. "images": their number.
        "gain", "ungated": mean gains in dB, with the gate and without. "least",
        "ungated_least": smallest gains. "worse", "ungated_worse": numbers of images
        that lose more than 0.1 dB. "kept": share of the images that are left as they
        are. "bound": share of the images at or above their lower bound of 90 %. "band":
        share of the values within their band of 90 %. "probability": mean of the
        probabilities of a gain, and "gained": share of the images that gain.
        "familiar": share of the familiar images.

    Raises:
        ValueError: the model has no calibration, or there is no pair.
    """
    calibration = calibration_of(model)
    if calibration is None:
        raise ValueError(
            "`model` must have a calibration of its present weights and choices. "
            f"Received: model.calibration={model.calibration}"
        )
    seen = examples(model, pairs, seed, progress)
    if not seen:
        raise ValueError("`pairs` must hold at least one pair. Received: no pair")
    return {
        kind: records(of_kind, calibration) for kind, of_kind in by_kinds(seen).items()
    }


def by_kinds(seen: Sequence[Example]) -> dict[str, list[Example]]:
    """The examples of every kind, and "all" of them."""
    kinds: dict[str, list[Example]] = {}
    for one in seen:
        kinds.setdefault(one.kind, []).append(one)
    return kinds | {"all": list(seen)}


def records(seen: list[Example], calibration: Calibration) -> dict[str, Any]:
    """The entries of `check_calibration` for examples of one kind."""
    rows = [record(one, calibration) for one in seen]
    columns = {name: np.array([row[name] for row in rows], float) for name in rows[0]}
    result = {name: round(float(v.mean()), 4) for name, v in columns.items()}
    for name, prefix in (("gain", ""), ("ungated", "ungated_")):
        result[f"{prefix}least"] = round(float(columns[name].min()), 4)
        result[f"{prefix}worse"] = int((columns[name] < -TOLERANCE).sum())
    return {"images": len(rows), **result}


def record(one: Example, calibration: Calibration) -> dict[str, Any]:
    """The entries of `check_calibration` that are means, of one example."""
    share = calibration.share(one.sums, _means(one)[2])
    before, after = image_psnr(one, share)
    _, ungated = image_psnr(one, 1.0)
    said = calibration.statement(one.sums, share)
    deviations = calibration.deviations(one.sums, share)[_places(one)]
    return {
        "gain": after - before,
        "ungated": ungated - before,
        "kept": share == 0,
        "bound": min(after, _MOST_PSNR) >= said.psnr_lower_bound(0.9),
        "band": np.mean(np.abs(_left(one, share)) <= said.width(0.9) * deviations),
        "probability": said.gain_probability,
        "gained": after > before,
        "familiar": said.familiar,
    }
