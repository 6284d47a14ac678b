"""`mhdeblur restore`: photos in, sharp pictures out."""

import argparse
import mimetypes
import os
import sys
import time
from pathlib import Path

from keras_mhdeblur.cli.common import (
    UsageError,
    add_preset_option,
    chosen_preset,
    make_output_folder,
    one_line,
    positive,
    printable,
    quiet_decoders,
    tlc_train_size,
)
from keras_mhdeblur.cli.loading import load_engine
from keras_mhdeblur.cli.photo_paths import PHOTO_SUFFIXES, find_photos, plan_outputs

# From so many pixels on a photo takes minutes on two cores.
_MANY_PIXELS = 4e6


def add_parser(commands):
    parser = commands.add_parser(
        "restore",
        help="restore photos",
        description="Restores photos and writes them as NAME.png, the folders of a "
        "searched folder as folders, or one photo as the file you name. Photos whose "
        "outputs would have one name get longer ones. The exit code is 1 if a photo "
        "failed; the others are done.",
    )
    _add_photo_options(parser.add_argument)
    _add_result_options(parser.add_argument)
    _add_engine_options(parser.add_argument)
    parser.set_defaults(run=_restore)


def _add_photo_options(add):
    add(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help='photo, folder of photos, or pattern such as "photos/*.jpg"',
    )
    add(
        "--output",
        "-o",
        required=True,
        metavar="FOLDER|FILE",
        help="folder to write into; of a single photo also the file, such as sharp.jpg",
    )
    add(
        "--output-format",
        choices=("png", "jpg", "webp", "tiff"),
        help="format of the files in the output folder: png and tiff keep 16 bits, jpg "
        "has no alpha (default: png)",
    )
    add(
        "--skip-existing",
        action="store_true",
        help="leave out photos whose output is there already",
    )
    add("--recursive", "-r", action="store_true", help="search folders' subfolders too")
    add(
        "--linear",
        action="store_true",
        help="the photos hold linear light, as raw converters write it: encode them "
        "for the model, and decode the result",
    )
    add(
        "--max-megapixels",
        type=positive,
        default=179,
        metavar="N",
        help="refuse larger photos: small files can unfold to images that fill the "
        "memory (default: %(default)s)",
    )


def _add_result_options(add):
    add_preset_option(add)
    add(
        "--select",
        type=_select,
        metavar="mean|medoid|single|adaptive|I,J",
        help="image to make of the hypotheses (default: the preset's)",
    )
    add(
        "--hypotheses",
        action="store_true",
        help="also write NAME/NAME_0.png, NAME/NAME_0+1.png, ... and "
        "NAME/NAME_uncertainty.png",
    )
    add(
        "--no-guard",
        action="store_true",
        help="disable the guard, which keeps the photo where the result is implausible "
        "or no better",
    )
    add(
        "--min-gain-probability",
        type=_probability,
        metavar="P",
        help="write no photo that is better than its input with a lower probability, "
        "from 0 to 1; the preset must have a calibration",
    )


def _add_engine_options(add):
    add(
        "--tile",
        type=_tile,
        default="auto",
        metavar="N|auto|none",
        help="tile size in pixels; none: every photo at once (default: auto)",
    )
    add(
        "--memory-limit-mb",
        type=positive,
        default=2048,
        metavar="N",
        help="memory from which on --tile auto tiles, and photos and results are kept "
        "in temporary files (default: %(default)s)",
    )
    add(
        "--tlc-train-size",
        type=tlc_train_size,
        default="model",
        metavar="N|none|model",
        help="size in pixels of the training crops for TLC; none: statistics of the "
        "whole photo; model: as the preset has it (default: %(default)s)",
    )
    add(
        "--engine",
        choices=("auto", "keras", "litert"),
        default="auto",
        help="litert: faster on a CPU; keras: for a GPU; auto: litert where possible, "
        "else keras (default: %(default)s)",
    )


def _select(text):
    if text in ("mean", "medoid", "single", "adaptive"):
        return text
    try:
        i, j = (int(head) for head in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            "must be mean, medoid, single, adaptive or two heads such as 0,1, "
            f"not {text!r}"
        ) from None
    return i, j


def _probability(text):
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 1, not {text!r}")
    return value


def _tile(text):
    if text == "auto":
        return text
    return None if text == "none" else positive(text)


