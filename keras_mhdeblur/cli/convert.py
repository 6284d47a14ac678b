"""`mhdeblur convert`: an official PyTorch checkpoint in, a preset out."""

import sys
from pathlib import Path

from .common import UsageError, quiet_import


def add_parser(commands):
    parser = commands.add_parser(
        "convert",
        help="make a preset of an official PyTorch checkpoint",
        description="Makes a preset of a checkpoint (.pth or .safetensors) of NAFNet, "
        "Restormer, HINet, MPRNet or XYDeblur, with one head or several. Needs no "
        "PyTorch and executes nothing in the file.",
    )
    add = parser.add_argument
    add("checkpoint", metavar="CHECKPOINT", help="the file")
    add("--output", "-o", required=True, metavar="FOLDER", help="the preset to write")
    add(
        "--architecture",
        default="auto",
        help="nafnet, restormer, hinet, mprnet or xydeblur; auto tells it by the names "
        "of the weights (default: %(default)s)",
    )
    add(
        "--entry",
        metavar="NAME",
        help="the checkpoint's entry that holds the weights (default: the first of "
        "params_ema, params, state_dict, model, or the file itself)",
    )
    add(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="what the file does not tell: combine_heads=false for heads that were "
        "trained uncombined, local_statistics=256 for TLC as in NAFNet's published "
        "GoPro scores, relu_slope of HINet; or any other argument of the network",
    )
    add(
        "--license",
        metavar="ID",
        help="SPDX identifier of the weights' licence, for example MIT",
    )
    add(
        "--license-file",
        metavar="FILE",
        help="the licence's text; it is kept in the preset and on its card",
    )
    parser.set_defaults(run=_convert)


def _convert(options):
    path = Path(options.checkpoint)
    if not path.is_file():
        raise UsageError(f"{path}: there is no such file")
    license_text = _read_license(options.license_file)
    with quiet_import():
        from keras_mhdeblur.convert import checkpoint_files, conversion, recognition
        from keras_mhdeblur.presets.files import checksum

    try:
        overrides = _settings(options.set)
        state, entry = checkpoint_files.read_state_dict(path, options.entry)
        recognised = recognition.recognize(state, options.architecture)
        told = {
            key: value
            for key, value in recognised.arguments.items()
            if key not in overrides
        }
        assumed = {
            key: value
            for key, value in recognised.assumed.items()
            if key not in overrides
        }
        source = {
            "file": path.name,
            "sha256": checksum(path),
            "entry": entry,
            "assumed": assumed,
            "set": overrides,
        }
        where = "" if entry is None else f" in {entry}"
        print(f"Checkpoint  {path.name}: {len(state)} weights{where}")
        print(f"            sha256 {source['sha256']}")
        print(f"Recognised  {recognised.architecture}: {_list(told)}")
        if assumed:
            print(f"Assumed     {_list(assumed)} (change with --set NAME=VALUE)")
        if overrides:
            print(f"Set         {_list(overrides)}", flush=True)
        model = conversion.build_model(state, recognised, overrides)
        model.save_to_preset(
            options.output,
            description=f"{recognised.architecture} with the weights of {path.name}",
            license=options.license,
            license_text=license_text,
            source=source,
        )
    except (ValueError, OSError) as error:
        raise UsageError(str(error)) from None
    if not (options.license or license_text):
        print(
            "mhdeblur: warning: no licence is recorded; --license and --license-file "
            "record it",
            file=sys.stderr,
        )
    print(
        f"Wrote {options.output}. Try: mhdeblur restore PHOTO --preset "
        f"{options.output} -o restored"
    )
    return 0


def _read_license(path):
    if path is None:
        return None
    try:
        return Path(path).read_text("utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"--license-file {path}: it is no UTF-8 text") from None
    except OSError as error:
        raise UsageError(f"--license-file {path}: {error.strerror}") from None


def _settings(settings):
    import yaml

    from keras_mhdeblur.training.recipes import read_yaml

    values = {}
    for setting in settings:
        key, separator, value = setting.partition("=")
        if not separator:
            raise UsageError(f"--set takes NAME=VALUE, not {setting!r}")
        try:
            values[key] = read_yaml(value)
        except (yaml.YAMLError, ValueError):
            raise UsageError(f"--set {setting}: the value is no YAML") from None
    return values


def _list(arguments):
    return ", ".join(f"{key}={value}" for key, value in arguments.items())
