"""`mhdeblur evaluate`: the scores of a preset on pairs of images."""

import csv
import io
import json
import sys
from pathlib import Path

from keras_mhdeblur.cli.common import (
    UsageError,
    add_preset_option,
    chosen_preset,
    load_preset,
    open_engine,
    quiet_import,
    warnings_as_lines,
)
from keras_mhdeblur.utils.atomic import atomic_file


def add_parser(commands):
    parser = commands.add_parser(
        "evaluate",
        help="score a model on pairs of images",
        description="Scores a model and the blurry input beside it, on the pairs of "
        "two folders, on a benchmark, or on sharp photos that are blurred first. "
        "`restored` is the image of `mhdeblur restore`, with its guard; `without "
        "guard` is the network's own.",
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
        help="sharp photos; 4 patches of 256x256 pixels of each are blurred, by the "
        "preset's recipe if it has one, else by the default motion blur",
    )
    source.add_argument(
        "--data",
        metavar="ROOT",
        help="the test pairs of --benchmark or the images of --set, found below this "
        "folder",
    )
    add(
        "--set",
        metavar="FILE",
        help="a file of named images, such as zoo/sets/report.yaml; prints the gain of "
        "every kind of images",
    )
    add(
        "--benchmark",
        metavar="NAME",
        help="gopro, hide, realblur_j, realblur_r or reds: the benchmark in --data; "
        "with --protocol paper also the origin of --pairs",
    )
    add("--allow-partial", action="store_true", help="take an incomplete benchmark")
    add(
        "--protocol",
        choices=("plain", "paper"),
        default="plain",
        help="plain: whole images as 8-bit files; paper: the way of the network's "
        "official code on --benchmark (default: %(default)s)",
    )
    add(
        "--baseline",
        metavar="PRESET",
        help="another preset to score on the same images",
    )
    add(
        "--output",
        "-o",
        metavar="FILE",
        help="file for the scores: .json for the means, .csv for one row per image",
    )
    parser.set_defaults(run=_evaluate)


def _evaluate(options):
    output = options.output and Path(options.output)
    if output:
        _check_output(output)
    with quiet_import():
        from keras_mhdeblur.data.alignment import import_opencv
        from keras_mhdeblur.evaluation import evaluate

    options.preset, options.stages = chosen_preset(options)
    model = load_preset(options.preset, stages=options.stages)
    baseline = None
    if options.baseline:
        baseline = load_preset(options.baseline, "--baseline")
    open_engine(model)
    try:
        if options.set:
            return _evaluate_set(options, model, output)
        if str(options.benchmark).startswith("realblur"):
            import_opencv()  # now, not after the first image
        pairs, names = _pairs(options)
        scores = evaluate(
            model,
            pairs,
            protocol=options.protocol,
            benchmark=options.benchmark,
            baseline=baseline,
            per_image=True,
            progress=True,
        )
    except (ValueError, ImportError) as error:
        message = str(error).replace("`allow_partial=True`", "--allow-partial")
        message = message.replace(" (`skip_broken=True` leaves them out)", "")
        raise UsageError(message) from None
    rows = scores.pop("per_image")
    scores = {"preset": options.preset, "stages": options.stages, **scores}
    if baseline is not None:
        scores["baseline"] = {"preset": options.baseline, **scores["baseline"]}
    print(_score_table(scores))
    if output:
        text = json.dumps(scores, indent=2) + "\n"
        if output.suffix.lower() == ".csv":
            names = names or range(1, len(rows) + 1)
            text = _csv([{"image": n, **row} for n, row in zip(names, rows)])
        _write(output, text)
    return 0


def _write(path, text):
    try:
        with atomic_file(path) as partial:
            partial.write_text(text, "utf-8", newline="")
    except OSError as error:
        raise UsageError(f"--output {path}: {error.strerror}") from None


def _evaluate_set(options, model, output):
    """Scores every kind of images of a named set."""
    with quiet_import():
        from keras_mhdeblur.evaluation import ImageSet, evaluate_set

    if not options.data:
        raise UsageError("--set needs --data, the folder of its images")
    try:
        images = ImageSet(options.set, options.data)
        kinds = evaluate_set(model, images, preset=options.preset, progress=True)
    except OSError as error:
        name = error.filename or options.set
        raise UsageError(f"{name}: {error.strerror}") from None
    print(_set_table(kinds))
    if output:
        rows = [{"kind": kind, **scores} for kind, scores in kinds.items()]
        is_table = output.suffix.lower() == ".csv"
        scores = {"preset": options.preset, "stages": options.stages, "kinds": kinds}
        _write(output, _csv(rows) if is_table else json.dumps(scores, indent=2) + "\n")
    return 0


