"""Does training on all moments of an exposure cover more of it than on the middle one?

python benchmarks/feasible_set.py --data DATA --output runs/feasible_set.json
    [--seeds 0 1 2] [--steps 2000] [--targets 8] [--loss L1Loss] [--arms ARM ...]

Trains the ablation's small network with one label per photo, of the middle of the
exposure or of a random moment, and with several targets. The blurry patches, their
order and the steps are those of all arms; labels are frames that the blur was averaged
of. The photos are those of zoo/sets below DATA: some train, others choose the single
pair, and the scores are of a third set.

The answer is yes if four heads with several targets cover 0.5 dB more (CovPSNR, see
`evaluation.coverage`) than with the middle frame, and lose at most 0.1 dB of PSNR to
the middle frame. The rival is one head whose images for eight turns and flips of the
photo count as eight.

The output is written after every training, and trainings that are in it with the same
settings are not repeated. The weights of seed 0 are written beside it.
"""

import argparse
import json
import os
import pathlib
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# NumPy's threads wait for TensorFlow's in busy loops: ten times the CPU for scores.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import ablation
import numpy as np

import keras_mhdeblur as mhd
from keras_mhdeblur.evaluation import ImageSet, coverage, eight_orientations
from keras_mhdeblur.evaluation.frame_coverage import hypotheses_of

