"""The command `mhdeblur`.

Only the standard library is imported here, so that the help and wrong arguments are
answered at once. Installed, this is also the package `mhdeblur` (see setup.cfg).
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path

DEFAULT_PRESET = "nafnet_mh_c"
# What a folder is searched for; a file named by itself may have any suffix.
PHOTO_SUFFIXES = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".webp", ".bmp"),
    *(".jp2", ".avif", ".gif", ".mpo", ".ppm", ".pgm", ".pnm", ".tga", ".heic"),
}


def main(arguments=None):
    """Runs a command.

    Args:
        arguments: list of strings; those of the process by default.

    Returns:
        Exit code: 0 if all went well, 1 if a photo failed, 2 for wrong usage.
    """
    options = _parser().parse_args(arguments)
    # TensorFlow reads it when it is imported: its notes on the machine are not for
    # this reader.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        return options.run(options)
    except UsageError as error:
        print(f"mhdeblur: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nmhdeblur: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output (head, less) has gone.
        sys.stdout = open(os.devnull, "w")
        return 141


class UsageError(Exception):
    """What was asked for cannot be done; the message is for the user."""


@contextlib.contextmanager
def _quiet_import():
    """Hides what TensorFlow's libraries print as they load, unless that fails.

    They write to the process' standard error before any log level is read.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 2)
        try:
            yield
        except BaseException:
            log.seek(0)
            os.write(kept, log.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


# === Arguments ===


def _parser():
    parser = argparse.ArgumentParser(
        prog="mhdeblur", description="Deblurs photos into several hypotheses."
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_restore(commands)
    _add_train(commands)
    _add_evaluate(commands)
    _add_presets(commands)
    return parser


def _add_restore(commands):
    parser = commands.add_parser(
        "restore",
        help="restore photos",
        description="Restores photos and writes them as NAME.png.",
    )
    add = parser.add_argument
    add("inputs", nargs="+", metavar="INPUT", help="photo, or folder of photos")
    add("--output", "-o", required=True, metavar="FOLDER", help="where to write")
    _add_preset_option(add)
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
        type=_positive,
        default=2048,
        metavar="N",
        help="memory from which on --tile auto tiles (default: %(default)s)",
    )
    parser.set_defaults(run=_restore)


def _add_preset_option(add):
    add(
        "--preset",
        default=DEFAULT_PRESET,
        help="built-in name, folder or hf://user/repo (default: %(default)s)",
    )


def _add_train(commands):
    parser = commands.add_parser(
        "train",
        help="train a model by a recipe",
        description="Trains a model by a recipe, or goes on with a training that was "
        "stopped, and writes it as a preset into OUTPUT/preset.",
    )
    add = parser.add_argument
    add("recipe", metavar="RECIPE", help="YAML file, or the name of a built-in preset")
    add(
        "--data",
        required=True,
        metavar="FOLDER",
        help="sharp photos if the recipe synthesizes blur; else a folder with the "
        "folders blur and sharp",
    )
    add("--output", "-o", required=True, metavar="FOLDER", help="where to write")
    add(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="replace a value of the recipe, for example optimizer.weight_decay=0",
    )
    add("--skip-broken", action="store_true", help="leave out broken image files")
    parser.set_defaults(run=_train)


def _add_evaluate(commands):
    parser = commands.add_parser(
        "evaluate",
        help="score a model on pairs of images",
        description="Scores a model, beside the blurry input itself, on the pairs of "
        "two folders or on photos that are blurred for it.",
    )
    add = parser.add_argument
    _add_preset_option(add)
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
        help="sharp photos; 4 patches of 256 pixels of each are blurred as the "
        "preset's recipe does it",
    )
    add("--output", "-o", metavar="FILE", help="also write the scores as JSON")
    parser.set_defaults(run=_evaluate)


def _add_presets(commands):
    parser = commands.add_parser("presets", help="list the built-in presets")
    parser.set_defaults(run=_presets)


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
    return None if text == "none" else _positive(text)


def _positive(text):
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a positive number, not {text!r}")
    return number


# === restore ===


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
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--output {output}: {error.strerror}") from None

    with _quiet_import():
        from keras_mhdeblur.inference.progress import ProgressBar
        from keras_mhdeblur.inference.selection import head_weights

    begin = time.monotonic()
    model = _load(options.preset)
    if options.select is not None:
        try:
            head_weights(model, options.select)
        except ValueError as error:
            raise UsageError(f"--select: {_one_line(error)}") from None

    bar = ProgressBar(len(sources))
    failed = len(failures)
    for path, name in zip(sources, targets):
        bar.start(path.name)
        try:
            _restore_file(model, path, output / name, options)
        except Exception as error:
            failed += 1
            bar.message(f"mhdeblur: {path}: {_one_line(error)}")
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


