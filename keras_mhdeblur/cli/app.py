"""`mhdeblur app`: a page in the browser that restores photos."""

import sys

from keras_mhdeblur.cli.common import (
    DEFAULT_QUALITY,
    QUALITIES,
    UsageError,
    add_preset_option,
    chosen_preset,
    one_line,
    positive,
)
from keras_mhdeblur.cli.loading import load_engine


def add_parser(commands):
    parser = commands.add_parser(
        "app",
        help="restore photos in a browser",
        description="Serves a page on this machine where photos are dropped, compared, "
        "retouched and saved. Needs Gradio: "
        'pip install "keras-mhdeblur[app]"',
    )
    add = parser.add_argument
    add_preset_option(add)
    add(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address to listen at; 0.0.0.0 lets other machines in "
        "(default: %(default)s, this machine only)",
    )
    add(
        "--port",
        type=positive,
        metavar="N",
        help="port to listen at (default: the first free one from 7860 on)",
    )
    add(
        "--max-megapixels",
        type=positive,
        default=60,
        metavar="N",
        help="refuse larger photos (default: %(default)s)",
    )
    add("--open", action="store_true", help="open the page in a browser")
    parser.set_defaults(run=_app)


def _app(options):
    presets, default = _presets(options)

    def load_model(name):
        return load_engine(*presets[name])

    from keras_mhdeblur.app import Choice, launch

    choices = [
        Choice(name, _seconds_per_megapixel(*preset))
        for name, preset in presets.items()
    ]
    print("Loading the model ...", file=sys.stderr)
    try:
        launch(
            load_model,
            choices,
            default=default,
            host=options.host,
            port=options.port,
            max_megapixels=options.max_megapixels,
            open_browser=options.open,
            ready=_say_ready,
        )
    except ImportError as error:
        raise UsageError(str(error)) from None
    except OSError as error:
        raise UsageError(one_line(error)) from None
    return 0


def _say_ready(address):
    print(f"The page is at {address}\nCtrl-C stops it.", file=sys.stderr, flush=True)


def _presets(options):
    """Name on the page -> preset and stages, and the name that is set at first."""
    preset, stages = chosen_preset(options)
    if options.preset is not None:
        return {preset: (preset, stages)}, preset
    presets = {name: (preset, None) for name, preset in QUALITIES.items()}
    return presets, options.quality or DEFAULT_QUALITY


def _seconds_per_megapixel(preset, stages):
    """Of a built-in preset, as its metadata has it; None of others."""
    from keras_mhdeblur.presets.files import read_metadata
    from keras_mhdeblur.presets.zoo import builtin_preset

    folder = builtin_preset(preset)
    if folder is None:
        return None
    entries = read_metadata(folder, preset)
    if stages is not None:
        entries = entries.get("stages", {}).get(str(stages), {})
    return (entries.get("cost") or {}).get("seconds_per_megapixel")
