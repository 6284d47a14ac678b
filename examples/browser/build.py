"""Builds the page that restores photos in a browser, in a folder to be served.

python examples/browser/build.py
python -m http.server --bind 127.0.0.1 --directory examples/browser/site

Needs npm, for LiteRT.js, and this package, for the models. What is in the folder
already is not fetched or exported again.
"""

import argparse
import dataclasses
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from keras_mhdeblur import cli

HERE = Path(__file__).parent
PAGE = ("index.html", "style.css", "app.js", "tiles.js", "worker.js")
VERSION = "2.5.3"
PACKAGES = ("core", "wasm-utils")
# The builds of the runtime, of which a browser loads one: for processors with relaxed
# SIMD, without, for pages that may have threads, and for WebGPU.
BUILDS = ("", "_compat", "_threaded", "_jspi")


class BuildError(Exception):
    """Something is missing; the message is for the user."""


@dataclasses.dataclass(frozen=True)
class Model:
    """A model on the page.

    Attributes:
        name: of its file.
        preset: built-in preset or folder.
        title, note: how the page shows it.
        options: further ones of `mhdeblur export`.
        size: of the tiles, in pixels.
        overlap: pixels that tiles share, as in `restore_tiles.py`.
        seconds: per tile on two cores, until the page has measured it.
        webgpu: whether WebGPU runs it.
    """

    name: str
    preset: str
    title: str
    note: str
    options: tuple = ("--weights", "float16")
    size: int = 256
    overlap: int = 64
    seconds: float = 1.0
    webgpu: bool = False


MODELS = (
    Model("nafnet_mh_c", "nafnet_mh_c", "Fast", "NAFNet"),
    Model(
        "maxim_mh_c",
        "maxim_mh_c",
        "Good",
        "MAXIM, ten times slower",
        ("--weights", "float16", "--stages", "1"),
        overlap=32,
        seconds=10.0,
    ),
)
# Only a file without TLC and adaptive mean, in float32, runs on a GPU.
FOR_GPUS = Model(
    "nafnet_mh_c_mean",
    "nafnet_mh_c",
    "For GPUs",
    "NAFNet, plain mean",
    ("--output-kind", "mean", "--tlc-train-size", "none"),
    seconds=0.4,
    webgpu=True,
)


def main():
    parser = argparse.ArgumentParser(
        description="Builds the page that restores photos in a browser."
    )
    parser.add_argument(
        "--output", type=Path, default=HERE / "site", help="folder (default: site)"
    )
    parser.add_argument(
        "--gpu",
        action="store_true",
        help="add a model that WebGPU can run, 18 MB more to load",
    )
    options = parser.parse_args()
    try:
        build(options.output, (*MODELS, FOR_GPUS) if options.gpu else MODELS)
    except (BuildError, OSError) as error:
        sys.exit(f"error: {error}")
    print(
        f"Serve it: python -m http.server --bind 127.0.0.1 --directory {options.output}"
    )


def build(folder, models=MODELS):
    """Builds the page.

    Args:
        folder: path of the folder; it is made.
        models: sequence of `Model`s.

    Raises:
        BuildError: npm or a model is missing.
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in PAGE:
        shutil.copy(HERE / name, folder)
    copy_runtime(folder / "vendor" / "litert")
    # The text of Apache-2.0, under which the runtime is, too.
    shutil.copy(HERE.parents[1] / "LICENSE", folder)
    (folder / "models").mkdir(exist_ok=True)
    entries = []
    for model in models:
        file = folder / "models" / f"{model.name}.tflite"
        if not file.exists():
            export(model, file)
        # It has the licences of the weights.
        card = HERE.parents[1] / "zoo" / model.preset / "README.md"
        if card.is_file():
            shutil.copy(card, file.with_suffix(".md"))
        entries.append(
            {
                "name": model.name,
                "title": model.title,
                "note": model.note,
                "file": f"models/{file.name}",
                "bytes": file.stat().st_size,
                "tile": [model.size, model.size],
                "overlap": model.overlap,
                "seconds": model.seconds,
                "webgpu": model.webgpu,
            }
        )
    (folder / "models.json").write_text(json.dumps(entries, indent=2) + "\n")


def copy_runtime(folder):
    """LiteRT.js from npm, of a pinned version, into a folder."""
    if (folder / "index.js").exists():
        return
    with tempfile.TemporaryDirectory() as scratch:
        names = [f"@litertjs/{name}@{VERSION}" for name in PACKAGES]
        print(f"Fetching {names[0]} ...", file=sys.stderr)
        npm_install(scratch, names)
        packages = Path(scratch) / "node_modules" / "@litertjs"
        (folder / "wasm").mkdir(parents=True, exist_ok=True)
        for build in BUILDS:
            for suffix in ("js", "wasm"):
                name = f"litert_wasm{build}_internal.{suffix}"
                shutil.copy(packages / "core" / "wasm" / name, folder / "wasm")
        utils = packages / "wasm-utils" / "dist" / "index.js"
        shutil.copy(utils, folder / "wasm-utils.js")
        # Import maps, which would tell a browser where a package is, do not reach
        # workers.
        code = (packages / "core" / "dist" / "index.js").read_text("utf-8")
        changed = code.replace('"@litertjs/wasm-utils"', '"./wasm-utils.js"')
        if changed == code:
            raise BuildError(f"{names[0]} imports @litertjs/wasm-utils no more.")
        note = f"// {names[0]}, Apache-2.0. Changed: the import of wasm-utils.\n"
        (folder / "index.js").write_text(note + changed, "utf-8")


def npm_install(folder, names):
    options = ["--silent", "--ignore-scripts", "--no-audit", "--no-fund"]
    try:
        subprocess.run(
            ["npm", "install", "--prefix", folder, *options, *names], check=True
        )
    except FileNotFoundError:
        raise BuildError("npm is missing: install Node.js.") from None
    except subprocess.CalledProcessError as error:
        raise BuildError(
            f"npm could not fetch {names[0]} (exit code {error.returncode}): "
            "the registry must be reachable."
        ) from None


def export(model, file):
    """The tile of a model, by `mhdeblur export`."""
    size = f"{model.size}x{model.size}"
    arguments = ["export", model.preset, "--format", "litert", "--size", size]
    if cli.main([*arguments, "--output", str(file), *model.options]):
        raise BuildError(f"{model.name} could not be exported, see above.")
    Path(f"{file}.json").unlink()  # the comparison with Keras, which has been printed


if __name__ == "__main__":
    main()
