"""The paper's ablation (arXiv 2208.13029) in small: number of heads, combined or not.

python benchmarks/ablation.py SHARP_PHOTOS HELD_OUT_PHOTOS [--output zoo/ablation]
    [--seeds 0 1 2] [--steps 2000]

A small NAFNet with 1, 2, 4 and 8 heads on their own and with 2, 3, 4 and 5 combined
heads, everything else equal: patches, their order for a seed, and steps. With 4
combined heads also the three assignments of labels to hypotheses. Writes results.json,
README.md with tables, and the figures. Trainings whose results are in results.json are
not repeated, so that a stopped run goes on.
"""

import argparse
import json
import os
import pathlib
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

import keras_mhdeblur as mhd
from keras_mhdeblur.evaluation import figures
from keras_mhdeblur.experimental.annealing import AnnealedHypothesisLoss
from keras_mhdeblur.training.schedules import WarmupHoldCosine

# Heads, combined or not, assignment.
VARIANTS = [(heads, False, "relaxed") for heads in (1, 2, 4, 8)]
VARIANTS += [(heads, True, "relaxed") for heads in (2, 3, 4, 5)]
ASSIGNMENTS = [(4, True, "hard"), (4, True, "relaxed"), (4, True, "annealed")]
NETWORK = {
    "width": 16,
    "encoder_blocks": (1, 1, 2),
    "middle_blocks": 1,
    "decoder_blocks": (1, 1, 1),
}
BLUR = {
    "max_path": 16.0,
    "label_jitter": 0.06,
    "num_frames": 8,
    "max_noise": 0.006,
    "jpeg_quality": (85, 98),
}
PATCH_SIZE, BATCH_SIZE = 64, 16
PEAK_RATE = 1e-3
TRAINING_PATCHES, TEST_PATCHES = 16384, 144


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("photos", metavar="SHARP_PHOTOS", type=pathlib.Path)
    add("held_out", metavar="HELD_OUT_PHOTOS", type=pathlib.Path)
    add("--output", type=pathlib.Path, default="zoo/ablation")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add("--steps", type=int, default=2000)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / "results.json"
    results = json.loads(path.read_text()) if path.exists() else []
    done = {(*variant(result), result["seed"]) for result in results}
    training = patches(options.photos, TRAINING_PATCHES, crops_per_image=32)
    test = patches(options.held_out, TEST_PATCHES, crops_per_image=1)
    for seed in options.seeds:
        for each in dict.fromkeys(VARIANTS + ASSIGNMENTS):
            if (*each, seed) in done:
                continue
            begin = time.monotonic()
            model = trained(*each, seed, training, options.steps)
            scores = mhd.evaluation.evaluate(model, one_by_one(test))
            scores |= {
                "assignment": each[-1],
                "seed": seed,
                "steps": options.steps,
                "seconds": round(time.monotonic() - begin),
            }
            results.append(scores)
            path.write_text(json.dumps(results, indent=1) + "\n")
            print(
                f"{figures.title(scores)}, {each[-1]}, seed {seed}: "
                f"input {scores['input']['psnr']:.3f} "
                f"mean {scores['mean']['psnr']:.3f} "
                f"single {scores['single']['psnr']:.3f} "
                f"best {scores['overall']['psnr']:.3f} dB, {scores['seconds']} s",
                flush=True,
            )
    report(results, options.output)


