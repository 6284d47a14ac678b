"""Decibels that tiles of several sizes cost, against the photo restored at once.

python benchmarks/tiles.py NAME=BLUR_FOLDER:SHARP_FOLDER... [--preset maxim_mh_c]
    [--stages 1] [--sizes 256 384 512] [--count 2]

For every size the mean gain over the blurry photo, the root mean square difference from
the photo restored at once, and how much larger steps between neighbouring pixels are
across a seam than inside a tile, in levels of 255.
"""

import argparse

import numpy as np
from named_pairs import named_pair

from keras_mhdeblur import data
from keras_mhdeblur.engines import tiling
from keras_mhdeblur.presets.litert import litert_from_preset


def psnr(image, label):
    return -10 * np.log10(np.square((image - label) / 255.0).mean())


def seam_excess(image, whole, tile, model):
    """Largest mean step across the middle of a seam less that at once, in levels."""
    excess = 0
    for axis, length in enumerate(image.shape[:2]):
        spans = tiling.spans(length, tile, model.alignment, model.context)
        for (_, stop), (start, _) in zip(spans, spans[1:]):
            steps = [
                np.abs(np.diff(each.astype(float), axis=axis)).mean(axis=(1 - axis, 2))
                for each in (image, whole)
            ]
            seam = slice(start, stop - 1)
            excess = max(excess, (steps[0] - steps[1])[seam].max())
    return excess


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("pairs", nargs="+", type=named_pair)
parser.add_argument("--preset", default="maxim_mh_c")
parser.add_argument("--stages", type=int)
parser.add_argument("--sizes", nargs="+", type=int, default=[256, 384, 512])
parser.add_argument("--count", type=int, default=2)
options = parser.parse_args()
model = litert_from_preset(options.preset, stages=options.stages)
for name, (blur, sharp) in options.pairs:
    files = data.list_pairs(blur, sharp)[: options.count]
    rows = {size: [] for size in (None, *options.sizes)}
    for paths in files:
        before, label = (
            data.read_image(path).to_array()[..., :3].astype(float) for path in paths
        )
        whole = None
        for size in rows:
            image = model.restore(
                str(paths[0]), tile=size, memory_limit_mb=16000, hypotheses=False
            ).image
            whole = image if whole is None else whole
            difference = np.sqrt(np.square(image.astype(float) - whole).mean())
            gain = psnr(image, label) - psnr(before, label)
            seam = 0 if size is None else seam_excess(image, whole, size, model)
            rows[size].append([gain, difference, seam])
    for size, values in rows.items():
        gain, difference, seam = np.mean(values, axis=0)
        print(
            f"{name} {size or 'whole'}: {gain:+.2f} dB, {difference:.2f} levels from "
            f"the whole, seams {seam:+.2f} levels",
            flush=True,
        )