def _restore_file(model, path, target, options):
    result = model.restore(
        path,
        select=options.select,
        hypotheses=options.hypotheses,
        tile=options.tile,
        memory_limit_mb=options.memory_limit_mb,
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    result.save(target)
    if options.hypotheses:
        folder = target.with_suffix("")
        folder.mkdir(exist_ok=True)
        result.save_hypotheses(folder / target.name)
        result.save_uncertainty(folder / f"{target.stem}_uncertainty.png")


def _load(preset):
    with _quiet_import():
        from keras_mhdeblur import presets

    try:
        return presets.from_preset(preset)
    except (ValueError, OSError) as error:
        raise UsageError(f"--preset {preset}: {_one_line(error)}") from None


def _one_line(error):
    """An exception's message in one line, without what the line says already."""
    text = " ".join(str(getattr(error, "reason", error)).split())
    if not isinstance(error, (ValueError, OSError)):
        text = f"{type(error).__name__}: {text}"
    return text[:300]


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


# === train and evaluate ===


def _train(options):
    with _quiet_import():
        from keras_mhdeblur.training import recipes

    path = _recipe_path(options.recipe)
    try:
        recipe = recipes.load_recipe(path, options.set)
        folders = recipes.data_folders(recipe, options.data)
        model = recipes.train(
            recipe,
            options.output,
            folders,
            skip_broken=options.skip_broken,
            verbose="auto" if sys.stdout.isatty() else 2,
        )
    except (ValueError, TypeError) as error:
        raise UsageError(
            str(error).replace("`skip_broken=True`", "--skip-broken")
        ) from None
    if options.set:
        path = Path(options.output) / "recipe.yaml"
        recipes.save_recipe(recipe, path)
    preset = Path(options.output) / "preset"
    model.save_to_preset(preset, recipe=path)
    print(f"Wrote {preset}. Try: mhdeblur restore PHOTO --preset {preset} -o restored")
    return 0


def _evaluate(options):
    with _quiet_import():
        from keras_mhdeblur import data
        from keras_mhdeblur.inference import evaluate
        from keras_mhdeblur.training import recipes

    model = _load(options.preset)
    try:
        if options.pairs:
            pairs = data.paired_folder(*options.pairs, patch_size=None)
        else:
            recipe = recipes.load_recipe(_recipe_path(options.preset))
            pairs = recipes.evaluation_pairs(recipe, options.photos)
        scores = evaluate(model, pairs, progress=True)
    except ValueError as error:
        raise UsageError(str(error)) from None
    print(_score_table(scores))
    if options.output:
        Path(options.output).write_text(json.dumps(scores, indent=2) + "\n")
    return 0


def _recipe_path(name):
    """The recipe file of a path, of a preset's folder or of a built-in preset."""
    with _quiet_import():
        from keras_mhdeblur.presets.zoo import builtin_presets

    folder = builtin_presets().get(name, Path(name))
    path = folder / "recipe.yaml" if folder.is_dir() else folder
    if not path.is_file():
        raise UsageError(f"there is no recipe {path}")
    return path


def _score_table(scores):
    lines = [f"{scores['images']} images         PSNR dB     gain     SSIM  SSIM 3-D"]
    input_psnr = scores["input"]["psnr"]
    labels = {
        "input": "blurry input",
        "mean": "mean",
        "medoid": "medoid",
        "single": "single {}, {}".format(*scores["single"]["pair"]),
        "overall": "best (oracle)",
    }
    for name, label in labels.items():
        row = scores[name]
        line = f"{label:20}{row['psnr']:8.2f} {row['psnr'] - input_psnr:+8.2f}"
        if "ssim" in row:
            line += f" {row['ssim']:8.4f}  {row['ssim_3d']:8.4f}"
        lines.append(line)
    lines.append(
        f"smallest gain of the mean in an image: {scores['smallest_gain']:+.2f}"
    )
    usage = " ".join(f"{share:.2f}" for share in scores["usage"])
    lines.append(f"share of images where each hypothesis is the best: {usage}")
    return "\n".join(lines)


# === presets ===


def _presets(options):
    with _quiet_import():
        from keras_mhdeblur import presets

    for name, about in presets.list_presets().items():
        weights = "" if about.get("weights") else " [no weights yet]"
        print(f"{name}{weights}")
        for line in (about.get("description"), _facts(about)):
            if line:
                print(f"    {line}")
    return 0


def _facts(about):
    parameters = about.get("parameters")
    facts = [
        about.get("architecture"),
        parameters and f"{parameters / 1e6:.1f} M parameters",
        about.get("license"),
    ]
    return ", ".join(str(fact) for fact in facts if fact)
