"""save_to_preset: Deblurrer -> preset folder."""

import dataclasses
import datetime
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import h5py
import keras
import numpy as np

from keras_mhdeblur.networks.ensemble import Ensemble
from keras_mhdeblur.presets.card import default_card
from keras_mhdeblur.presets.files import (
    CARD,
    CONFIG,
    ENSEMBLE,
    FILES,
    LITERT,
    LITERT_STAGES,
    RECIPE,
    RESULTS,
    WEIGHTS,
    PresetError,
    check_fields,
    write_json,
    write_metadata,
)
from keras_mhdeblur.presets.litert import (
    choice_fingerprint,
    export_heads,
    fingerprint,
    member_fingerprints,
)
from keras_mhdeblur.presets.members import read_member
from keras_mhdeblur.utils.atomic import atomic_files
from keras_mhdeblur.utils.spelling import did_you_mean
from keras_mhdeblur.utils.types import AnyDeblurrer, PathLike

_FIELDS = (
    "description",
    "license",
    "license_text",
    "paper",
    "training_data",
    "scores",
    "cost",
    "source",
)


def save_to_preset(
    model: AnyDeblurrer,
    folder: PathLike,
    *,
    dtype: Literal["float16", "float32"] = "float32",
    litert: bool | int = False,
    description: str | None = None,
    license: str | None = None,
    license_text: str | None = None,
    paper: str | None = None,
    training_data: str | None = None,
    scores: dict[str, Any] | None = None,
    cost: dict[str, Any] | None = None,
    source: dict[str, Any] | None = None,
    card: str | None = None,
    recipe: PathLike | None = None,
    results: dict[str, Any] | None = None,
    stages: dict[int, AnyDeblurrer] | None = None,
    members: Sequence[PathLike] | None = None,
    **metadata: Any,
) -> None:
    """Writes a model as a preset folder.

    The folder is complete or not there: it is written aside and moved into place. It
    replaces a preset as a whole, and never a folder that holds anything else. How
    the model was compiled and its optimizer's state are not saved.

    Args:
        model: a `Deblurrer`.
        folder: the folder to write.
        dtype: how weights are stored, "float32" or "float16"; the model loads either
            into its float32 variables.
        litert: whether to add a LiteRT file, model.tflite, with which the command
            line restores photos without Keras; it has the weights in `dtype`, too.
        description: what the model is, in a sentence.
        license: SPDX identifier of the weights' licence, for example "Apache-2.0".
        license_text: the licence's own words.
        paper: address of the paper.
        training_data: what it was trained on, and the data's licences.
        scores: dict of results.
        cost: dict of what restoring takes, which `benchmarks/inference.py` measures.
        source: dict about the file that the weights were converted from: its "file"
            name, its "sha256" and anything else.
        card: text of the model card, README.md; written from the above when None.
        recipe: path of the YAML file that trains the model, copied as recipe.yaml.
        results: dict of detailed results, written as results.json.
        stages: dict from numbers of stages to `Deblurrer`s of `network.with_stages`,
            which have a `select`, `best_pair` and `adaptive_weights` of their own:
            what `from_preset(name, stages=1)` gives. `litert` may be their number,
            to add the LiteRT file of one of them in place of the whole network's.
        members: names of presets, as for `from_preset`, whose networks are the members
            of the model's `networks.Ensemble`, in their order, ended after all or some
            of the stages that a preset has choices for. They keep the weights:
            the folder has the choices alone, which are for these weights only. `dtype`
            and `litert` are the members' then. None: all weights are written.
        metadata: further entries of metadata.json.

    Raises:
        PresetError: the folder holds something that is not a preset, weights are not
            finite in `dtype`, the model has other weights than `members`, or an
            argument is wrong.
    """
    if not hasattr(model, "num_hypotheses"):
        raise PresetError(
            f"`model` must be a Deblurrer. Received: model={type(model).__name__}"
        )
    if dtype not in ("float16", "float32"):
        raise PresetError(
            f'`dtype` must be "float16" or "float32". Received: dtype={dtype!r}'
        )
    if source is not None and not {"file", "sha256"} <= set(source):
        raise PresetError(
            f'`source` must have a "file" and a "sha256". Received: source={source!r}'
        )
    stages = stages or {}
    if litert is not True and litert and litert not in stages:
        raise PresetError(
            "`litert` must be True, False or a number of `stages`. "
            f"Received: litert={litert!r}"
        )
    named = None if members is None else _named(model, members, dtype, litert)
    check_fields(metadata)
    known = [*_FIELDS, "card", "recipe", "results", "members"]
    for key, value in metadata.items():
        if hint := did_you_mean(key, known):
            raise PresetError(f"Unknown entry {key!r}.{hint} Received: {key}={value!r}")
    folder = Path(os.path.abspath(folder))
    _refuse_foreign(folder)

    entries = _facts(model, dtype) | {
        "description": description,
        "license": license,
        "license_text": license_text,
        "paper": paper,
        "training_data": training_data,
        "scores": scores,
        "cost": cost,
        "source": source,
        **metadata,
    }
    if stages:
        entries["stages"] = {
            str(count): {
                "select": ending.select,
                "best_pair": ending.best_pair,
                "adaptive_weights": ending.adaptive_weights,
                "calibration": _calibration(ending, dtype),
                "fingerprint": fingerprint(ending, dtype),
            }
            for count, ending in stages.items()
        }
    with atomic_files(folder.parent, replace_folders=True) as scratch:
        new = scratch / folder.name
        new.mkdir()
        if named is None:
            clean = _write_config(model, new, dtype)
            _write_weights(clean, new, dtype)
        else:
            clean = model
            _write_named(model, new, named)
            entries["weights_dtype"] = None
        entries["fingerprint"] = fingerprint(clean, dtype)
        if litert is True:
            entries["litert"] = export_heads(
                clean, new / LITERT, clean.tlc_train_size, dtype
            )
        elif litert:
            entries["stages"][str(litert)]["litert"] = export_heads(
                stages[litert], new / LITERT_STAGES[litert], None, dtype
            )
        about = {**entries, "members": [str(name) for name in members or ()]}
        text = default_card(folder.name, about) if card is None else card
        (new / CARD).write_text(text, "utf-8")
        if recipe is not None:
            shutil.copyfile(recipe, new / RECIPE)
        if results is not None:
            write_json(new / RESULTS, results)
        write_metadata(new, entries, os.listdir(new))


