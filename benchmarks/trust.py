"""Tables of docs/research/trust.md: the gate, its threshold, statements under shift.

    python benchmarks/trust.py PRESET[@STAGES] --data DATA --keep FOLDER
        [--sets zoo/sets] [--pictures FILE.png]

Fits a calibration as `mhdeblur calibrate` does, and checks it on the images that are
reported: for every kind, with other thresholds, and fitted to camera shake alone. The
folder keeps what the preset makes of the images, which takes an hour: a second run
goes on from there. `--pictures` draws the reported images that lose, at most ten.
"""

import dataclasses
import pathlib

from kept_images import kept, loaded, parser_of, sets_of
from matplotlib.figure import Figure

from keras_mhdeblur.evaluation.calibrating import (
    by_kinds,
    examples,
    fit_calibration,
    record,
    records,
)
from keras_mhdeblur.presets.litert import choice_fingerprint

COLUMNS = {
    "images": "{:d}",
    "ungated": "{:+.2f}",
    "ungated_least": "{:+.2f}",
    "ungated_worse": "{:d}",
    "gain": "{:+.2f}",
    "least": "{:+.2f}",
    "worse": "{:d}",
    "kept": "{:.0%}",
    "bound": "{:.1%}",
    "band": "{:.1%}",
    "probability": "{:.0%}",
    "gained": "{:.0%}",
    "familiar": "{:.0%}",
}
NOT_BLURRED = ("sharp", "sharp_noise", "sharp_jpeg")
THRESHOLDS = (0, 0.2, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99)


def print_table(rows):
    print("| |", " | ".join(COLUMNS), "|")
    print("| --- |", " | ".join(["---"] * len(COLUMNS)), "|")
    for name, row in rows.items():
        cells = [form.format(row[column]) for column, form in COLUMNS.items()]
        print(f"| {name} |", " | ".join(cells), "|", flush=True)


def draw_worst(model, images, gains, path, count=10):
    """Draws the images that lose most, if any lose: blurry, restored, sharp."""
    worst = [name for name in sorted(gains, key=gains.get) if gains[name] < 0][:count]
    if not worst:
        return
    figure = Figure((6, 2 * len(worst)), dpi=80, layout="constrained")
    axes = figure.subplots(len(worst), 3, squeeze=False)
    for kind in {name.split("/")[0] for name in worst}:
        for pair in images.pairs(kind):
            if pair.name not in worst:
                continue
            row = axes[worst.index(pair.name)]
            shown = pair.blurry, model.restore(pair.blurry).image, pair.sharp
            for each, image in zip(row, shown):
                side = min(min(image.shape[:2]), 256)
                each.imshow(image[:side, :side])
                each.set_xticks([])
                each.set_yticks([])
            row[0].set_ylabel(f"{pair.name}\n{gains[pair.name]:+.2f} dB", fontsize=8)
    for each, title in zip(axes[0], ("blurry", "restored", "sharp")):
        each.set_title(title)
    figure.savefig(path, bbox_inches="tight")


def main():
    parser = parser_of(__doc__)
    parser.add_argument("--pictures", type=pathlib.Path)
    options = parser.parse_args()
    model, sets = loaded(options.preset), sets_of(options)
    train, choose, report = (
        kept(
            options.keep / f"{name}.{options.preset}.pkl",
            lambda images=images: examples(model, images, progress=True),
        )
        for name, images in sets.items()
    )
    fingerprint = choice_fingerprint(model)

    def fitted(choose, train):
        return fit_calibration(choose, model.num_heads, fingerprint, train)

    calibration = fitted(choose, train)
    kinds = by_kinds(report)
    print(f"\nReported images, threshold {calibration.threshold}\n")
    print_table({kind: records(seen, calibration) for kind, seen in kinds.items()})

    print("\nThresholds, reported images; blurred: of all but", *NOT_BLURRED, "\n")
    print("| threshold | worse | gain of the blurred |\n| --- | --- | --- |")
    blurred = [one for one in report if one.kind not in NOT_BLURRED]
    for threshold in THRESHOLDS:
        other = dataclasses.replace(calibration, threshold=threshold)
        worse = records(kinds["all"], other)["worse"]
        print(f"| {threshold} | {worse} | {records(blurred, other)['gain']:+.3f} |")

    def of_shake(seen):
        return [one for one in seen if one.kind == "shake"]

    shaken = fitted(of_shake(choose), of_shake(train))
    print(f"\nFitted to camera shake alone, threshold {shaken.threshold}\n")
    print_table({kind: records(seen, shaken) for kind, seen in kinds.items()})

    if options.pictures:
        model.calibration = calibration
        gains = {one.name: record(one, calibration)["gain"] for one in report}
        draw_worst(model, sets["report"], gains, options.pictures)


if __name__ == "__main__":
    main()
