"""`mhdeblur restore`: photos in, sharp pictures out."""

import argparse
import sys
import time
from pathlib import Path

from .common import (
    UsageError,
    add_preset_option,
    load_preset,
    local_statistics,
    make_output_folder,
    one_line,
    positive,
    quiet_import,
)

# What a folder is searched for; a file named by itself may have any suffix.
PHOTO_SUFFIXES = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".webp", ".bmp"),
    *(".jp2", ".avif", ".gif", ".mpo", ".ppm", ".pgm", ".pnm", ".tga", ".heic"),
}


def add_parser(commands):
    parser = commands.add_parser(
        "restore",
        help="restore photos",
        description="Restores photos and writes them as NAME.png.",
    )
    add = parser.add_argument
    add("inputs", nargs="+", metavar="INPUT", help="photo, or folder of photos")
    add("--output", "-o", required=True, metavar="FOLDER", help="where to write")
    add_preset_option(add)
    add(
        "--select",
        type=_select,
        metavar="mean|medoid|single|I,J",
        help="how one image is made of the hypotheses (default: the preset's)",
    )
    add(
        "--hypotheses",
        action="store_true",
        help="also write NAME/NAME_0.png, NAME/NAME_0+1.png, ... and "
        "NAME/NAME_uncertainty.png",
    )
    add("--recursive", "-r", action="store_true", help="search folders' subfolders too")
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
        help="memory from which on --tile auto tiles (default: %(default)s)",
    )
    add(
        "--local-statistics",
        type=local_statistics,
        default="model",
        metavar="N|none|model",
        help="size in pixels of the training crops for TLC; none: statistics of the "
        "whole photo; model: as the preset has it (default: %(default)s)",
    )
    add(
        "--engine",
        choices=("auto", "keras", "litert"),
        default="auto",
        help="what computes: litert, faster on a CPU; keras, for a GPU; auto: litert "
        "where it can, else keras (default: %(default)s)",
    )
    parser.set_defaults(run=_restore)


def _select(text):
    if text in ("mean", "medoid", "single"):
        return text
    try:
        i, j = (int(head) for head in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"must be mean, medoid, single or two heads such as 0,1, not {text!r}"
        ) from None
    return i, j


def _tile(text):
    if text == "auto":
        return text
    return None if text == "none" else positive(text)


def _restore(options):
    output = Path(options.output)
    photos, failures = find_photos(options.inputs, options.recursive)
    targets = plan_outputs([name for _, name in photos])
    sources = [path for path, _ in photos]
    for path in sources:
        if path.resolve() in {(output / name).resolve() for name in targets}:
            raise UsageError(f"{path} would be overwritten: choose another --output")
    for message in failures:
        print(f"mhdeblur: {message}", file=sys.stderr)
    if not sources:
        return 1
    make_output_folder(output)

    from keras_mhdeblur.inference.progress import ProgressBar
    from keras_mhdeblur.inference.selection import head_weights

    begin = time.monotonic()
    model, engine = _load(options)
    if options.select is not None:
        try:
            head_weights(model, options.select)
        except ValueError as error:
            raise UsageError(f"--select: {one_line(error)}") from None

    bar = ProgressBar(len(sources))
    failed = len(failures)
    for path, name in zip(sources, targets):
        bar.start(path.name)
        try:
            _restore_file(model, path, output / name, options, engine)
        except Exception as error:
            failed += 1
            bar.message(f"mhdeblur: {path}: {one_line(error)}")
        bar.finish(path.name)
    bar.close()
    restored = len(sources) + len(failures) - failed
    seconds = time.monotonic() - begin
    print(
        f"Restored {restored} of {len(sources) + len(failures)} photos to {output} in "
        f"{seconds:.1f} s" + (f"; {failed} failed." if failed else "."),
        file=sys.stderr,
    )
    return 1 if failed else 0


def _load(options):
    """A model, and the arguments of its `restore` that say what computes."""
    keras_engine = {"engine": "keras", "local_statistics": options.local_statistics}
    if options.engine == "keras":
        return load_preset(options.preset), keras_engine

    from keras_mhdeblur.presets import litert

    if not litert.litert_installed():
        if options.engine == "litert":
            raise UsageError("--engine litert needs `pip install ai-edge-litert`")
        return load_preset(options.preset), keras_engine
    try:
        with quiet_import():  # LiteRT says which delegate it has created
            model = litert.litert_from_preset(options.preset, options.local_statistics)
    except ValueError as error:  # a damaged preset, or a damaged LiteRT file
        raise UsageError(f"--preset {options.preset}: {one_line(error)}") from None
    if model is not None:
        return model, {}
    model = load_preset(options.preset)
    print(
        f"Exporting {options.preset} to LiteRT, once for this machine ...",
        file=sys.stderr,
    )
    try:
        with quiet_import():
            model.inference_engine("litert", options.local_statistics)
    except Exception as error:
        if options.engine == "litert":
            raise UsageError(f"--engine litert: {one_line(error)}") from None
        print(f"mhdeblur: using Keras: {one_line(error)}", file=sys.stderr)
        return model, keras_engine
    return model, {**keras_engine, "engine": "litert"}


def _restore_file(model, path, target, options, engine):
    result = model.restore(
        path,
        select=options.select,
        hypotheses=options.hypotheses,
        tile=options.tile,
        memory_limit_mb=options.memory_limit_mb,
        **engine,
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    result.save(target)
    if options.hypotheses:
        folder = target.with_suffix("")
        folder.mkdir(exist_ok=True)
        result.save_hypotheses(folder / target.name)
        result.save_uncertainty(folder / f"{target.stem}_uncertainty.png")


def find_photos(inputs, recursive):
    """The photos that files and folders given by the user stand for.

    Args:
        inputs: paths of files and folders.
        recursive: whether to search the folders' subfolders.

    Returns:
        List of (path, name), each file once, the name relative to the folder it was
        found in; and a list of messages about inputs without photos.
    """
    photos, failures = {}, []
    for item in map(Path, inputs):
        if not item.is_dir():
            if item.exists():
                photos.setdefault(item.resolve(), (item, Path(item.name)))
            else:
                failures.append(f"{item}: there is no such file or folder")
            continue
        found = [
            path
            for path in sorted(item.rglob("*") if recursive else item.iterdir())
            if path.suffix.lower() in PHOTO_SUFFIXES
            and not path.name.startswith(".")
            and path.is_file()
        ]
        if not found:
            failures.append(f"{item}: there are no photos in this folder")
        for path in found:
            photos.setdefault(path.resolve(), (path, path.relative_to(item)))
    return list(photos.values()), failures


def plan_outputs(names):
    """Output names, no two the same: `a.jpg` and `a.png` become `a_jpg.png`, ...

    Args:
        names: relative paths of the photos.

    Returns:
        List of relative paths that end in .png.
    """

    def key(path):
        # Many file systems do not tell upper from lower case.
        return str(path).lower()

    plain = [name.with_name(f"{name.stem}.png") for name in names]
    counts = {}
    for name in plain:
        counts[key(name)] = counts.get(key(name), 0) + 1
    taken = set(counts)
    outputs = []
    for source, name in zip(names, plain):
        if counts[key(name)] > 1:
            stem = f"{source.stem}_{source.suffix[1:].lower()}".rstrip("_")
            name = source.with_name(f"{stem}.png")
            number = 2
            while key(name) in taken:
                name = source.with_name(f"{stem}_{number}.png")
                number += 1
            taken.add(key(name))
        outputs.append(name)
    return outputs
