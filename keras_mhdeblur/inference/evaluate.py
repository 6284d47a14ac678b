"""Scores of a model on pairs of blurry and sharp images."""

import numpy as np

from keras_mhdeblur import metrics
from keras_mhdeblur.inference import selection
from keras_mhdeblur.inference.progress import ProgressBar
from keras_mhdeblur.inference.runner import NetworkRunner
from keras_mhdeblur.layers import pair_indices


def evaluate(model, pairs, *, progress=False):
    """Scores hypotheses and their mean beside the blurry input itself.

    Images are compared as 8-bit files would be: clipped to [0, 1], rounded to 256
    levels, whole, in RGB. Every image counts the same.

    Args:
        model: `Deblurrer`.
        pairs: `tf.data.Dataset` or iterable of (blurry, sharp), both (B, H, W, 3) in
            [0, 1]; sizes may change from batch to batch.
        progress: whether to show a progress bar on stderr.

    Returns:
        Dictionary. "images": their number. "psnr" in dB and, of the first three,
        "ssim" (per channel) and "ssim_3d" (as the papers have it), averaged over the
        images, of: "input", the blurry image; "mean", the mean of the hypotheses;
        "medoid", the hypothesis nearest to it; "single", the hypothesis that is best
        on average, and its "pair" of heads (i, j); "overall", the best hypothesis of
        every image, which needs the label to choose. "usage": share of the images for
        which each hypothesis is the best. "smallest_gain": PSNR of the mean less that
        of the input, in the image where it is least.
    """
    heads_of = NetworkRunner.of(model).heads
    rows = []
    bar = None
    for blurry, sharp in pairs:
        for one, label in zip(np.asarray(blurry), np.asarray(sharp)):
            if bar is None and progress:
                bar = ProgressBar(_count(pairs, len(blurry)))
            rows.append(_scores(heads_of(one), one, label, model.combine_heads))
            if bar is not None:
                bar.finish()
    if bar is not None:
        bar.close()
    if not rows:
        raise ValueError("`pairs` must hold at least one pair. Received: no pair")

    psnr = np.array([row["hypotheses"] for row in rows])
    pairs_of_heads = pair_indices(model.num_heads)
    if not model.combine_heads:
        pairs_of_heads = [(k, k) for k in range(model.num_heads)]
    single = int(np.argmax(psnr.mean(axis=0)))
    best = psnr.argmax(axis=1)
    result = {"images": len(rows)}
    for name in ("input", "mean", "medoid"):
        values = np.mean([row[name] for row in rows], axis=0)
        names = ("psnr", "ssim", "ssim_3d")
        result[name] = {key: _round(value) for key, value in zip(names, values)}
    result["single"] = {
        "psnr": _round(psnr[:, single].mean()),
        "pair": list(pairs_of_heads[single]),
    }
    result["overall"] = {"psnr": _round(psnr.max(axis=1).mean())}
    result["usage"] = [_round(np.mean(best == k)) for k in range(psnr.shape[1])]
    gains = [row["mean"][0] - row["input"][0] for row in rows]
    result["smallest_gain"] = _round(min(gains))
    return result


def _scores(heads, blurry, sharp, combine_heads):
    """PSNR, SSIM and 3-D SSIM of the single images, PSNR of the hypotheses."""
    sharp = _quantize(sharp)
    hypotheses = selection.combine(heads, combine_heads)
    medoid = selection.medoid_weights(heads, combine_heads)
    images = {
        "input": blurry,
        "mean": heads.mean(axis=0),
        "medoid": np.tensordot(medoid, heads, 1),
    }
    psnr = metrics.finite_psnr
    scores = {"hypotheses": np.asarray(psnr(sharp, _quantize(hypotheses)))}
    for name, image in images.items():
        image = _quantize(image)
        scores[name] = [
            float(psnr(sharp, image)),
            float(metrics.ssim(sharp, image)),
            float(metrics.ssim(sharp, image, variant="3d")),
        ]
    return scores


def _quantize(image):
    return (np.rint(255 * np.clip(image, 0, 1)) / 255).astype("float32")


def _count(pairs, batch):
    cardinality = getattr(pairs, "cardinality", None)
    if cardinality is not None:
        return max(int(cardinality()) * batch, 1)
    return len(pairs) * batch if hasattr(pairs, "__len__") else 1


def _round(value):
    return round(float(value), 4)
