"""`mhdeblur export`: a preset in, a file for another runtime out."""

import argparse
import sys

from keras_mhdeblur.cli.common import (
    UsageError,
    add_stages_option,
    load_preset,
    one_line,
    positive,
    printable,
    quiet_import,
    tlc_train_size,
)
from keras_mhdeblur.cli.photo_paths import find_photos

# So many photos tell the ranges of activations; more take long and tell no more.
CALIBRATION_PHOTOS = 32
# `export.graphs.KINDS`, whose import takes seconds.
_KINDS = ("selected", "mean", "single", "adaptive", "heads", "hypotheses", "all")


def add_parser(commands):
    parser = commands.add_parser(
        "export",
        help="write a model for LiteRT, ONNX, OpenVINO or TensorFlow Serving",
        description="Writes a model for another runtime, runs it there on a photo and "
        "compares the result with that of Keras. The comparison is printed, and "
        "written to PATH.json.",
    )
    add = parser.add_argument
    add("preset", metavar="PRESET", help="built-in name, folder or hf://user/repo")
    add_stages_option(add)
    add(
        "--format",
        required=True,
        choices=("litert", "onnx", "openvino", "saved_model"),
        help="saved_model is for TensorFlow Serving",
    )
    add(
        "--output",
        "-o",
        required=True,
        metavar="PATH",
        help="the file to write: .tflite, .onnx or .xml; for saved_model the folder "
        "of the versions",
    )
    add(
        "--output-kind",
        dest="kind",
        type=_kind,
        default="selected",
        metavar="selected|mean|single|adaptive|I,J|I|heads|hypotheses|all",
        help="the file's output: one image, selected as by `restore` or named by a "
        "way of selecting or by heads; the head images; the hypotheses; or all, which "
        "is image, hypotheses and uncertainty (default: %(default)s)",
    )
    add(
        "--size",
        type=_size,
        metavar="HxW",
        help="the only size of images that the file takes (default: any)",
    )
    _add_runtime_options(add)
    _add_comparison_options(add)
    parser.set_defaults(run=_export)


def _add_runtime_options(add):
    add(
        "--weights",
        choices=("float32", "float16", "int8", "full_int8"),
        help="storage of the weights, for litert only; full_int8 computes with "
        "integers, too (default: float32)",
    )
    add(
        "--representative",
        metavar="FOLDER",
        help="blurry photos that give full_int8 the ranges of values; "
        f"{CALIBRATION_PHOTOS} of them are used",
    )
    add(
        "--tlc-train-size",
        type=tlc_train_size,
        default="model",
        metavar="N|none|model",
        help="size in pixels of the training crops for TLC; none: statistics of the "
        "whole image; model: as the preset has it (default: %(default)s)",
    )
    add(
        "--version",
        type=positive,
        metavar="N",
        help="number of the version to write, for saved_model only (default: 1)",
    )
    add(
        "--warm-up",
        type=_size,
        nargs="+",
        metavar="HxW",
        help="sizes of images that a server runs as it loads the model, so that the "
        "first photo of such a size does not wait; for saved_model only",
    )


def _add_comparison_options(add):
    add(
        "--photo",
        metavar="FILE",
        help="blurry photo for the comparison (default: one of the package)",
    )
    add(
        "--check",
        action="store_true",
        help="the exit code is 1 if the difference from Keras exceeds the bound",
    )


def _kind(text):
    if text in _KINDS:
        return text
    try:
        heads = tuple(int(head) for head in text.split(","))
    except ValueError:
        heads = ()
    if len(heads) not in (1, 2):
        raise argparse.ArgumentTypeError(
            f"must be {', '.join(_KINDS)}, a head such as 0 or two such as 0,1, not "
            f"{text!r}"
        )
    return heads if len(heads) == 2 else heads[0]


def _size(text):
    height, separator, width = text.lower().partition("x")
    if not separator:
        raise argparse.ArgumentTypeError(
            f"must be a height and a width such as 256x320, not {text!r}"
        )
    return positive(height), positive(width)


def _export(options):
    given = {
        "size": options.size,
        "weights": options.weights,
        "version": options.version,
        "warm_up_sizes": options.warm_up,
        "photo": options.photo,
        "representative_data": _representative(options.representative),
    }
    model = load_preset(options.preset, "PRESET", options.stages)
    print(f"Exporting {options.preset} to {options.format} ...", file=sys.stderr)
    problem = None
    with quiet_import():
        from keras_mhdeblur.export import export_as
        from keras_mhdeblur.photos import ImageFileError

        try:
            report = export_as(
                model,
                options.output,
                options.format,
                output=options.kind,
                tlc_train_size=options.tlc_train_size,
                **{name: value for name, value in given.items() if value is not None},
            )
        except ImageFileError as error:
            problem = f"{printable(error.path)}: {one_line(error)}"
        except (ValueError, OSError, ImportError) as error:
            problem = one_line(error)
    if problem is not None:
        raise UsageError(problem)
    print(report)
    return 1 if options.check and not report.passed else 0


def _representative(folder):
    if folder is None:
        return None
    photos, failures = find_photos([folder], recursive=False)
    if failures:
        raise UsageError(f"--representative {failures[0]}")
    paths = [path for path, _ in photos]
    return paths[:: -(-len(paths) // CALIBRATION_PHOTOS)]
