"""`mhdeblur prepare`: pairs decoded once into arrays, for fast training."""

from pathlib import Path

from keras_mhdeblur.cli.common import (
    UsageError,
    positive,
    quiet_import,
    warnings_as_lines,
)


def add_parser(commands):
    parser = commands.add_parser(
        "prepare",
        help="decode pairs once, for fast training",
        description="Decodes the pairs of a benchmark, or of the folders blur and "
        "sharp, into arrays of pixels. A training reads these many times faster than "
        "image files. The number of pairs and the size on disk are printed first.",
    )
    add = parser.add_argument
    add(
        "--data",
        required=True,
        metavar="FOLDER",
        help="folder of --benchmark, or one with the folders blur and sharp",
    )
    add("--output", "-o", required=True, metavar="FOLDER", help="folder to make")
    add(
        "--benchmark",
        metavar="NAME",
        help="the benchmark in --data: gopro, hide, realblur_j, realblur_r or reds",
    )
    add(
        "--split",
        default="train",
        help="part of the benchmark (default: %(default)s)",
    )
    add(
        "--blur",
        default="blur",
        help="kind of the benchmark's blurry images, for example blur_gamma of gopro "
        "(default: %(default)s)",
    )
    add(
        "--tile",
        type=positive,
        metavar="PIXELS",
        help="side of square tiles to cut the images into; needed if images have "
        "several sizes",
    )
    add(
        "--step",
        type=positive,
        metavar="PIXELS",
        help="distance from tile to tile, at most --tile (default: 256, or --tile if "
        "less)",
    )
    add("--allow-partial", action="store_true", help="take an incomplete benchmark")
    add("--skip-broken", action="store_true", help="leave out broken image files")
    add(
        "--dry-run",
        action="store_true",
        help="print the number of pairs and the size on disk; nothing is written",
    )
    parser.set_defaults(run=_prepare)


def _prepare(options):
    with quiet_import():
        from keras_mhdeblur import data

    settings = {
        "tile_size": options.tile,
        "step": options.step,
        "skip_broken": options.skip_broken,
    }
    try:
        pairs = _find_pairs(data, options)
        print(f"{len(pairs)} pairs found; checking them", flush=True)
        size = data.prepared_size(pairs, **settings)
        print(f"{options.output} will take {size / 1e9:.2f} GB", flush=True)
        if options.dry_run:
            return 0
        _run(data, pairs, options.output, settings)
    except BrokenPipeError:
        raise
    except (ValueError, OSError) as error:
        message = str(error)
        for name in ("skip_broken", "allow_partial"):
            message = message.replace(f"`{name}=True`", "--" + name.replace("_", "-"))
        raise UsageError(message) from None
    print(f"Wrote {options.output}")
    return 0


def _find_pairs(data, options):
    if not options.benchmark:
        root = Path(options.data)
        return data.list_pairs(root / "blur", root / "sharp", options.skip_broken)
    with warnings_as_lines():
        return data.benchmark(
            options.benchmark,
            options.data,
            options.split,
            blur=options.blur,
            allow_partial=options.allow_partial,
        )


def _run(data, pairs, output, settings):
    from keras_mhdeblur.utils.progress import ProgressBar

    # In a log every item is a line: at most 50 for any number of pairs.
    bar = ProgressBar(min(50, len(pairs)))

    def progress(done, total):
        while bar.done < bar.total * done // total:
            bar.finish(f"{done} of {total} pairs")

    try:
        data.prepare(pairs, output, progress=progress, **settings)
    finally:
        bar.close()