def _facts(model, dtype):
    """The entries of metadata.json that are the library's to say."""
    return {
        "keras_version": keras.__version__,
        "date_saved": datetime.datetime.now().strftime("%Y-%m-%d@%H:%M:%S"),
        "architecture": type(model.network).__name__,
        "parameters": model.network.count_params(),
        "weights_dtype": dtype,
    }


def _refuse_foreign(folder):
    if not folder.exists():
        return
    if not folder.is_dir():
        raise PresetError(f"A preset is a folder. Received: folder={str(folder)!r}")
    foreign = sorted(set(os.listdir(folder)) - set(FILES))
    if foreign:
        raise PresetError(
            f"{str(folder)!r} holds files that are not a preset's ({foreign[0]!r}) and "
            "would be lost. Write to another folder. "
            f"Received: folder={str(folder)!r}"
        )


def _calibration(model, dtype):
    """Configuration of a model's calibration for the rounded weights, or None."""
    calibration = model.calibration
    if calibration is None or calibration.fingerprint != choice_fingerprint(model):
        return None
    rounded = choice_fingerprint(model, dtype)
    return dataclasses.replace(calibration, fingerprint=rounded).get_config()


def _named(model, members, dtype, litert):
    """The configuration's entry about the presets whose networks a model has.

    Raises:
        PresetError: they are not of its weights, or an argument does not fit them.
    """
    if litert or dtype != "float32":
        raise PresetError(
            "`litert` and `dtype` are of the presets of `members`. "
            f"Received: litert={litert!r}, dtype={dtype!r}"
        )
    if isinstance(members, str) or len(members) < 2:
        raise PresetError(
            "`members` must be two names of presets or more. "
            f"Received: members={members!r}"
        )
    own = member_fingerprints(model)
    if len(own) != len(members):
        raise PresetError(
            "`model` must have an Ensemble of as many networks as `members`. "
            f"Received: members={members!r}, model with "
            f"{len(own) or 1} networks ({type(model.network).__name__})"
        )
    entries = []
    for index, (name, found) in enumerate(zip(members, own)):
        same = [m for m in read_member(name).endings() if m.fingerprint == found]
        if not same:
            raise PresetError(
                f"`members` must be presets of the model's networks: {str(name)!r} has "
                f"not the weights and options of network {index}, with combined heads. "
                f"Received: members={members!r}"
            )
        entry = {"preset": str(name), "fingerprint": found}
        if same[0].ending is not None:
            entry["stages"] = same[0].ending
        entries.append(entry)
    return entries


def _config(model, dtype):
    """A model's configuration: nothing of how it was compiled and trained."""
    config = keras.saving.serialize_keras_object(model)
    config["config"]["calibration"] = _calibration(model, dtype)
    # How it was compiled, and the precision it was trained in, are not the model's.
    del config["config"]["dtype"]
    network = config["config"]["network"]
    parts = [config, network]
    if isinstance(model.network, Ensemble):
        parts += network["config"]["members"]
    for part in parts:
        part.pop("compile_config", None)
        part.pop("build_config", None)
    return config


def _write_named(model, folder, entries):
    """Writes config.json of a model whose weights are in other presets."""
    config = _config(model, "float32")
    del config["config"]["network"]
    write_json(folder / CONFIG, {**config, ENSEMBLE: entries})


def _write_config(model, folder, dtype):
    """Writes config.json; returns the model that it describes, with model's weights."""
    config = _config(model, dtype)
    write_json(folder / CONFIG, config)
    clean = keras.saving.deserialize_keras_object(config, safe_mode=True)
    clean.set_weights(model.get_weights())
    return clean


def _write_weights(model, folder, dtype):
    full = folder / f"full.{WEIGHTS}"
    model.save_weights(full)
    with h5py.File(full) as source, h5py.File(folder / WEIGHTS, "w") as target:

        def copy(path, item):
            if isinstance(item, h5py.Group):
                target.require_group(path).attrs.update(item.attrs)
                return
            with np.errstate(over="ignore"):
                values = np.asarray(item).astype(dtype)
            if not np.isfinite(values).all():
                raise PresetError(
                    f"The weights of layer {item.parent.attrs.get('name')} are not "
                    f"finite in {dtype}. Received: dtype={dtype!r}"
                )
            target.create_dataset(path, data=values).attrs.update(item.attrs)

        target.attrs.update(source.attrs)
        source.visititems(copy)
    full.unlink()