def _set_table(kinds):
    """Gains in dB, one line for every kind."""
    lines = [
        f"{'':16}{'images':>7}{'input':>8}{'restored':>10}{'least':>8}{'worse':>7}"
        f"{'no guard':>10}{'least':>8}{'worse':>7}{'mean':>8}{'single':>8}{'best':>8}"
    ]
    for kind, row in kinds.items():
        name = kind + ("*" if row["marked"] else "")
        lines.append(
            f"{name:16}{row['images']:7}{row['input']:8.2f}{row['restored']:+10.2f}"
            f"{row['least']:+8.2f}{row['worse']:7}{row['selected']:+10.2f}"
            f"{row['selected_least']:+8.2f}{row['selected_worse']:7}{row['mean']:+8.2f}"
            f"{row['single']:+8.2f}{row['overall']:+8.2f}"
        )
    lines.append("Gains in dB. Worse: images that lose more than 0.1 dB.")
    if any(row["marked"] for row in kinds.values()):
        lines.append("* Some of these images trained or chose this model.")
    return "\n".join(lines)


def _check_output(path):
    """Before the work: a long evaluation shall not end without its file."""
    if path.suffix.lower() not in (".json", ".csv"):
        raise UsageError(f"--output must be a .json or .csv file, not {path}")
    if not path.parent.is_dir():
        raise UsageError(f"--output {path}: there is no folder {path.parent}")


def _pairs(options):
    """The pairs of images, and their names or None."""
    with quiet_import():
        from keras_mhdeblur import data
        from keras_mhdeblur.presets.zoo import find_preset
        from keras_mhdeblur.training import recipes

    if options.pairs:
        files = data.list_pairs(*options.pairs)
        names = [blurry.relative_to(options.pairs[0]) for blurry, _ in files]
        pairs = data.paired_files(files)
        return pairs, [name.as_posix() for name in names]
    if options.data:
        if not options.benchmark:
            raise UsageError("--data needs --benchmark")
        split = "val" if options.benchmark == "reds" else "test"
        with warnings_as_lines():
            found = data.benchmark(
                options.benchmark,
                options.data,
                split,
                allow_partial=options.allow_partial,
            )
        names = [blurry.relative_to(options.data).as_posix() for blurry, _ in found]
        return found.dataset(), names
    folder = find_preset(options.preset)
    if (folder / "recipe.yaml").is_file():
        recipe = recipes.load_recipe(folder / "recipe.yaml")
    else:
        recipe = {"data": {"name": "synthesized_folder"}}
        print(
            f"mhdeblur: {options.preset} has no recipe; the photos get the default "
            "motion blur of `mhdeblur synthesize photos`",
            file=sys.stderr,
        )
    return recipes.evaluation_pairs(recipe, options.photos), None


def _csv(rows):
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


_SSIM_TITLES = {"ssim": "SSIM", "ssim_3d": "SSIM 3-D", "ssim_luma": "SSIM luma"}


def _score_table(scores):
    keys = [key for key in _SSIM_TITLES if key in scores["input"]]
    rows = {"blurry input": scores["input"], **_image_rows(scores)}
    baseline = scores.get("baseline")
    if baseline:
        for label, row in _image_rows(baseline).items():
            rows[f"baseline {label}"] = row
    width = max(len(label) for label in rows) + 2
    name = scores["preset"]
    if scores["stages"] is not None:
        name += f" after stage {scores['stages']}"
    lines = [
        f"{name}, {scores['images']} images, protocol {scores['protocol']['name']}",
        " " * width
        + " PSNR dB    gain"
        + "".join(f"{_SSIM_TITLES[k]:>11}" for k in keys),
    ]
    for label, row in rows.items():
        gain = row["psnr"] - scores["input"]["psnr"]
        line = f"{label:{width}}{row['psnr']:8.2f}{gain:+8.2f}"
        lines.append(line + "".join(f"{row[key]:11.4f}" for key in keys if key in row))
    lines += [
        f"smallest gain in an image: {scores['smallest_gain']:+.2f} dB",
        "",
        "hypothesis   PSNR dB   best in   PSNR dB there",
    ]
    for name, psnr, usage, winner in zip(
        scores["hypotheses"],
        scores["psnr_per_hypothesis"],
        scores["usage"],
        scores["winner_psnr"],
    ):
        there = "-" if winner is None else f"{winner:.2f}"
        lines.append(f"{name:10}{psnr:10.2f}{usage:10.0%}{there:>16}")
    return "\n".join(lines)


def _image_rows(scores):
    """Label -> scores of the images that a model gives; one head gives one."""
    single = "+".join(str(head) for head in sorted({*scores["single"]["pair"]}))
    rows = {
        "restored": scores["restored"],
        "without guard": scores["selected"],
        "mean": scores["mean"],
        "medoid": scores["medoid"],
        f"single {single}": scores["single"],
        "best (oracle)": scores["overall"],
    }
    return (
        rows
        if scores["num_heads"] > 1
        else {"restored": scores["restored"], "one head": scores["mean"]}
    )
