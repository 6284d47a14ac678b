"""`mhdeblur figures`: pictures of hypotheses and of scores."""

import json
from pathlib import Path

from keras_mhdeblur.cli.common import (
    UsageError,
    add_preset_option,
    chosen_preset,
    load_preset,
    open_engine,
    quiet_import,
)
from keras_mhdeblur.utils.atomic import atomic_file


def add_parser(commands):
    parser = commands.add_parser(
        "figures",
        help="draw hypotheses and scores",
        description="Draws the figures of the paper (arXiv 2208.13029). Needs "
        'matplotlib: pip install "keras-mhdeblur[figures]"',
    )
    figures = parser.add_subparsers(title="figures", metavar="FIGURE", required=True)

    def add_figure(name, run, what):
        figure = figures.add_parser(name, help=what, description=f"Draws {what}.")
        add = figure.add_argument
        add(
            "--output",
            "-o",
            metavar="FILE",
            default=f"{name}.png",
            help="picture to write (default: %(default)s)",
        )
        figure.set_defaults(run=run)
        return add

    what = "maps of the disagreement of photos' hypotheses"
    add = add_figure("heatmap", _heatmap, what)
    add("photos", nargs="+", metavar="PHOTO", help="blurry photos")
    add("--sharp", nargs="+", metavar="PHOTO", help="sharp photos, in the same order")
    add_preset_option(add)

    what = "the signed differences of the heads' images of a photo"
    add = add_figure("differences", _differences, what)
    add("photo", metavar="PHOTO", help="blurry photo")
    add_preset_option(add)

    results = "written by `mhdeblur evaluate --output FILE.json`"
    what = "PSNR against the number of heads"
    add = add_figure("ablation", _ablation, what)
    add("scores", nargs="+", metavar="SCORES", help=f"one file per model, {results}")

    what = "PSNR of the average of every pair of heads"
    add = add_figure("pairs", _pairs, what)
    add("scores", metavar="SCORES", help=f"file {results}")

    what = "the share of images for which each hypothesis is the nearest"
    add = add_figure("usage", _usage, what)
    add("scores", nargs="+", metavar="SCORES", help=f"one file per model, {results}")

    what = "how much of exposures hypotheses cover, and the nearest to each moment"
    add = add_figure("coverage", _coverage, what)
    add("scores", metavar="SCORES", help="file written by benchmarks/coverage.py")


def _heatmap(options):
    figures = _import_figures(options.output)
    sharp_paths = options.sharp or []
    if sharp_paths and len(sharp_paths) != len(options.photos):
        raise UsageError(
            f"--sharp has {len(sharp_paths)} photos for {len(options.photos)} "
            "blurry ones"
        )
    blurry = [_read(path) for path in options.photos]
    sharp = [_read(path) for path in sharp_paths]
    for path, one, other in zip(sharp_paths, sharp, blurry):
        if one.shape != other.shape:
            sizes = ["{1}x{0}".format(*image.shape) for image in (one, other)]
            raise UsageError(
                f"{path} has {sizes[0]} pixels, the blurry photo {sizes[1]}"
            )
    options.preset, options.stages = chosen_preset(options)
    model = load_preset(options.preset, stages=options.stages)
    if model.num_hypotheses < 2:
        raise UsageError(f"--preset {options.preset} has one head only")
    open_engine(model)
    maps = []
    for index, image in enumerate(blurry):
        hypotheses = model.restore(image, progress=True).hypotheses
        maps.append(figures.disagreement(hypotheses))
        if sharp:
            error = abs(image - sharp[index]).mean(axis=-1)
            value = figures.correlation(maps[-1], error)
            value = "none, one is constant" if value != value else f"{value:.3f}"
            print(
                f"{options.photos[index]}: correlation of the disagreement with "
                f"|blurry - sharp|: {value}"
            )
    names = [Path(path).stem for path in options.photos]
    figure = figures.heatmap(blurry, maps, sharp or None, names)
    return _save(figure, options.output)


