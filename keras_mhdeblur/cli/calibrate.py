"""`mhdeblur calibrate`: the gate and the statements of a preset, from pairs."""

import json
from pathlib import Path

from keras_mhdeblur.cli.common import (
    UsageError,
    load_preset,
    one_line,
    open_engine,
    quiet_import,
)


def add_parser(commands):
    parser = commands.add_parser(
        "calibrate",
        help="fit statements on restored photos, and the choice of photos to leave",
        description="Fits a preset's calibration to a set of images that did not train "
        "it, and writes it into the preset's folder: `mhdeblur restore` then leaves "
        "photos alone that it would not make better, and says how likely a photo is "
        "better. Images of --report count how often that is true; they choose nothing.",
    )
    add = parser.add_argument
    add("preset", metavar="FOLDER", help="the preset's folder")
    add(
        "--stages",
        type=int,
        metavar="N",
        help="calibrate the network that ends after N stages (default: all)",
    )
    add(
        "--set",
        metavar="FILE",
        help="the images to fit to, such as zoo/sets/choose.yaml; without it the "
        "preset's calibration is only checked",
    )
    add(
        "--train",
        metavar="FILE",
        help="further images to fit to, such as zoo/sets/train.yaml, which may have "
        "trained the preset",
    )
    add(
        "--no-gate",
        action="store_true",
        help="statements only: no photo is left as it is",
    )
    add(
        "--report",
        metavar="FILE",
        help="other images, such as zoo/sets/report.yaml, to check the statements",
    )
    add("--data", required=True, metavar="ROOT", help="folder of the sets' images")
    add("--output", "-o", metavar="FILE", help=".json file for the checks")
    parser.set_defaults(run=_calibrate)


def _calibrate(options):
    if options.train and not options.set:
        raise UsageError("--train needs --set: thresholds are chosen on other images")
    if options.no_gate and not options.set:
        raise UsageError("--no-gate needs --set: images to fit to")
    if not options.set and not options.report:
        raise UsageError("name images: --set to fit, --report to check")
    if not (Path(options.preset) / "config.json").is_file():
        raise UsageError(
            f"{options.preset} is no folder of a preset; a calibration is written into "
            "one"
        )
    with quiet_import():
        from keras_mhdeblur.evaluation import ImageSet, calibrate
        from keras_mhdeblur.presets import set_calibration

    model = load_preset(Path(options.preset), stages=options.stages)
    open_engine(model)
    try:
        # All files are read before the work.
        training, chosen, reported = (
            ImageSet(file, options.data) if file else None
            for file in (options.train, options.set, options.report)
        )
        if chosen is not None:
            model.calibration = calibrate(
                model,
                chosen,
                training_pairs=training or (),
                gate=not options.no_gate,
                progress=True,
            )
            set_calibration(options.preset, model.calibration, options.stages)
        if reported is not None:
            _report(model, reported, options.output)
    except OSError as error:
        raise UsageError(f"{error.filename}: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(one_line(error)) from None
    return 0


def _report(model, images, output):
    """Prints, and writes, how often the statements are right."""
    from keras_mhdeblur.evaluation import check_calibration
    from keras_mhdeblur.utils.atomic import atomic_file

    kinds = check_calibration(model, images, progress=True)
    print(_table(kinds))
    if output:
        with atomic_file(output) as partial:
            partial.write_text(json.dumps(kinds, indent=2) + "\n", "utf-8")


def _table(kinds):
    lines = [
        f"{'':14}{'images':>7}{'gain':>8}{'least':>8}{'worse':>7}{'no gate':>9}"
        f"{'least':>8}{'worse':>7}{'kept':>7}{'bound':>8}{'band':>7}{'likely':>8}"
        f"{'gained':>8}"
    ]
    for kind, row in kinds.items():
        lines.append(
            f"{kind:14}{row['images']:7}{row['gain']:+8.2f}{row['least']:+8.2f}"
            f"{row['worse']:7}{row['ungated']:+9.2f}{row['ungated_least']:+8.2f}"
            f"{row['ungated_worse']:7}{row['kept']:7.0%}{row['bound']:8.1%}"
            f"{row['band']:7.1%}{row['probability']:8.1%}{row['gained']:8.1%}"
        )
    lines += [
        "Gains in dB. Worse: images that lose more than 0.1 dB. Kept: images left as "
        "they are.",
        "Bound: images above their lower bound of 90 %. Band: values within their band "
        "of 90 %.",
        "Likely: mean of the probabilities of a gain. Gained: images that gain.",
    ]
    return "\n".join(lines)