def _restore(options):
    output = Path(options.output)
    photos, failures = find_photos(options.inputs, options.recursive, output)
    is_file = output.suffix.lower() in PHOTO_SUFFIXES and not os.path.isdir(output)
    if is_file:
        _check_output_file(options, len(photos))
        jobs = [(path, output) for path, _ in photos]
    else:
        _check_output_folder(output)
        suffix = f".{options.output_format or 'png'}"
        names = plan_outputs([name for _, name in photos], suffix)
        jobs = [(path, output / name) for (path, _), name in zip(photos, names)]
    _check_outputs(jobs, options.hypotheses)
    for message in failures:
        print(f"mhdeblur: {message}", file=sys.stderr)
    if not jobs:
        return 1
    make_output_folder(output.parent if is_file else output)
    summary = _Summary(output, len(jobs) + len(failures), failures)
    if options.skip_existing:
        waiting = [
            (path, target) for path, target in jobs if not os.path.exists(target)
        ]
        summary.skipped = len(jobs) - len(waiting)
        jobs = waiting
    if jobs:
        model, engine = _load(options)
        try:
            _restore_all(model, engine, jobs, options, summary)
        finally:  # also for who has no patience
            summary.show()
    else:
        summary.show()
    return 1 if summary.failed else 0


def _check_output_file(options, count):
    """Raises UsageError if the output, which is a file, should be a folder."""
    output = printable(options.output)
    if count > 1 or os.path.isdir(options.inputs[0]):
        raise UsageError(
            f"--output {output} is a file: for several photos name a folder"
        )
    if options.output_format:
        raise UsageError(
            f"--output-format is for folders, --output {output} has a format already"
        )
    from keras_mhdeblur.photos import format_of_name

    if format_of_name(options.output) is None:
        _refuse_format(options.output)


def _check_output_folder(output):
    """Raises UsageError if the output, which would be a folder, is named as a file."""
    kind = mimetypes.guess_type(output.name)[0] or ""
    if kind.startswith(("image/", "video/", "application/pdf")) and not output.is_dir():
        _refuse_format(output)


def _refuse_format(output):
    raise UsageError(
        f"--output {printable(output)}: no photo is written as {Path(output).suffix}; "
        "name a .png or .jpg file, or a folder"
    )


def _check_outputs(jobs, hypotheses):
    """Raises UsageError if an output would overwrite a photo or another output."""
    targets = {os.path.realpath(target) for _, target in jobs}
    for path, _ in jobs:
        if os.path.realpath(path) in targets:
            raise UsageError(
                f"{printable(path)} would be overwritten: choose another --output"
            )
    if hypotheses:
        folders = {os.path.realpath(target.with_suffix("")) for _, target in jobs}
        for path in (path for job in jobs for path in job):
            if os.path.dirname(os.path.realpath(path)) in folders:
                raise UsageError(
                    f"--hypotheses would write into {printable(path.parent)}, where "
                    "other photos are: restore that folder by itself, or choose "
                    "another --output"
                )


class _Summary:
    """The outcome of every photo, for the lines at the end."""

    def __init__(self, output, photos, failures):
        self.output = output
        self.photos = photos
        self.begin = time.monotonic()
        self.restored = self.skipped = self.refused = 0
        self.failed = list(failures)
        self.remarks = []

    def show(self):
        text = f"Restored {self.restored} of {self.photos} photos"
        text += f" to {printable(self.output)}"
        text += f" in {time.monotonic() - self.begin:.1f} s"
        if self.skipped:
            text += f"; {self.skipped} already there"
        if self.refused:
            text += f"; {self.refused} not written"
        if self.failed:
            text += f"; {len(self.failed)} failed"
        rows = [("failed", line) for line in self.failed]
        rows += [("note", line) for line in self.remarks]
        print(text + (":" if rows else "."), file=sys.stderr)
        for kind, line in rows:
            print(f"  {kind:6}  {line}", file=sys.stderr)