def patches(folder, count, crops_per_image, size=PATCH_SIZE, **blur):
    """Blurry and sharp patches, uint8 (count, size, size, 3) each, always the same."""
    patches = mhd.data.Patches(
        size, BATCH_SIZE, crops_per_image=crops_per_image, seed=1, stream_from=0
    )
    blur = mhd.data.MotionBlur(**(BLUR | blur))
    stream = mhd.data.synthesized_folder(folder, patches, blur)
    batches = [
        [np.uint8(np.rint(255 * images)) for images in pair]
        for pair in stream.take(count // BATCH_SIZE).as_numpy_iterator()
    ]
    return [np.concatenate(images) for images in zip(*batches)]


def one_by_one(pair):
    """Data set of (blurry, sharp) in [0, 1], one pair per batch."""
    dataset = tf.data.Dataset.from_tensor_slices(tuple(pair)).batch(1)
    return dataset.map(lambda *images: [tf.cast(x, "float32") / 255 for x in images])


def trained(
    num_heads,
    combine_heads,
    assignment,
    seed,
    training,
    steps,
    base=None,
    label_of=None,
):
    """A model after its training; `label_of` as in `batches`."""
    keras.utils.set_random_seed(seed)
    network = mhd.networks.NAFNet(**NETWORK, num_heads=num_heads)
    model = mhd.Deblurrer(network, combine_heads=combine_heads)
    optimizer = mhd.training.optimizers.TorchAdamW(
        WarmupHoldCosine(PEAK_RATE, steps, warmup_steps=100),
        weight_decay=1e-3,
        beta_2=0.99,
        global_clipnorm=0.01,
    )
    options = {
        "hard": {},
        # A little for the losers: with none, heads may die in the first steps, which
        # would make the number of heads an ablation of luck.
        "relaxed": {"relaxation": 0.05},
        "annealed": {"annealing_steps": round(0.4 * steps)},
    }[assignment if num_heads > 1 else "hard"]
    annealed = "annealing_steps" in options
    kind = AnnealedHypothesisLoss if annealed else mhd.losses.HypothesisLoss
    loss = kind(base or mhd.losses.L1Loss(), combine_heads, **options)
    model.compile(optimizer, loss)
    stream = batches(training, seed, label_of)
    model.fit(stream, epochs=1, steps_per_epoch=steps, verbose=0)
    return model


def batches(pair, seed, label_of=None):
    """Endless batches in an order that depends on the seed, flipped and turned.

    `label_of`, a function, makes the labels of what the pair has in their place.
    """
    generator = np.random.default_rng(seed)
    while True:
        chosen = generator.integers(len(pair[0]), size=BATCH_SIZE)
        blurry, sharp = (images[chosen] for images in pair)
        label = sharp if label_of is None else label_of(sharp)
        turns, flip = generator.integers(4), generator.integers(2)
        yield tuple(
            np.rot90(images, turns, (-3, -2))[..., :: 1 - 2 * flip, :].copy()
            for images in (np.float32(blurry) / 255, np.float32(label) / 255)
        )


def variant(scores):
    return scores["num_heads"], scores["combine_heads"], scores["assignment"]


def report(results, folder):
    """Writes the table and the figures, means over the seeds."""
    seeds = sorted({result["seed"] for result in results})
    groups = {
        each: [result for result in results if variant(result) == each]
        for each in VARIANTS + ASSIGNMENTS
    }
    groups = {each: group for each, group in groups.items() if group}
    heads = [groups[each] for each in VARIANTS if each in groups]
    figures.ablation([mean_over_seeds(group) for group in heads]).savefig(
        folder / "heads.png"
    )
    several = [group[0] for group in heads if group[0]["num_heads"] > 1]
    figures.usage(several).savefig(folder / "usage.png")
    for result in results:
        if result["seed"] == seeds[0] and variant(result) in VARIANTS[4:]:
            figures.pairs(result).savefig(folder / f"pairs_{result['num_heads']}.png")
    first = results[0]
    (folder / "README.md").write_text(
        TEXT.format(
            heads=rows({figures.title(group[0]): group for group in heads}),
            assignments=rows({v[-1]: groups[v] for v in ASSIGNMENTS if v in groups}),
            steps=first["steps"],
            options=f"--steps {first['steps']} --seeds {' '.join(map(str, seeds))}",
            input=first["input"]["psnr"],
            training=TRAINING_PATCHES,
            test=TEST_PATCHES,
            batch=BATCH_SIZE,
            size=PATCH_SIZE,
            minutes=round(statistics.mean(r["seconds"] for r in results) / 60, 1),
        )
    )


def rows(groups):
    """Rows of a table, from titles to results of all seeds."""
    lines = []
    for title, results in groups.items():
        cells = [
            cell([result[column]["psnr"] for result in results])
            for column in ("mean", "single", "overall")
        ]
        # Sorted before they are averaged: which head wins most is chance.
        usage = np.mean([sorted(result["usage"])[::-1] for result in results], axis=0)
        shares = " ".join(f"{100 * share:.0f}" for share in usage)
        lines.append(f"| {title} | {' | '.join(cells)} | {shares} |")
    return "\n".join(lines)


def mean_over_seeds(results):
    """One result for the figure of heads: scores averaged."""
    hypotheses = [sorted(result["psnr_per_hypothesis"]) for result in results]
    return {
        **results[0],
        "psnr_per_hypothesis": np.mean(hypotheses, axis=0).tolist(),
        **{
            column: {"psnr": statistics.mean(r[column]["psnr"] for r in results)}
            for column in ("mean", "single", "overall")
        },
    }


def cell(values):
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"


TEXT = """\
# How many heads, combined or not

The ablation of arXiv 2208.13029 (Fig. 5 and 6, table of usage) at a small scale: a
NAFNet of width 16 with 8 blocks, trained on {training} patches of {size}x{size} blurred
by `synthesize_motion_blur`, {steps} steps of {batch} with the L1 loss and relaxation
0.05; {minutes} minutes each on a CPU core that had other work, too.

    python benchmarks/ablation.py SHARP_PHOTOS HELD_OUT_PHOTOS {options}

PSNR in dB on {test} patches of photos that were held out, of several seeds the mean and
standard deviation; the blurry input has {input:.3f} dB. "Best" is the hypothesis
nearest to the label, which only someone with the label can choose. "Single" is the
hypothesis that is best on average. Usage: per cent of the patches on which each
hypothesis is nearest.

| heads | mean of hypotheses | single | best | usage, sorted |
| --- | --- | --- | --- | --- |
{heads}

![PSNR against the number of heads](heads.png)

How often each hypothesis is the nearest, first seed; the dotted lines are equal use:

![Per cent of the patches on which each hypothesis is nearest](usage.png)

PSNR of the pairs of 4 combined heads, first seed:

![PSNR of pairs of heads](pairs_4.png)

The same 4 combined heads with other assignments of a label to hypotheses: "hard", the
nearest alone is trained (the paper); "relaxed", the others share 5 % of the gradient,
as above; "annealed", all are trained at first, by their distance, and after 40 % of the
steps the nearest alone.

| assignment | mean of hypotheses | single | best | usage, sorted |
| --- | --- | --- | --- | --- |
{assignments}
"""

if __name__ == "__main__":
    main()
