"""The files of a preset folder and their checksums."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from keras_mhdeblur.utils.atomic import atomic_file
from keras_mhdeblur.utils.renamed import with_present_names
from keras_mhdeblur.utils.types import PathLike

CONFIG = "config.json"
METADATA = "metadata.json"
WEIGHTS = "model.weights.h5"
LITERT = "model.tflite"
LITERT_REPORT = "model.tflite.json"
# Of the network that ends after fewer stages, see `at_stages`.
LITERT_STAGES = {1: "model.stages_1.tflite", 2: "model.stages_2.tflite"}
CARD = "README.md"
RECIPE = "recipe.yaml"
RESULTS = "results.json"
FILES = (
    *(CONFIG, METADATA, WEIGHTS, LITERT, LITERT_REPORT),
    *(name + end for name in LITERT_STAGES.values() for end in ("", ".json")),
    *(CARD, RECIPE, RESULTS),
)
# Entry of the configuration of several networks: whose presets have the weights.
ENSEMBLE = "ensemble"
# Arguments of `Deblurrer` that are fitted to the weights.
CHOICES = ("select", "best_pair", "adaptive_weights", "calibration")
# What people edit by hand; the other files change with the model only.
TEXTS = (CARD, RECIPE, RESULTS)


class PresetError(ValueError):
    """A preset cannot be found, read, verified or written."""


def read_metadata(folder, name):
    """Contents of a preset's metadata.json.

    Args:
        folder: the preset's folder.
        name: what the user called the preset, for messages.

    Returns:
        A dict; its "files" maps file names to their "sha256" and "bytes".

    Raises:
        PresetError: the file is missing, is no JSON or lists no checksums.
    """
    metadata = read_json(folder, METADATA, name)
    files = metadata.get("files")
    well_formed = isinstance(files, dict) and all(
        file in FILES
        and isinstance(entry, dict)
        and isinstance(entry.get("sha256"), str)
        and isinstance(entry.get("bytes"), int)
        for file, entry in files.items()
    )
    if not well_formed:
        raise PresetError(
            f"Preset {name!r}: {METADATA} lists no checksums of the preset's files, so "
            "they cannot be verified. Write presets with `save_to_preset`; "
            "`keras.saving.load_model` opens other Keras folders. "
            f"Received: folder={str(folder)!r}"
        )
    return metadata


def ensemble_entries(config, metadata, name):
    """The presets that hold the weights of a preset.

    Args:
        config: contents of the preset's config.json.
        metadata: what `read_metadata` returned.
        name: what the user called the preset, for messages.

    Returns:
        List of dictionaries with a member's name, "preset", the "fingerprint" of its
        metadata, and the number of "stages" that it ends after where it has more; None
        where the preset is of one model.

    Raises:
        PresetError: the configuration is damaged.
    """
    if ENSEMBLE not in config or WEIGHTS in metadata["files"]:
        return None
    entries = config[ENSEMBLE]
    well_formed = (
        isinstance(entries, list)
        and len(entries) > 1
        and all(
            isinstance(entry, dict)
            and isinstance(entry.get("preset"), str)
            and isinstance(entry.get("fingerprint"), str)
            and isinstance(entry.get("stages"), (int, type(None)))
            for entry in entries
        )
    )
    if not well_formed:
        raise PresetError(
            f"Preset {name!r}: {CONFIG} names no members, at least two presets with "
            f"fingerprints. Received: {ENSEMBLE}={entries!r}"
        )
    return entries


def member_names(folder, metadata, name):
    """Names of the presets that hold the weights of a preset; None of one model."""
    if WEIGHTS in metadata["files"]:
        return None
    entries = ensemble_entries(read_json(folder, CONFIG, name), metadata, name)
    return entries and [entry["preset"] for entry in entries]


@dataclasses.dataclass(frozen=True)
class Variant:
    """A preset's network, ended after all or some of its stages.

    Attributes:
        choice: dictionary of `select`, `best_pair`, `adaptive_weights` and
            `calibration` of the model.
        tlc_train_size: of the model, see `Deblurrer`.
        fingerprint: `presets.litert.fingerprint` of the model, None where unknown.
        litert_file: name of its LiteRT file, None where the preset has none.
        litert: what `LiteRTModel` must know of that file.
    """

    choice: dict
    tlc_train_size: int | tuple[int, int] | None
    fingerprint: str | None
    litert_file: str | None
    litert: object


def read_variant(folder, metadata, stages, name):
    """The `Variant` of a preset that ends after some stages.

    The configuration has the choice of the whole network. The metadata's entry "stages"
    maps numbers of stages, as text, to what is different then.

    Args:
        folder: the preset's folder.
        metadata: what `read_metadata` returned.
        stages: number of stages; None for all.
        name: what the user called the preset, for messages.

    Raises:
        PresetError: the configuration is missing or damaged.
    """
    config = read_json(folder, CONFIG, name).get("config")
    config = config if isinstance(config, dict) else {}
    entries, choice, file = metadata, config, LITERT
    if stages is not None:
        others = metadata.get("stages")
        other = others.get(str(stages)) if isinstance(others, dict) else None
        entries = choice = other if isinstance(other, dict) else {}
        file = LITERT_STAGES.get(stages)
    train_size = with_present_names(config).get("tlc_train_size")
    if isinstance(train_size, list):
        train_size = tuple(train_size)
    return Variant(
        choice={key: choice[key] for key in CHOICES if choice.get(key) is not None},
        tlc_train_size=train_size,
        fingerprint=entries.get("fingerprint"),
        litert_file=file if file in metadata["files"] else None,
        litert=entries.get("litert"),
    )


def read_json(folder, file, name):
    """The dict in a JSON file of a preset; PresetError where there is none."""
    path = Path(folder) / file
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise PresetError(
            f"Preset {name!r}: {file} is missing, so this is not a complete preset. "
            f"Download or copy it again. Received: folder={str(folder)!r}"
        ) from None
    except OSError as error:
        raise PresetError(
            f"Preset {name!r}: {file} cannot be opened ({error.strerror}). "
            f"Received: folder={str(folder)!r}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise PresetError(
            f"Preset {name!r}: {file} is damaged ({error}). Download or copy it again. "
            f"Received: folder={str(folder)!r}"
        ) from error
    if not isinstance(content, dict):
        raise PresetError(
            f"Preset {name!r}: {file} holds no JSON object. Download or copy it again. "
            f"Received: folder={str(folder)!r}"
        )
    return content


def verify(folder, files, metadata, name):
    """Compares files with the sizes and checksums in a preset's metadata.

    Args:
        folder: the preset's folder.
        files: names of the files to check, all of them in the metadata.
        metadata: what `read_metadata` returned.
        name: what the user called the preset, for messages.

    Raises:
        PresetError: a file is missing, truncated or changed.
    """
    for file in files:
        path, expected = Path(folder) / file, metadata["files"].get(file)
        if expected is None:
            problem = f"is not listed in {METADATA}"
        elif not path.is_file():
            problem = "is missing"
        elif path.stat().st_size < expected["bytes"]:
            problem = (
                f"is truncated: {path.stat().st_size} of {expected['bytes']} bytes"
            )
        elif checksum(path) != expected["sha256"]:
            problem = f"is damaged: its sha256 is not the one in {METADATA}"
        else:
            continue
        # The Hub's cache keeps a repository's files beside its snapshots.
        in_cache = Path(folder).parent.name == "snapshots"
        root = Path(folder).parents[1] if in_cache else Path(folder)
        remedy = f"Delete {str(root)!r} and download or copy the preset again"
        if file in TEXTS:
            remedy += (
                ", or, if you edited the file, call "
                "`keras_mhdeblur.presets.update_metadata(folder)`"
            )
        raise PresetError(f"Preset {name!r}: {file} {problem}. {remedy}.")


def update_metadata(folder: PathLike, **fields: Any) -> None:
    """Sets entries of a preset's metadata.json and takes edited texts into account.

    The configuration and the weights keep their checksums; README.md, recipe.yaml and
    results.json get those of their present contents.

    Args:
        folder: a preset's folder.
        fields: entries to set, for example `scores={"gopro": {"psnr_mean": 31.2}}`;
            None removes an entry.

    Raises:
        PresetError: the folder is no preset, its configuration or weights are
            damaged, or an entry belongs to the library.
    """
    folder = Path(folder)
    metadata = read_metadata(folder, str(folder))
    fixed = [file for file in metadata["files"] if file not in TEXTS]
    verify(folder, fixed, metadata, str(folder))
    check_fields(fields)
    metadata.update(fields)
    present = [*fixed, *(text for text in TEXTS if (folder / text).is_file())]
    write_metadata(folder, metadata, present)


def set_calibration(
    folder: PathLike, calibration: Any, stages: int | None = None
) -> None:
    """Writes a calibration into a preset's configuration.

    Args:
        folder: a preset's folder.
        calibration: `Calibration` of the model that the preset makes, or None to remove
            it.
        stages: number of stages of the network that it is of; None for all.

    Raises:
        PresetError: the folder is no preset or damaged, or has no such stages.
    """
    folder = Path(folder)
    name = str(folder)
    metadata = read_metadata(folder, name)
    fixed = [file for file in metadata["files"] if file not in TEXTS]
    verify(folder, fixed, metadata, name)
    entry = calibration and calibration.get_config()
    if stages is None:
        config = read_json(folder, CONFIG, name)
        config["config"]["calibration"] = entry
        write_json(folder / CONFIG, config)
    elif str(stages) in metadata.get("stages", {}):
        metadata["stages"][str(stages)]["calibration"] = entry
    else:
        raise PresetError(
            f"Preset {name!r} has no choices for its first stages. "
            f"Received: stages={stages}"
        )
    write_metadata(folder, metadata, metadata["files"])


def check_fields(fields):
    """Refuses metadata entries that the library writes itself."""
    own = {
        *("keras_version", "date_saved", "architecture", "parameters", "files"),
        *("members", "fingerprint", "tlc_train_size", "litert", "weights_dtype"),
        *CHOICES,
    }
    for key in own & set(fields):
        raise PresetError(
            f"{METADATA}: {key!r} is written by the library. "
            f"Received: {key}={fields[key]!r}"
        )


def write_metadata(folder, metadata, files):
    """Writes metadata.json, with the checksums of the other files."""
    entries = {key: value for key, value in metadata.items() if value is not None}
    entries["files"] = {
        file: {
            "sha256": checksum(folder / file),
            "bytes": (folder / file).stat().st_size,
        }
        for file in sorted(files)
    }
    write_json(folder / METADATA, entries)


def write_json(path, content):
    try:
        text = json.dumps(content, indent=2, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise PresetError(
            f"{path.name} takes numbers, strings, lists and dicts only: {error}. "
            f"Received: {content!r}"
        ) from error
    with atomic_file(path) as partial:
        partial.write_text(text + "\n", "utf-8")


def checksum(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
