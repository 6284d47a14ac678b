"""Several heads or one: trained alike, scored alike.

python benchmarks/single_or_multi.py PRESET... --pairs NAME=BLUR_FOLDER:SHARP_FOLDER...
    [--output FOLDER]

PSNR and SSIM of the input, and of each model's mean, single and best hypothesis. A
single-head model is scored with test-time augmentation, too: the eight flips and
quarter turns of an image are restored and turned back, and their mean and the best of
them compared, so that ten hypotheses do not win only by being many.
"""

import argparse
import json
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
from keras import ops
from named_pairs import named_pair

import keras_mhdeblur as mhd


class SelfEnsemble(keras.Model):
    """The images of a single-head network of eight orientations, as eight heads."""

    num_heads = num_head_images = 8
    combination = False
    padding_multiple = 1

    def __init__(self, network):
        super().__init__()
        self.network = network

    def call(self, images):
        heads = []
        for turns in range(4):
            for flip in (False, True):
                turned = turn(ops.flip(images, 2) if flip else images, turns)
                stack = self.network(turned)
                stack = stack[0] if isinstance(stack, (list, tuple)) else stack
                restored = turn(stack[:, 0], 4 - turns)
                heads.append(ops.flip(restored, 2) if flip else restored)
        return ops.stack(heads, axis=1)


def turn(images, turns):
    """Quarter turns, one by one: `ops.rot90` of Keras 3.15 by two is wrong here."""
    for _ in range(turns):
        images = ops.rot90(images, 1, (1, 2))
    return images


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("presets", nargs="+", metavar="PRESET")
    parser.add_argument(
        "--pairs",
        nargs="+",
        required=True,
        type=named_pair,
        metavar="NAME=BLUR:SHARP",
        action="extend",
    )
    parser.add_argument("--output", type=pathlib.Path)
    options = parser.parse_args()
    results = {}
    for name, folders in options.pairs:
        dataset = mhd.data.paired_folder(*folders)
        results[name] = {}
        for preset in options.presets:
            model = mhd.from_preset(preset)
            label = pathlib.Path(preset).name
            results[name][label] = mhd.evaluation.evaluate(model, dataset)
            if model.num_heads == 1:
                ensemble = mhd.Deblurrer(
                    SelfEnsemble(model._inference_network()), combine_heads=False
                )
                results[name][f"{label}, x8"] = mhd.evaluation.evaluate(
                    ensemble, dataset
                )
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        path = options.output / "results.json"
        path.write_text(json.dumps(results, indent=1) + "\n")
    print(table(results))


def table(results):
    lines = [
        "| pairs | model | mean | single | best | SSIM of the mean |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, models in results.items():
        shown = next(iter(models.values()))["input"]
        cells = f"{shown['psnr']:.2f} | | | {shown['ssim']:.4f}"
        lines.append(
            f"| {name}, {next(iter(models.values()))['images']} | input | {cells} |"
        )
        for label, scores in models.items():
            psnr = [scores[key]["psnr"] for key in ("mean", "single", "overall")]
            if scores["num_heads"] == 1:
                cells = f"{psnr[0]:.3f} | | "
            else:
                cells = " | ".join(f"{value:.3f}" for value in psnr)
            lines.append(f"| | {label} | {cells} | {scores['mean']['ssim']:.4f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