def _restore_all(model, engine, jobs, options, summary):
    from keras_mhdeblur.photos import pixel_limit
    from keras_mhdeblur.utils.progress import ProgressBar

    bar = ProgressBar(len(jobs))
    with pixel_limit(options.max_megapixels * 10**6):
        for path, target in jobs:
            bar.start(printable(path.name))
            try:
                notes = _restore_file(model, path, target, options, engine, bar)
            except _Refused as reason:
                summary.refused += 1
                summary.remarks.append(f"{printable(path)}: {reason}")
            except Exception as error:
                summary.failed.append(f"{printable(path)}: {one_line(error)}")
                bar.message(f"mhdeblur: {summary.failed[-1]}")
            else:
                summary.restored += 1
                if target.stem != path.stem and target != Path(options.output):
                    name = printable(target.relative_to(options.output))
                    notes += (f"is written as {name}",)
                summary.remarks += [f"{printable(path)}: {note}" for note in notes]
            bar.finish(printable(path.name))
    bar.close()


def _load(options):
    """A model, and the arguments of its `restore` that say what computes."""
    from keras_mhdeblur.inference.trust import calibration_of

    preset, stages = chosen_preset(options)
    model, engine = load_engine(preset, stages, options.engine, options.tlc_train_size)
    if options.select is not None:
        try:
            model.head_info.parse(options.select)
        except ValueError as error:
            raise UsageError(f"--select: {one_line(error)}") from None
    if options.min_gain_probability is not None and (
        options.no_guard or calibration_of(model, options.select) is None
    ):
        raise UsageError(
            "--min-gain-probability needs a preset with a calibration, its own "
            "--select, and the guard"
        )
    return model, engine


def _is_slow(options, height, width):
    """A photo is so large that the faster choice is worth a word: True or False."""
    fast = options.preset is not None or options.quality == "fast"
    return not fast and height * width > _MANY_PIXELS


class _Refused(Exception):
    """A photo is not written, for a reason."""


def _check_probability(result, minimum):
    """Raises _Refused where a photo is not likely enough to be better."""
    if not result.familiar:
        raise _Refused("not written: unlike the photos that the calibration saw")
    if result.gain_probability < minimum:
        raise _Refused(
            f"not written: better with a probability of {result.gain_probability:.2f}, "
            f"less than --min-gain-probability {minimum:g}"
        )


def _restore_file(model, path, target, options, engine, bar):
    """Restores one photo; returns remarks on it, a line each."""
    from keras_mhdeblur.inference import restore
    from keras_mhdeblur.photos import check_format, read_image
    from keras_mhdeblur.utils.disk_arrays import on_disk
    from keras_mhdeblur.utils.sizes import megapixels

    with quiet_decoders():
        photo = read_image(path, options.memory_limit_mb)
    check_format(target, photo)  # before the work, not after it
    photo.linear = options.linear
    height, width = photo.values.shape[:2]

    def show(done, total):
        if done == 0 and total > 1:
            text = (
                f"{printable(path.name)}: {megapixels(height, width)} in {total} tiles"
            )
            if options.tile == "auto" and getattr(model, "tile_size", None) is None:
                text += f" (--memory-limit-mb {options.memory_limit_mb})"
            if on_disk(photo.values):
                text += ", on disk"
            if _is_slow(options, height, width):
                text += "; --quality fast takes about a tenth of the time"
            bar.message(text)
        bar.advance(printable(path.name), done, total)

    result = restore(
        model,
        photo,
        select=options.select,
        hypotheses=options.hypotheses,
        tile=options.tile,
        memory_limit_mb=options.memory_limit_mb,
        guard=not options.no_guard,
        progress=show,
        **engine,
    )

    if result.is_calibrated:
        remedy = " (--no-guard restores it)" if result.share == 0 else ""
        bar.message(f"{printable(path.name)}: {result.statement}{remedy}")
    if options.min_gain_probability is not None:
        _check_probability(result, options.min_gain_probability)
    target.parent.mkdir(parents=True, exist_ok=True)
    if options.hypotheses:
        folder = target.with_suffix("")
        folder.mkdir(exist_ok=True)
        for name, hypothesis in result.each_hypothesis():
            hypothesis.save(folder / f"{target.stem}_{name}{target.suffix}")
        result.save_uncertainty(folder / f"{target.stem}_uncertainty.png")
    # Last, for --skip-existing takes it for done.
    result.save(target)
    notes = photo.notes
    if result.kept is not None and result.kept.mean() >= 0.01:
        share = round(100 * result.kept.mean())
        notes += (
            f"{share} % of the image was left unchanged by the artefact guard "
            "(--no-guard disables it)",
        )
    return notes
