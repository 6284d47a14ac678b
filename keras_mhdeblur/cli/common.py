"""Shared by the commands: errors for the user, quiet imports, presets, numbers.

As all modules of this package it imports the standard library only: the help and wrong
arguments are answered at once, and a command imports the library when it runs.
"""

import argparse
import contextlib
import os
import sys
import tempfile
import warnings
from pathlib import Path

# Names for the choice between seconds and sharpness, and their presets.
QUALITIES = {"fast": "nafnet_mh_c", "good": "nafnet_maxim_mh_c"}
DEFAULT_QUALITY = "good"


class UsageError(Exception):
    """A request that cannot be met; the message is for the user."""


@contextlib.contextmanager
def quiet_import():
    """Hides what TensorFlow's libraries print as they load, unless that fails.

    They write to the process' standard error before any log level is read.
    """
    with tempfile.TemporaryFile() as log:
        try:
            with _standard_error_to(log):
                yield
        except BaseException:
            log.seek(0)
            os.write(2, log.read())
            raise


@contextlib.contextmanager
def quiet_decoders():
    """Hides what image decoders print: libtiff has a line for every damaged byte."""
    with open(os.devnull, "wb") as nowhere, _standard_error_to(nowhere):
        yield


@contextlib.contextmanager
def _standard_error_to(file):
    sys.stderr.flush()
    kept = os.dup(2)
    os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def add_preset_option(add):
    add(
        "--quality",
        choices=tuple(QUALITIES),
        help=f"fast: nafnet_mh_c; good: nafnet_maxim_mh_c (default: {DEFAULT_QUALITY})",
    )
    add(
        "--preset",
        help="a preset in place of --quality: built-in name, folder or hf://user/repo",
    )
    add_stages_option(add)


def add_stages_option(add):
    add(
        "--stages",
        type=positive,
        metavar="N",
        help="number of stages of the preset's network to use, for MAXIM only "
        "(default: all)",
    )


def chosen_preset(options):
    """Name and stages of the preset that the options of `add_preset_option` choose."""
    if options.preset is None:
        if options.stages is not None:
            raise UsageError("--stages needs --preset")
        return QUALITIES[options.quality or DEFAULT_QUALITY], None
    if options.quality is not None:
        raise UsageError("--quality and --preset are two names for one choice")
    return options.preset, options.stages


@contextlib.contextmanager
def warnings_as_lines():
    """Prints warnings as the command's other messages, without a place in the code."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        print(f"mhdeblur: warning: {warning.message}", file=sys.stderr)


def positive(text):
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a positive number, not {text!r}")
    return number


def whole_number(text):
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number from 0, not {text!r}")
    return int(text)


def tlc_train_size(text):
    if text == "model":
        return text
    return None if text == "none" else positive(text)


def make_output_folder(path):
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--output {path}: {error.strerror}") from None


def load_preset(preset, option="--preset", stages=None):
    with quiet_import():
        from keras_mhdeblur import from_preset
    overrides = {} if stages is None else {"stages": stages}
    try:
        return from_preset(preset, **overrides)
    except (ValueError, OSError) as error:
        raise UsageError(f"{option} {preset}: {one_line(error)}") from None


def open_engine(model):
    """Opens the LiteRT file that `restore` will take, if any: LiteRT prints a line."""
    with quiet_import():
        from keras_mhdeblur.inference.engine_choice import choose_engine

        choose_engine(model)


def printable(text):
    """A text, or the path of a file, fit for a terminal: one line, no control codes.

    What cannot be shown becomes an escape: `\\n`, `\\x1b`, `\\udcff` for a byte that is
    no UTF-8.
    """
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in str(text)
    )


def one_line(error):
    """An exception's message in one line, without what the line says already.

    At most 300 characters, in whole words.
    """
    text = printable(" ".join(str(getattr(error, "reason", error)).split()))
    if isinstance(error, MemoryError):
        text = f"there is not enough memory {text}".rstrip()
    elif not isinstance(error, (ValueError, OSError)):
        text = f"{type(error).__name__}: {text}"
    if len(text) > 300:
        text = text[:296].rsplit(" ", 1)[0] + " ..."
    return text


def recipe_path(name):
    """The recipe file of a path, of a preset's folder or of a built-in preset."""
    with quiet_import():
        from keras_mhdeblur.presets.zoo import builtin_preset

    folder = builtin_preset(name) or Path(name)
    path = folder / "recipe.yaml" if folder.is_dir() else folder
    if not path.is_file():
        raise UsageError(f"there is no recipe {path}")
    return path
