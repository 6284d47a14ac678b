"""Coverage of the sharp frames of exposures by hypotheses and by rivals.

    python benchmarks/coverage.py --set zoo/sets/report.yaml --data DATA
        [--presets nafnet_mh_c maxim_mh_c@1] [--orientations nafnet_mh_c]
        [--output FOLDER]

Of every kind of exposures in the set: CovPSNR in dB of n images, the best that n images
can have (means of n runs of the frames), and the PSNR of their mean to the frame in the
middle. A preset is given as NAME or NAME@STAGES. `--orientations` names presets whose
mean image for eight turns and flips of the photo is a rival. The folder gets a file
for each kind, which `mhdeblur figures coverage` draws.
"""

import argparse
import json
import pathlib

from kept_images import loaded

from keras_mhdeblur.evaluation import ImageSet, coverage, eight_orientations
from keras_mhdeblur.evaluation.frame_coverage import hypotheses_of


def rows_of(presets, orientations):
    """Yields names and functions from an image to images."""
    yield "blurry photo", lambda image: image[None]
    for name in presets:
        model = loaded(name)
        images_of = once(hypotheses_of(model))
        pairs = model.head_info.pairs
        alone = [k for k, (i, j) in enumerate(pairs.indices) if i == j]
        yield f"{name}, mean", lambda image, f=images_of: f(image).mean(0)[None]
        yield f"{name}, heads", lambda image, f=images_of, a=alone: f(image)[a]
        yield f"{name}, hypotheses", images_of
    for name in orientations:
        yield f"{name}, eight orientations", eight_orientations(loaded(name))


def once(images_of):
    """The function, called once for each of the images, which are kept elsewhere."""
    found = {}

    def images(image):
        if id(image) not in found:
            found[id(image)] = images_of(image)
        return found[id(image)]

    return images


parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--set", required=True)
parser.add_argument("--data", required=True)
parser.add_argument("--presets", nargs="+", default=["nafnet_mh_c", "maxim_mh_c@1"])
parser.add_argument("--orientations", nargs="*", default=["nafnet_mh_c"])
parser.add_argument("--output", type=pathlib.Path)
options = parser.parse_args()
kinds = {}
for exposure in ImageSet(options.set, options.data).exposures():
    pair = [x.astype("float32") / 255 for x in (exposure.blurry, exposure.frames)]
    kinds.setdefault(exposure.kind, []).append(pair)
for kind, exposures in kinds.items():
    frames = sum(len(frames) for _, frames in exposures) / len(exposures)
    print(f"{kind}: {len(exposures)} exposures, {frames:.1f} frames in the mean")
    results = {}
    for name, images_of in rows_of(options.presets, options.orientations):
        found = results[name] = coverage(images_of, exposures)
        low, high = found["interval"]
        print(
            f"{name:36} n={found['images']:2} coverage {found['coverage']:6.2f} "
            f"({low:.2f} to {high:.2f})  bound {found['bound'][-1]:6.2f}  "
            f"middle {found['middle']:6.2f}",
            flush=True,
        )
        tenths = " ".join(
            str(max(range(found["images"]), key=lambda k: found["nearest"][k][t]))
            for t in range(10)
        )
        print(f"{'':36} most often nearest, by tenths of the exposure: {tenths}")
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        path = options.output / f"coverage_{kind}.json"
        path.write_text(json.dumps(results, indent=1) + "\n")
