"""`mhdeblur evaluate`: the scores of a preset on pairs of images."""

import json
from pathlib import Path

from .common import (
    UsageError,
    add_preset_option,
    load_preset,
    quiet_import,
    recipe_path,
)


def add_parser(commands):
    parser = commands.add_parser(
        "evaluate",
        help="score a model on pairs of images",
        description="Scores a model, beside the blurry input itself, on the pairs of "
        "two folders or on photos that are blurred for it.",
    )
    add = parser.add_argument
    add_preset_option(add)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--pairs",
        nargs=2,
        metavar=("BLURRY", "SHARP"),
        help="folders with files of equal names",
    )
    source.add_argument(
        "--photos",
        metavar="FOLDER",
        help="sharp photos; 4 patches of 256 pixels of each are blurred as the "
        "preset's recipe does it",
    )
    add("--output", "-o", metavar="FILE", help="also write the scores as JSON")
    parser.set_defaults(run=_evaluate)


def _evaluate(options):
    with quiet_import():
        from keras_mhdeblur import data
        from keras_mhdeblur.inference import evaluate
        from keras_mhdeblur.training import recipes

    model = load_preset(options.preset)
    try:
        if options.pairs:
            pairs = data.paired_folder(*options.pairs, patch_size=None)
        else:
            recipe = recipes.load_recipe(recipe_path(options.preset))
            pairs = recipes.evaluation_pairs(recipe, options.photos)
        scores = evaluate(model, pairs, progress=True)
    except ValueError as error:
        raise UsageError(str(error)) from None
    print(_score_table(scores))
    if options.output:
        Path(options.output).write_text(json.dumps(scores, indent=2) + "\n")
    return 0


def _score_table(scores):
    lines = [f"{scores['images']} images         PSNR dB     gain     SSIM  SSIM 3-D"]
    input_psnr = scores["input"]["psnr"]
    labels = {
        "input": "blurry input",
        "mean": "mean",
        "medoid": "medoid",
        "single": "single {}, {}".format(*scores["single"]["pair"]),
        "overall": "best (oracle)",
    }
    for name, label in labels.items():
        row = scores[name]
        line = f"{label:20}{row['psnr']:8.2f} {row['psnr'] - input_psnr:+8.2f}"
        if "ssim" in row:
            line += f" {row['ssim']:8.4f}  {row['ssim_3d']:8.4f}"
        lines.append(line)
    lines.append(
        f"smallest gain of the mean in an image: {scores['smallest_gain']:+.2f}"
    )
    usage = " ".join(f"{share:.2f}" for share in scores["usage"])
    lines.append(f"share of images where each hypothesis is the best: {usage}")
    return "\n".join(lines)