def _differences(options):
    figures = _import_figures(options.output)
    image = _read(options.photo)
    options.preset, options.stages = chosen_preset(options)
    model = load_preset(options.preset, stages=options.stages)
    if model.num_heads < 2:
        raise UsageError(f"--preset {options.preset} has one head only")
    if model.combine_heads == "axes":
        raise UsageError(
            f"--preset {options.preset}: its heads are no hypotheses by themselves"
        )
    open_engine(model)
    result = model.restore(image, progress=True)
    single = [result.names.index(str(head)) for head in range(model.num_heads)]
    return _save(figures.differences(result.hypotheses[single]), options.output)


def _ablation(options):
    figures = _import_figures(options.output)
    keys = "images", "input", "num_heads", "combine_heads", "psnr_per_hypothesis"
    results = [_read_scores(path, keys) for path in options.scores]
    first = results[0]
    seen = {}
    for path, result in zip(options.scores, results):
        # As good a sign as any that the images and their comparison were the same.
        if any(result[key] != first[key] for key in ("images", "input")):
            raise UsageError(
                f"{options.scores[0]} and {path} are scores of different images or "
                "protocols"
            )
        heads = result["num_heads"]
        kind = "combined" if result["combine_heads"] and heads > 1 else "alone"
        if (heads, kind) in seen:
            raise UsageError(
                f"{seen[heads, kind]} and {path}: both {heads} heads {kind}"
            )
        seen[heads, kind] = path
    return _save(figures.ablation(results), options.output)


def _pairs(options):
    figures = _import_figures(options.output)
    result = _read_scores(options.scores, ("pair_psnr",))
    return _save(figures.pairs(result), options.output)


def _usage(options):
    figures = _import_figures(options.output)
    keys = "num_heads", "combine_heads", "hypotheses", "usage"
    results = [_read_scores(path, keys) for path in options.scores]
    return _save(figures.usage(results), options.output)


def _coverage(options):
    figures = _import_figures(options.output)
    source = "`evaluation.coverage`, by names"
    results = _read_scores(options.scores, (), source)
    if not isinstance(results, dict) or not results:
        raise UsageError(f"{options.scores} has no scores: it must be of {source}")
    for name, result in results.items():
        keys = "images", "curve", "bound", "nearest"
        _check_keys(f"{options.scores}: {name}", result, keys, source)
    return _save(figures.coverage(results), options.output)


def _import_figures(output):
    """The module; first it is made sure that the picture can be written."""
    with quiet_import():
        from keras_mhdeblur import data, evaluation  # noqa: F401
    try:
        from keras_mhdeblur.evaluation import figures
    except ImportError as error:
        raise UsageError(str(error)) from None
    path = Path(output)
    suffixes = sorted(figures.Figure().canvas.get_supported_filetypes())
    if path.suffix.lower().removeprefix(".") not in suffixes:
        raise UsageError(
            f"--output {path}: the suffix must be one of {', '.join(suffixes)}"
        )
    if not path.parent.is_dir():
        raise UsageError(f"--output {path}: there is no folder {path.parent}")
    return figures


def _read(path):
    from keras_mhdeblur.data import ImageFileError, read_image

    try:
        return read_image(path).pixels
    except (ImageFileError, OSError) as error:
        raise UsageError(str(error)) from None


def _read_scores(path, keys, source="`mhdeblur evaluate --output FILE.json`"):
    try:
        scores = json.loads(Path(path).read_text())
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except ValueError:
        raise UsageError(f"{path} is not a JSON file") from None
    _check_keys(path, scores, keys, source)
    return scores


def _check_keys(path, scores, keys, source):
    missing = [key for key in keys if not isinstance(scores, dict) or key not in scores]
    if missing:
        raise UsageError(f"{path} has no {', '.join(missing)}: it must be of {source}")


def _save(figure, output):
    path = Path(output)
    suffix = path.suffix.lower().removeprefix(".")
    try:
        with atomic_file(path) as partial:
            figure.savefig(partial, format=suffix, bbox_inches="tight")
    except OSError as error:
        raise UsageError(f"--output {path}: {error.strerror}") from None
    print(path)
    return 0