SETS = pathlib.Path(__file__).parents[1] / "zoo" / "sets"
# Heads, combined or not, labels.
ARMS = {
    "one_middle": (1, False, "middle"),
    "plain_middle": (4, False, "middle"),
    "combined_middle": (4, True, "middle"),
    "combined_random": (4, True, "random"),
    "combined_targets": (4, True, "targets"),
    "plain_targets": (4, False, "targets"),
}
FRAMES = 17
# All frames are the targets, so that every arm may choose its labels among them. The
# one that is not interpolated lies anywhere: no arm has sharper labels than another.
BLUR = {"num_frames": FRAMES, "num_targets": FRAMES, "label_jitter": 0.5}
MOMENTS = (np.arange(FRAMES) + 0.5) / FRAMES - 0.5  # of the exposure, -0.5 to 0.5
TEST_SIZE, TEST_EXPOSURES = 128, 64


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=pathlib.Path, required=True)
    add("--output", type=pathlib.Path, required=True)
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add("--steps", type=int, default=2000)
    add("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    add("--targets", type=int, default=8, help="frames that are labels, up to 17")
    add("--loss", choices=("L1Loss", "PSNRLoss"), default="L1Loss")
    add("--exposures", type=int, default=8192, help="patches that train")
    options = parser.parse_args()
    options.output.parent.mkdir(parents=True, exist_ok=True)
    runs = json.loads(options.output.read_text()) if options.output.exists() else []
    wanted = [
        settings(arm, seed, options) for seed in options.seeds for arm in options.arms
    ]
    missing = [each for each in wanted if not found(each, runs)]
    if missing:
        training = made("train", options.data, options.exposures, ablation.PATCH_SIZE)
        choosing, reported = (
            [(x / np.float32(255), y / np.float32(255)) for x, y in zip(*exposures)]
            for exposures in (
                made(name, options.data, TEST_EXPOSURES, TEST_SIZE, crops_per_image=1)
                for name in ("choose", "report")
            )
        )
    for each in missing:
        begin, used = time.monotonic(), time.process_time()
        model = trained(training, each)
        run = each | scores(model, choosing, reported)
        run["seconds"] = round(time.monotonic() - begin)
        run["cpu_seconds"] = round(time.process_time() - used)
        runs.append(run)
        options.output.write_text(json.dumps(runs, indent=1) + "\n")
        if run["seed"] == 0:
            weights = f"{options.output.stem}_{run['arm']}.weights.h5"
            model.save_weights(options.output.with_name(weights))
        print(
            f"{run['arm']}, seed {run['seed']}: "
            f"coverage {run['hypotheses']['coverage']:.3f} dB, "
            f"mean image {run['hypotheses']['middle']:.3f} dB, "
            f"{run['cpu_seconds']} s of CPU",
            flush=True,
        )
    print(report([run for each in wanted for run in found(each, runs)]))


def settings(arm, seed, options):
    """All settings that a training's result depends on."""
    result = {"arm": arm, "seed": seed, "steps": options.steps, "loss": options.loss}
    if ARMS[arm][-1] == "targets":
        result["targets"] = options.targets
    return result | {"exposures": options.exposures}


def found(settings, runs):
    """The runs with these settings."""
    return [run for run in runs if settings.items() <= run.items()]


def made(name, data, count, size, crops_per_image=32):
    """Blurry patches of the photos of a set, and their frames, uint8."""
    with tempfile.TemporaryDirectory() as folder:
        for photo in ImageSet(SETS / f"{name}.yaml", data).photos:
            path = (data / photo).resolve(strict=True)
            (pathlib.Path(folder) / path.name).symlink_to(path)
        return ablation.patches(folder, count, crops_per_image, size, **BLUR)


def trained(training, settings):
    num_heads, combine_heads, labels = ARMS[settings["arm"]]
    generator = np.random.default_rng([settings["seed"], 1])
    reach = {"middle": ablation.BLUR["label_jitter"], "random": 0.5}.get(labels)
    several = mhd.data.MotionBlur(
        num_frames=FRAMES, num_targets=settings.get("targets", 1)
    )

    def label_of(frames):
        if labels == "targets":
            return frames[:, several.target_frames]
        allowed = np.flatnonzero(np.abs(MOMENTS) <= reach)
        chosen = generator.choice(allowed, size=len(frames))
        return frames[np.arange(len(frames)), chosen]

    return ablation.trained(
        num_heads,
        combine_heads,
        "relaxed",
        settings["seed"],
        training,
        settings["steps"],
        getattr(mhd.losses, settings["loss"])(),
        label_of,
    )


def scores(model, choosing, exposures):
    """Scores in dB of exposures, with the pair that others choose, as a dictionary."""
    images_of = hypotheses_of(model)
    alone = [k for k, (i, j) in enumerate(model.head_info.pairs.indices) if i == j]
    chosen = int(to_middle(images_of, choosing).mean(axis=0).argmax())
    psnr = to_middle(images_of, exposures)
    hypotheses = covered(images_of, exposures)
    heads = hypotheses
    if len(alone) < hypotheses["images"]:
        heads = covered(lambda image: images_of(image)[alone], exposures)
    result = {
        "hypotheses": hypotheses,
        "heads": heads,
        "single": round(float(psnr[:, chosen].mean()), 4),
        "pair": model.head_info.pairs.names[chosen],
        "best": round(float(psnr.max(axis=1).mean()), 4),
    }
    if model.num_heads == 1:
        result["orientations"] = covered(eight_orientations(model), exposures)
    photo = to_middle(lambda image: image[None], exposures)
    middle = round(float(photo.mean()), 4)
    return result | {"input": {"coverage": hypotheses["input"], "middle": middle}}


def covered(images_of, exposures):
    """The parts of `coverage` that are kept."""
    found = coverage(images_of, exposures)
    found["bound"] = found["bound"][-1]
    names = ("images", "coverage", "interval", "bound", "middle", "input", "nearest")
    return {name: found[name] for name in names}


def to_middle(images_of, exposures):
    """PSNR (exposures, images) in dB to the frame in the middle."""
    return np.stack(
        [
            mhd.metrics.finite_psnr(frames[FRAMES // 2], images_of(blurry))
            for blurry, frames in exposures
        ]
    )


def report(runs):
    """Tables in Markdown: mean and standard deviation over the seeds."""
    photo = runs[0]["input"]
    lines = [
        "| labels | n | heads cover | n images cover | bound for n | mean image "
        "| single | best |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        f"| blurry photo | 1 | | {photo['coverage']:.3f} | | {photo['middle']:.3f} | "
        "| |",
    ]
    groups = {arm: [run for run in runs if run["arm"] == arm] for arm in ARMS}
    for arm, group in groups.items():
        if not group:
            continue
        lines.append(row(arm, group))
        if "orientations" in group[0]:
            title = f"{arm}, eight orientations"
            lines.append(row(title, group, "orientations"))
    lines += ["", "Several targets against the middle frame, the same seeds:", ""]
    for kind in ("plain", "combined"):
        pairs = [
            (targets, middle)
            for targets in groups[f"{kind}_targets"]
            for middle in groups[f"{kind}_middle"]
            if targets["seed"] == middle["seed"]
        ]
        if pairs:
            lines.append(
                f"- {kind}: coverage {difference(pairs, 'hypotheses', 'coverage')} dB, "
                f"mean image {difference(pairs, 'hypotheses', 'middle')} dB, "
                f"single pair {difference(pairs, 'single')} dB."
            )
    return "\n".join(lines)


def row(title, group, images="hypotheses"):
    found = [run[images] for run in group]
    covers, bound, mean = (
        ablation.cell([each[name] for each in found])
        for name in ("coverage", "bound", "middle")
    )
    heads = single = best = ""
    if images == "hypotheses":
        heads = ablation.cell([run["heads"]["coverage"] for run in group])
        single = ablation.cell([run["single"] for run in group])
        best = ablation.cell([run["best"] for run in group])
    cells = title, found[0]["images"], heads, covers, bound, mean, single, best
    return f"| {' | '.join(map(str, cells))} |"


def difference(pairs, *names):
    """Mean and standard deviation of a score's difference, with its sign."""
    values = []
    for runs in pairs:
        for name in names:
            runs = [run[name] for run in runs]
        values.append(runs[0] - runs[1])
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):+.3f}{spread}"


if __name__ == "__main__":
    main()
