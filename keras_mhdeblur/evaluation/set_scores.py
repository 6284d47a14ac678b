"""Scores of a model on a set of images, for every kind by itself."""

import dataclasses
from typing import Any

import numpy as np

from keras_mhdeblur.deblurrer import Deblurrer
from keras_mhdeblur.evaluation.image_sets import ImageSet
from keras_mhdeblur.evaluation.protocols import PLAIN
from keras_mhdeblur.evaluation.scoring import evaluate

# An image is worse than its input where it loses more than this, in dB.
TOLERANCE = 0.1


def evaluate_set(
    model: Deblurrer,
    images: ImageSet,
    *,
    preset: str | None = None,
    progress: bool = False,
) -> dict[str, dict[str, Any]]:
    """Scores a model on every kind of images of a set, in PSNR.

    Args:
        model: `Deblurrer`.
        images: `ImageSet`.
        preset: the model's name, to mark images that trained or chose it.
        progress: whether to show a progress bar on stderr.

    Returns:
        Dictionary from the kinds, and "all", to dictionaries. "images": their number.
        "input": the blurry images' PSNR in dB. Gains over it in dB, means over the
        images: "restored", of `restore`; "selected", the same without its guard;
        "mean" of the hypotheses; "single", the hypothesis that is best on average;
        "overall", the best hypothesis of every image. "least": the smallest gain of
        "restored"; "selected_least": of "selected". "worse" and "selected_worse": the
        number of images that lose more than 0.1 dB. "marked": whether some of the
        images trained or chose the preset.
    """
    source = _Batches(images)
    protocol = dataclasses.replace(PLAIN, ssim=())
    scores = evaluate(
        model, source, protocol=protocol, per_image=True, progress=progress
    )
    rows = scores["per_image"]
    kinds = np.array(source.kinds)
    marked = np.array([preset in names for names in source.chose])
    result = {}
    for kind in [*images.kinds, "all"]:
        chosen = np.flatnonzero((kinds == kind) | (kind == "all"))
        result[kind] = _summary([rows[index] for index in chosen]) | {
            "marked": bool(marked[chosen].any())
        }
    return result


class _Batches:
    """Batches of one pair, which remember its kind and the presets that it chose."""

    def __init__(self, images):
        self.images = images
        self.kinds = []
        self.chose = []

    def __len__(self):
        return len(self.images)

    def __iter__(self):
        for pair in self.images.pairs():
            self.kinds.append(pair.kind)
            self.chose.append(pair.chose)
            yield tuple(
                image[None].astype("float32") / 255
                for image in (pair.blurry, pair.sharp)
            )


def _summary(rows):
    """The scores of the images of a kind."""

    def column(name):
        return np.array([row[f"{name}_psnr"] for row in rows])

    before = column("input")
    gains = {name: column(name) - before for name in ("restored", "selected", "mean")}
    hypotheses = np.array(
        [[v for k, v in row.items() if k.startswith("psnr_")] for row in rows]
    )
    hypotheses = hypotheses - before[:, None]
    means = {name: _rounded(values.mean()) for name, values in gains.items()}
    return {
        "images": len(rows),
        "input": _rounded(before.mean()),
        **means,
        "single": _rounded(hypotheses.mean(axis=0).max()),
        "overall": _rounded(hypotheses.max(axis=1).mean()),
        "least": _rounded(gains["restored"].min()),
        "selected_least": _rounded(gains["selected"].min()),
        "worse": int((gains["restored"] < -TOLERANCE).sum()),
        "selected_worse": int((gains["selected"] < -TOLERANCE).sum()),
    }


def _rounded(value):
    return round(float(value), 4)
