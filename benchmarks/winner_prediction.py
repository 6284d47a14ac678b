"""Gain of a predictor of the best hypothesis.

python benchmarks/winner_prediction.py PRESET SHARP_PHOTOS HELD_OUT_PHOTOS
    [--pairs NAME=BLUR_FOLDER:SHARP_FOLDER...] [--patches 4096] [--epochs 20]
    [--output FILE.keras]

Trains a `WinnerPredictor` for a preset on photos blurred as in its recipe, whose
features are computed once (32 bytes per pixel with `nafnet_mh_c`), and prints the mean
PSNR of what it selects on held-out photos blurred so and on pairs, beside that
of selections that do not look at the image and of those that know the sharp one
(oracle); and how good the predictions are. The regret is the distance in dB to the
image's best hypothesis. The majority hypothesis is the one that wins most often on the
very images that are scored.
"""

import argparse
import math
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import ops
from named_pairs import named_pair

import keras_mhdeblur as mhd
from keras_mhdeblur.cli.common import recipe_path
from keras_mhdeblur.experimental import winner_metrics
from keras_mhdeblur.experimental.winner_metrics import BLOCK
from keras_mhdeblur.experimental.winner_predictor import WinnerPredictor
from keras_mhdeblur.metrics import finite_psnr
from keras_mhdeblur.training import recipes

BATCH_SIZE = 16


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("preset", metavar="PRESET")
    add("photos", metavar="SHARP_PHOTOS")
    add("held_out", metavar="HELD_OUT_PHOTOS")
    add("--pairs", nargs="+", default=[], type=named_pair, metavar="NAME=BLUR:SHARP")
    add("--patches", type=int, default=4096)
    add("--epochs", type=int, default=20)
    add("--output", metavar="FILE.keras")
    options = parser.parse_args()
    keras.utils.set_random_seed(0)
    model = mhd.from_preset(options.preset)
    recipe = recipes.load_recipe(recipe_path(options.preset))
    # All folders are read before the training, which takes long.
    data = {"synthesized": recipes.evaluation_pairs(recipe, options.held_out)}
    for name, folders in options.pairs:
        data[name] = mhd.data.paired_folder(*folders)
    folders = recipes.data_folders(recipe, options.photos)
    training = recipes.build_dataset(recipe, folders)

    predictor = WinnerPredictor(model)
    print(f"{options.preset}: {predictor.count_params()} parameters", flush=True)
    features, errors = computed_once(predictor, training, options.patches)
    steps = options.epochs * math.ceil(len(features) / BATCH_SIZE)
    rate = keras.optimizers.schedules.CosineDecay(1e-3, steps)
    loss = {"image": winner_metrics.WinnerLoss(), "blocks": winner_metrics.WinnerLoss()}
    predictor.head.compile(keras.optimizers.Adam(rate), loss)
    predictor.head.fit(
        features, errors, BATCH_SIZE, options.epochs, verbose=2, validation_split=0.1
    )
    predictor.compile(metrics=predictor_metrics())
    if options.output:
        predictor.save(options.output)
    for name, dataset in data.items():
        show(name, predictor, dataset)


def computed_once(predictor, dataset, count):
    """Features (N, H, W, F) of at least `count` patches, and what they predict."""
    features, errors = [], {"image": [], "blocks": []}
    seen = 0
    for blurry, sharp in dataset:
        heads, found = predictor.frozen(blurry)
        # Features are of the order of the photo's values.
        features.append(np.asarray(found).astype("float16"))
        for name, values in predictor.squared_errors(heads, sharp).items():
            errors[name].append(np.asarray(values))
        seen += len(sharp)
        if seen >= count:
            break
    errors = {name: np.concatenate(values) for name, values in errors.items()}
    return np.concatenate(features), errors


def predictor_metrics():
    m = mhd.metrics
    kinds = m.WinnerAccuracy, m.MajorityAccuracy, m.CalibrationError, m.SelectionRegret
    return {output: [kind() for kind in kinds] for output in ("image", "blocks")}


def show(name, predictor, dataset):
    """Prints the tables of a data set of (blurry, sharp), one pair per batch."""
    images = [scores(predictor, *pair) for pair in dataset.as_numpy_iterator()]
    hypotheses = np.array([each.pop("hypotheses") for each in images])
    before = np.array([each.pop("input") for each in images])
    best = hypotheses.max(axis=1)
    wins = np.bincount(hypotheses.argmax(axis=1), minlength=hypotheses.shape[1])
    rows = {"majority hypothesis": hypotheses[:, wins.argmax()]}
    rows |= {key: np.array([each[key] for each in images]) for key in images[0]}
    rows["oracle, image"] = best
    print(f"\n{name}: {len(images)} images, input {before.mean():.2f} dB\n")
    print("| selection | PSNR | gain | least gain | regret |")
    print("| --- | --- | --- | --- | --- |")
    for key, values in rows.items():
        gain = values - before
        cells = [f"{values.mean():.3f}", f"{gain.mean():+.3f}", f"{gain.min():+.3f}"]
        print(f"| {key} | {' | '.join(cells)} | {(best - values).mean():+.3f} |")
    found = predictor.evaluate(dataset, return_dict=True, verbose=0)
    print("\n| winner of | accuracy | of the majority | calibration error | regret |")
    print("| --- | --- | --- | --- | --- |")
    for output, kinds in predictor_metrics().items():
        cells = [f"{found[f'{output}_{kind.name}']:.3f}" for kind in kinds]
        print(f"| {output} | {' | '.join(cells)} |")


def scores(predictor, blurry, sharp):
    """PSNR in dB of the input, of every hypothesis, and of what is selected.

    Without the guard, which takes none of the hypotheses.
    """
    heads = predictor(blurry)["heads"]
    winners = ops.argmin(predictor.squared_errors(heads, sharp)["blocks"], axis=-1)[0]
    blurry, sharp = blurry[0], sharp[0]
    # Of every block's winner a label per pixel.
    winners = np.kron(winners, np.ones((BLOCK, BLOCK), int))
    winners = winners[: sharp.shape[0], : sharp.shape[1]]
    result = predictor.deblurrer.restore(blurry, guard=False, tile=None)
    weights = predictor.image_weights(blurry)
    chosen = {
        "input": blurry,
        "hypotheses": result.hypotheses,
        "of the preset": result.image,
        "mean": result.select("mean").image,
        "predicted, most probable": result.hypotheses[weights.argmax()],
        "predicted, weighted mean": result.select(weights).image,
        "predicted, blocks": result.compose(predictor.labels(blurry)).image,
        "oracle, blocks": result.compose(winners).image,
    }
    return {name: np.array(finite_psnr(sharp, image)) for name, image in chosen.items()}


if __name__ == "__main__":
    main()
