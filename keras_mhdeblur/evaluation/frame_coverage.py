"""Coverage: how much of an exposure's sharp images the hypotheses of its blur cover.

A blurry photo is the mean of all that the camera saw while it was open. Every frame of
that is a right answer. Where the frames are known, so is the share of them that some
hypothesis is near to.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from keras_mhdeblur.deblurrer import Deblurrer
from keras_mhdeblur.evaluation.protocols import PLAIN

Hypotheses = Callable[[np.ndarray], np.ndarray]
# Squared errors below are those of images that are equal: 100 dB.
_FLOOR = 1e-10


def coverage(
    model: Deblurrer | Hypotheses,
    exposures: Iterable[tuple[np.ndarray, np.ndarray]],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Scores the hypotheses of blurry images against all frames of their exposures.

    The coverage of an exposure by n images is the mean over its frames of the PSNR of
    the image nearest to each (CovPSNR@n).

    Args:
        model: `Deblurrer`, or a function from a blurry image (H, W, C) to images
            (N, H, W, C), such as `eight_orientations(model)`.
        exposures: iterable of (blurry, frames), float (H, W, C) and (T, H, W, C) in
            [0, 1]; frames are in order of time.
        resamples: number of resamples of the exposures for the confidence interval.
        seed: integer, of the resamples.

    Returns:
        Dictionary that JSON can hold, PSNR in dB, means over the exposures.

        - "exposures": their number. "images": the number N of images.
        - "coverage": CovPSNR@N. "interval": its 95 % bootstrap interval (low, high).
        - "curve": list of N, CovPSNR@n of n of the images that are drawn at random.
        - "bound": list of N, the coverage of the n means of the best division of the
          frames into n runs: k-means, and the least error that n images can have.
        - "input": the coverage of the blurry image by itself.
        - "middle": the PSNR of the mean of the images to the frame in the middle.
        - "nearest": N lists of 10, the share of the frames of each tenth of the
          exposure that each image is nearest to.
        - "per_exposure": list of CovPSNR@N.

    Raises:
        ValueError: there is no exposure, or frames have another shape than the image.
    """
    images_of = hypotheses_of(model)
    rows: list[dict[str, Any]] = []
    for blurry, frames in exposures:
        blurry, frames = (np.asarray(x, "float32") for x in (blurry, frames))
        if frames.ndim != 4 or not len(frames) or frames.shape[1:] != blurry.shape:
            raise ValueError(
                "`exposures` must hold images (H, W, C) and their frames "
                f"(T, H, W, C). Received: shapes {blurry.shape} and {frames.shape}"
            )
        rows.append(_scores(images_of(blurry), blurry, frames))
    if not rows:
        raise ValueError("`exposures` must hold at least one. Received: none")
    covered = np.array([row["curve"][-1] for row in rows])
    drawn = np.random.default_rng(seed).integers(0, len(rows), (resamples, len(rows)))
    low, high = np.quantile(covered[drawn].mean(axis=1), (0.025, 0.975))
    result: dict[str, Any] = {
        name: np.round(np.mean([row[name] for row in rows], axis=0), 4).tolist()
        for name in ("curve", "bound", "input", "middle", "nearest")
    }
    return {
        "exposures": len(rows),
        "images": len(result["curve"]),
        "coverage": result["curve"][-1],
        "interval": [round(float(low), 4), round(float(high), 4)],
        **result,
        "per_exposure": covered.round(4).tolist(),
    }


def hypotheses_of(model: Deblurrer | Hypotheses) -> Hypotheses:
    """Function from a blurry image to its hypotheses (K', H, W, C)."""
    if not isinstance(model, Deblurrer):
        return model
    heads_of = PLAIN.of(model).head_function(model)
    pairs = model.head_info.pairs
    return lambda image: pairs.combined(heads_of(image))


