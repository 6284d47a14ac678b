"""Scores of a model on pairs of blurry and sharp images."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np

from keras_mhdeblur.deblurrer import Deblurrer
from keras_mhdeblur.evaluation.protocols import Protocol, get_protocol
from keras_mhdeblur.hypotheses.pairs import pair_indices
from keras_mhdeblur.hypotheses.stacks import medoid_index
from keras_mhdeblur.inference.guard import guarded_image
from keras_mhdeblur.inference.trust import calibration_of, gated_image
from keras_mhdeblur.photos.pixels import checked_image
from keras_mhdeblur.utils.progress import ProgressBar


def evaluate(
    model: Deblurrer,
    pairs: Iterable,
    *,
    protocol: str | Protocol = "plain",
    benchmark: str | None = None,
    baseline: Deblurrer | None = None,
    per_image: bool = False,
    progress: bool = False,
) -> dict[str, Any]:
    """Scores the restored images and all hypotheses beside the blurry input itself.

    Every image counts the same. PSNR is of all pixels and channels of an image, at
    most 100 dB, and averaged in dB. There is no LPIPS: Keras and TensorFlow have no
    well-kept implementation (keras-team/keras#20844 was never merged).

    Args:
        model: `Deblurrer`.
        pairs: `tf.data.Dataset` or iterable of (blurry, sharp), both float
            (B, H, W, 3) in [0, 1]; sizes may change from batch to batch.
        protocol: "plain", "paper" or a `Protocol`; see `get_protocol`.
        benchmark: name of the benchmark that the pairs are from, for "paper" and for
            the alignment of RealBlur.
        baseline: another `Deblurrer` to score on the same images.
        per_image: whether to add the scores of every image.
        progress: whether to show a progress bar on stderr.

    Returns:
        Dictionary that JSON can hold.

        - "images": their number. "protocol": the fields of the `Protocol`.
        - "num_heads": K. "combine_heads": whether heads are averaged in pairs.
          "hypotheses": names of the K' hypotheses, "0+1" the average of 0 and 1.
        - Dictionaries of "psnr" in dB, "ssim" (per channel), "ssim_3d" and
          "ssim_luma", averaged over the images. "input": of the blurry image.
          "restored": of the image that `restore` gives, with its guard; with "paper",
          which has no guard, as "selected". "selected": of the image that
          `model.select` chooses, without guard. "mean": of the mean of the hypotheses.
          "medoid": of the hypothesis nearest to it.
          "single": of the hypothesis whose PSNR is best on average (arXiv 2208.13029,
          eq. 7b), with its "pair" of heads (i, j). "overall": of the best hypothesis
          of every image (eq. 7a), for each score by itself; it needs the label to
          choose.
        - "smallest_gain": PSNR of the restored image less that of the input, in dB,
          where it is least.
        - Lists in the order of "hypotheses". "psnr_per_hypothesis": mean PSNR.
          "usage": share of the images for which each has the best PSNR.
          "winner_psnr": mean PSNR over those images, None where there are none.
        - "pair_psnr": K lists of K numbers, the mean PSNR of the average of the heads
          i and j, also for a model that does not combine them (Fig. 6).
        - "baseline", if given: a dictionary like this one.
        - "per_image", if asked for: a flat dictionary for every image, with the
          "winner" and "psnr_<hypothesis>" besides the scores, "mean_psnr" and so on.

    Raises:
        ValueError: there is no pair, images are of another type, shape or too small,
            or there is no such protocol.
    """
    scorer = _Scorer(model, get_protocol(protocol, model, benchmark))
    scorers = {"": scorer}
    if baseline is not None:
        own = get_protocol(protocol, baseline, benchmark)
        scorers["baseline_"] = _Scorer(baseline, own)
    inputs = []
    bar = None
    for blurry, sharp in pairs:
        for one, label in zip(np.asarray(blurry), np.asarray(sharp)):
            _check_pair(one, label)
            if bar is None and progress:
                bar = ProgressBar(_count(pairs, len(blurry)))
            inputs.append(scorer.protocol.scores(one, label))
            for each in scorers.values():
                each.add(one, label)
            if bar is not None:
                bar.finish()
    if bar is not None:
        bar.close()
    if not inputs:
        raise ValueError("`pairs` must hold at least one pair. Received: no pair")

    of_input = {key: np.array([row[key] for row in inputs]) for key in inputs[0]}
    result = {"images": len(inputs), "input": _mean(of_input)}
    result |= scorer.summary(of_input["psnr"])
    if baseline is not None:
        result["baseline"] = scorers["baseline_"].summary(of_input["psnr"])
    if per_image:
        columns = {f"input_{key}": values for key, values in of_input.items()}
        for prefix, each in scorers.items():
            columns |= {prefix + key: value for key, value in each.columns().items()}
        result["per_image"] = [
            {key: _plain(values[index]) for key, values in columns.items()}
            for index in range(result["images"])
        ]
    return result


class _Scorer:
    """Collects the scores of one model."""

    def __init__(self, model, protocol):
        self.model = model
        self.protocol = protocol.of(model)
        self.heads_of = protocol.head_function(model)
        self.num_heads = model.num_heads
        self.combine_heads = model.combine_heads
        self.pairs = model.head_info.pairs
        self.names = self.pairs.names
        self.selection = model.head_info.parse(model.select)
        self.calibration = calibration_of(model)
        self.rows = []

    def add(self, blurry, sharp):
        """Scores the hypotheses of an image."""
        heads = self.heads_of(blurry)
        hypotheses = []
        pair_psnr = np.zeros((self.num_heads, self.num_heads))
        # One by one: all hypotheses of a large image at once would take too much.
        for i, j in pair_indices(self.num_heads, True):
            hypothesis = (i, j) in self.pairs.indices
            image = 0.5 * (heads[i] + heads[j])
            scores = self.protocol.scores(image, sharp, ssim=hypothesis)
            pair_psnr[i, j] = pair_psnr[j, i] = scores["psnr"]
            if hypothesis:
                hypotheses.append(scores)
        medoid = medoid_index(heads, self.pairs)
        mean = selected = self.protocol.scores(heads.mean(axis=0), sharp)
        if self.model.select != "mean":
            image = self.selection.image(heads, blurry)
            selected = self.protocol.scores(image, sharp)
        restored = selected
        if self.protocol.as_restored:
            image = guarded_image(heads, blurry, self.selection)
            if self.calibration is not None:
                image = gated_image(image, heads, blurry, self.calibration)
            restored = self.protocol.scores(image, sharp)
        self.rows.append(
            {
                "restored": restored,
                "selected": selected,
                "mean": mean,
                "medoid": hypotheses[medoid],
                "hypotheses": hypotheses,
                "pair_psnr": pair_psnr,
            }
        )

    def images(self):
        """Scores of single images: name -> {score -> (N,)}."""
        hypotheses = self._hypotheses()
        single = self._single()
        return {
            "restored": self._of("restored"),
            "selected": self._of("selected"),
            "mean": self._of("mean"),
            "medoid": self._of("medoid"),
            "single": {key: values[:, single] for key, values in hypotheses.items()},
            "overall": {key: values.max(axis=1) for key, values in hypotheses.items()},
        }

    def columns(self):
        """Columns of the table of images: name -> (N,)."""
        psnr = self._hypotheses()["psnr"]
        columns = {
            f"{name}_{key}": values
            for name, scores in self.images().items()
            for key, values in scores.items()
        }
        columns["winner"] = [self.names[best] for best in psnr.argmax(axis=1)]
        for index, name in enumerate(self.names):
            columns[f"psnr_{name}"] = psnr[:, index]
        return columns

    def summary(self, input_psnr):
        """The result's entries on this model."""
        images = self.images()
        psnr = self._hypotheses()["psnr"]
        best = psnr.argmax(axis=1)
        wins = [best == index for index in range(len(self.names))]
        summary = {name: _mean(scores) for name, scores in images.items()}
        summary["single"]["pair"] = list(self.pairs.indices[self._single()])
        pair_psnr = np.mean([row["pair_psnr"] for row in self.rows], axis=0)
        return {
            "protocol": dataclasses.asdict(self.protocol),
            "num_heads": self.num_heads,
            "combine_heads": self.combine_heads,
            "hypotheses": self.names,
            **summary,
            "smallest_gain": _plain(np.min(images["restored"]["psnr"] - input_psnr)),
            "psnr_per_hypothesis": [_plain(value) for value in psnr.mean(axis=0)],
            "usage": [_plain(np.mean(won)) for won in wins],
            "winner_psnr": [
                _plain(psnr[won, index].mean()) if won.any() else None
                for index, won in enumerate(wins)
            ],
            "pair_psnr": [[_plain(value) for value in row] for row in pair_psnr],
        }

    def _of(self, name):
        return {
            key: np.array([row[name][key] for row in self.rows])
            for key in self.rows[0][name]
        }

    def _hypotheses(self):
        """Scores of the hypotheses: score -> (N, K')."""
        return {
            key: np.array([[h[key] for h in row["hypotheses"]] for row in self.rows])
            for key in self.rows[0]["mean"]
        }

    def _single(self):
        return int(np.argmax(self._hypotheses()["psnr"].mean(axis=0)))


def _check_pair(blurry, sharp):
    if blurry.dtype.kind != "f" or sharp.dtype.kind != "f":
        raise ValueError(
            "`pairs` must hold float images in [0, 1]. "
            f"Received: pairs of {blurry.dtype} and {sharp.dtype}"
        )
    if blurry.ndim != 3 or blurry.shape != sharp.shape:
        raise ValueError(
            "`pairs` must hold batches (B, H, W, 3), blurry and sharp of one shape. "
            f"Received: pairs of images {blurry.shape} and {sharp.shape}"
        )
    for image in (blurry, sharp):
        checked_image(image, "pairs")


def _count(pairs, batch):
    cardinality = getattr(pairs, "cardinality", None)
    if cardinality is not None:
        return max(int(cardinality()) * batch, 1)
    return len(pairs) * batch if hasattr(pairs, "__len__") else 1


def _mean(scores):
    return {key: _plain(values.mean()) for key, values in scores.items()}


def _plain(value):
    """A name as it is, a number in Python's type with 4 decimals."""
    return value if isinstance(value, str) else round(float(value), 4)
