"""The presets that come with the package."""

from pathlib import Path

from keras_mhdeblur.presets.files import METADATA, WEIGHTS, read_metadata


def zoo_folder():
    """The folder of the built-in presets, of the installed package or a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "zoo"
    return installed if installed.is_dir() else package.parent / "zoo"


def builtin_presets():
    """Name -> folder of the built-in presets."""
    return {
        path.parent.name: path.parent for path in zoo_folder().glob(f"*/{METADATA}")
    }


def list_presets():
    """The built-in presets; reads their metadata.json, builds no model.

    Returns:
        A dict from names for `from_preset`, sorted, to dicts with "description",
        "architecture", "parameters", "scores", "license", "paper", "training_data"
        (None where unknown) and "weights": the path of the weights file, or None when
        there are no weights yet.

    Raises:
        PresetError: a preset's metadata.json is damaged.
    """
    shown = (
        "description",
        "architecture",
        "parameters",
        "scores",
        "license",
        "paper",
        "training_data",
    )
    presets = {}
    for name, folder in sorted(builtin_presets().items()):
        metadata = read_metadata(folder, name)
        presets[name] = {key: metadata.get(key) for key in shown}
        has_weights = WEIGHTS in metadata["files"]
        presets[name]["weights"] = str(folder / WEIGHTS) if has_weights else None
    return presets
