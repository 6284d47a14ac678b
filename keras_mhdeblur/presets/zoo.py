"""Places of presets: those that come with the package, and any other."""

import os
from pathlib import Path
from typing import Any

from keras_mhdeblur.presets import hub
from keras_mhdeblur.presets.files import (
    METADATA,
    WEIGHTS,
    PresetError,
    member_names,
    read_metadata,
)
from keras_mhdeblur.utils.spelling import did_you_mean
from keras_mhdeblur.utils.types import PathLike

# Family -> the preset with weights that is best for most people, so that a name stays
# while the weights behind it get better. `nafnet_mh_c` is a preset itself.
PLAIN_NAMES = {
    "hinet_mh_c": "hinet_mh_c_small",
    "mprnet_mh_c": "mprnet_mh_c_small",
    "restormer_mh_c": "restormer_mh_c_small",
    "xydeblur_mh_c": "xydeblur_mh_c_small",
}


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


def builtin_preset(name):
    """The folder of a built-in preset, by its own or a plain name; None without one."""
    return builtin_presets().get(PLAIN_NAMES.get(name, name))


def find_preset(name: PathLike) -> Path:
    """The folder of a preset; of the Hub's presets, after the download."""
    if isinstance(name, str) and name.startswith(hub.PREFIX):
        return hub.download(name)
    folder = builtin_preset(name)
    if folder is not None:
        return folder
    if isinstance(name, (str, os.PathLike)) and Path(name).is_dir():
        return Path(name)
    builtin = [*builtin_presets(), *PLAIN_NAMES]
    raise PresetError(
        f"Unknown preset {name!r}.{did_you_mean(str(name), builtin)} Built-in presets: "
        f"{', '.join(sorted(builtin))}. Anything else must be an existing folder or "
        f'"hf://user/repo". Received: name={name!r}'
    )


def list_presets() -> dict[str, dict[str, Any]]:
    """The built-in presets; reads their texts, builds no model.

    Returns:
        A dict from names for `from_preset`, sorted, to dicts with "description",
        "architecture", "parameters", "cost", "scores", "license", "paper",
        "training_data" (None where unknown), "plain_name": a name of the preset that
        will stay when there is a better one, or None, "members": names of the presets
        whose networks it joins, or None, and "weights": the path of the weights file,
        the list of those of the members, or None when there are no weights yet.

    Raises:
        PresetError: a preset's metadata.json or config.json is damaged.
    """
    shown = (
        "description",
        "architecture",
        "parameters",
        "cost",
        "scores",
        "license",
        "paper",
        "training_data",
    )
    plain_names = {name: plain for plain, name in PLAIN_NAMES.items()}
    presets = {}
    for name, folder in sorted(builtin_presets().items()):
        metadata = read_metadata(folder, name)
        presets[name] = {key: metadata.get(key) for key in shown}
        presets[name]["plain_name"] = plain_names.get(name)
        members = member_names(folder, metadata, name)
        files = [str(find_preset(member) / WEIGHTS) for member in members or ()]
        own = str(folder / WEIGHTS) if WEIGHTS in metadata["files"] else None
        presets[name] |= {"members": members, "weights": files or own}
    return presets