def eight_orientations(model: Deblurrer | Hypotheses) -> Hypotheses:
    """The mean image of a model for the eight turns and flips of a photo.

    Args:
        model: as of `coverage`.

    Returns:
        Function from an image (H, W, C) to images (8, H, W, C), turned back.
    """
    images_of = hypotheses_of(model)

    def images(image):
        result = []
        for turns in range(4):
            for flip in (False, True):
                seen = np.rot90(image, turns)
                seen = seen[:, ::-1] if flip else seen
                restored = images_of(np.ascontiguousarray(seen)).mean(axis=0)
                restored = restored[:, ::-1] if flip else restored
                result.append(np.rot90(restored, -turns))
        return np.stack(result)

    return images


def best_division(gram: np.ndarray, count: int) -> list[slice]:
    """The division of frames into runs with the least error of the runs' means.

    Args:
        gram: (T, T), products of the frames.
        count: number of runs, at most T.

    Returns:
        List of `count` slices.
    """
    size = len(gram)
    total = np.zeros((size + 1, size + 1))
    total[1:, 1:] = gram.cumsum(axis=0).cumsum(axis=1)
    squares = np.concatenate([[0], np.diag(gram).cumsum()])

    def error(start, stop):
        block = total[stop, stop] - 2 * total[start, stop] + total[start, start]
        return squares[stop] - squares[start] - block / (stop - start)

    errors = np.full((count + 1, size + 1), np.inf)
    starts = np.zeros((count + 1, size + 1), int)
    errors[0, 0] = 0
    for runs in range(1, count + 1):
        for stop in range(runs, size + 1):
            choices = [
                errors[runs - 1, start] + error(start, stop)
                for start in range(runs - 1, stop)
            ]
            best = int(np.argmin(choices))
            errors[runs, stop] = choices[best]
            starts[runs, stop] = runs - 1 + best
    slices, stop = [], size
    for runs in range(count, 0, -1):
        slices.append(slice(int(starts[runs, stop]), stop))
        stop = int(starts[runs, stop])
    return slices[::-1]


def _scores(images, blurry, frames):
    """Scores of one exposure."""
    psnr = _psnr(np.clip(images, 0, 1), frames)
    count = len(images)
    flat = frames.reshape(len(frames), -1)
    gram = (flat @ flat.T).astype("float64")
    bound = []
    for n in range(1, count + 1):
        runs = best_division(gram, min(n, len(frames)))
        means = np.stack([frames[run].mean(axis=0) for run in runs])
        bound.append(float(_psnr(means, frames).max(axis=0).mean()))
    tenths = (np.arange(len(frames)) * 10) // len(frames)
    nearest = np.zeros((count, 10))
    for image, tenth in zip(psnr.argmax(axis=0), tenths):
        nearest[image, tenth] += 1
    middle = np.clip(np.mean(images, axis=0), 0, 1)
    return {
        "curve": _of_random_subsets(psnr),
        "bound": bound,
        "input": float(_psnr(blurry[None], frames).mean()),
        "middle": float(_psnr(middle[None], frames[[len(frames) // 2]])[0, 0]),
        "nearest": nearest / np.maximum(nearest.sum(axis=0), 1),
    }


def _psnr(images, frames):
    """PSNR in dB of images (N, ...) to frames (T, ...), (N, T)."""
    return np.array(
        [
            [-10 * math.log10(np.square(a - b).mean() + _FLOOR) for b in frames]
            for a in images
        ]
    )


def _of_random_subsets(psnr):
    """Mean over frames and over all subsets of n images of the best PSNR, n = 1 to N.

    Of N values in order, the i-th is the best of `comb(i, n - 1)` subsets.
    """
    count = len(psnr)
    ordered = np.sort(psnr, axis=0).mean(axis=1)
    curve = []
    for n in range(1, count + 1):
        subsets = [math.comb(i, n - 1) / math.comb(count, n) for i in range(count)]
        curve.append(float(ordered @ np.array(subsets)))
    return curve
