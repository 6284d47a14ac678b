"""Comparison of kinds of synthesized blur on real pairs.

python benchmarks/blur_mixture.py SHARP_PHOTOS NAME=BLUR_FOLDER:SHARP_FOLDER...
    [--steps 800] [--output zoo/nafnet_mh_c/blur_mixture.json]

Trains the ablation's small network with four combined heads, all else equal, on patches
with camera motion only, with one further kind of scene or sensor each, and with all of
them, and prints the gain of the mean of its hypotheses on each folder of real pairs.
"""

import argparse
import json
import pathlib
import time

import ablation
from named_pairs import named_pair

import keras_mhdeblur as mhd

KINDS = {
    "camera motion": {},
    "short and resting": {"path_exponent": 2.0, "still_share": 0.1},
    "objects": {"max_objects": 2},
    "zoom": {"max_zoom": 0.04},
    "defocus": {"max_defocus": 2.5},
    "lamps": {"max_lights": 5},
    "sensor": {"gamma_spread": 0.2, "max_late_noise": 0.02, "min_resampling": 0.6},
}
KINDS["all"] = {key: value for kind in KINDS.values() for key, value in kind.items()}
COUNT = 6144


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("photos", metavar="SHARP_PHOTOS")
    add("pairs", nargs="+", type=named_pair, metavar="NAME=BLUR:SHARP")
    add("--steps", type=int, default=800)
    add("--seed", type=int, default=0)
    add("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    add("--output", type=pathlib.Path)
    options = parser.parse_args()
    pairs = {}
    for name, folders in options.pairs:
        pairs[name] = mhd.data.paired_folder(*folders)
    results = {}
    for kind in options.kinds:
        begin = time.monotonic()
        training = ablation.patches(
            options.photos, COUNT, crops_per_image=32, max_path=20.0, **KINDS[kind]
        )
        model = ablation.trained(
            4, True, "relaxed", options.seed, training, options.steps
        )
        gains = {}
        for name, dataset in pairs.items():
            scores = mhd.evaluation.evaluate(model, dataset)
            gains[name] = round(scores["mean"]["psnr"] - scores["input"]["psnr"], 4)
        results[kind] = gains
        shown = "  ".join(f"{name} {gain:+.3f} dB" for name, gain in gains.items())
        print(f"{kind}: {shown}  ({time.monotonic() - begin:.0f} s)", flush=True)
        if options.output:
            text = {"steps": options.steps, "seed": options.seed, "gains": results}
            options.output.write_text(json.dumps(text, indent=1) + "\n")


if __name__ == "__main__":
    main()
