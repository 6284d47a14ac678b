"""A verified preset folder -> model."""

import contextlib
from pathlib import Path

import keras

from keras_mhdeblur import networks  # noqa: F401 (Keras makes only what is imported)
from keras_mhdeblur.networks.ensemble import Ensemble
from keras_mhdeblur.networks.weight_limit import weights_at_most
from keras_mhdeblur.presets.files import (
    CHOICES,
    CONFIG,
    WEIGHTS,
    PresetError,
    read_json,
    read_metadata,
    read_variant,
    verify,
)
from keras_mhdeblur.presets.members import read_members
from keras_mhdeblur.presets.weight_layout import (
    difference,
    layout_of_file,
    layout_of_model,
)
from keras_mhdeblur.presets.zoo import find_preset
from keras_mhdeblur.utils.renamed import with_present_names
from keras_mhdeblur.utils.split_options import divide_options


def load_preset(model_class, preset, load_weights=True, overrides=None):
    """Builds a model from a preset; see `Deblurrer.from_preset`.

    Args:
        model_class: `Deblurrer`, of which the preset's configuration must be.
        preset, load_weights: as for `Deblurrer.from_preset`.
        overrides: dictionary of arguments of the network or of `Deblurrer`.
    """
    folder, name = find_preset(preset), str(preset)
    overrides = dict(overrides or {})
    metadata = read_metadata(folder, name)
    if WEIGHTS not in metadata["files"]:
        verify(folder, [CONFIG], metadata, name)
        config = read_json(folder, CONFIG, name)
        members = read_members(config, metadata, name)
        if members is not None:
            return _of_members(
                *(model_class, config, members, overrides, load_weights, name),
                lambda stages: read_variant(folder, metadata, stages, name).choice,
            )
    if load_weights and WEIGHTS not in metadata["files"]:
        raise PresetError(
            f"Preset {name!r} has no weights yet, only a configuration. Build it with "
            "`load_weights=False` and train it, or convert an official checkpoint "
            "with `mhdeblur convert`."
        )
    verify(folder, [CONFIG, WEIGHTS] if load_weights else [CONFIG], metadata, name)
    config = read_json(folder, CONFIG, name)
    if not load_weights:
        return _build(model_class, config, overrides, load_weights, name)
    stages = _fewer_stages(config, overrides)
    if stages is not None:
        overrides.pop("stages")
        for key in CHOICES:
            config["config"].pop(key, None)
        config["config"] |= read_variant(folder, metadata, stages, name).choice
    path = Path(folder) / WEIGHTS
    with _reading(name):
        found = layout_of_file(path)
    # Not the exact limits: what differs is told better once both are known.
    with weights_at_most(number=4 * len(found) + 100, size=4 * path.stat().st_size):
        model = _build(model_class, config, overrides, load_weights, name)
    _load_weights(model, path, found, overrides, name)
    if stages is None:
        return model
    network = model.network.with_stages(stages)
    return model_class(**{**model.get_config(), "network": network})


def _of_members(model_class, config, members, overrides, load_weights, name, choice):
    """A model of the networks of several presets.

    Args:
        members: what `read_members` returned.
        choice: function from a number of stages to the choices of the model that ends
            after them.
    """
    most = max(member.stages for member in members)
    names = " and ".join(member.name for member in members)
    of_network, of_deblurrer = _divided(
        f"Preset {name!r}, of {names},", overrides, ["stages"] * (most > 0), model_class
    )
    try:
        deblurrer = with_present_names(config["config"])
    except (KeyError, TypeError, AttributeError) as error:
        raise _no_deblurrer(name) from error
    models = [load_preset(model_class, member.name, load_weights) for member in members]
    try:
        network = Ensemble(
            [
                model.network
                if member.ending is None
                else model.network.with_stages(member.ending)
                for model, member in zip(models, members)
            ]
        )
        if "stages" in of_network:
            stages = of_network["stages"]
            network = network.with_stages(stages)
            if stages < most:
                deblurrer = {k: v for k, v in deblurrer.items() if k not in CHOICES}
                deblurrer |= choice(stages)
        _drop_unfit(deblurrer, of_deblurrer, other_heads=not load_weights)
        return model_class(network, **{**deblurrer, **of_deblurrer})
    except Exception as error:
        raise _no_model(name, overrides, error) from error


def _fewer_stages(config, overrides):
    """The override `stages` where it is less than the preset's; None else.

    An `Ensemble` has no such argument: the number that it has is taken off.
    """
    stages = overrides.get("stages")
    try:
        network = config["config"]["network"]["config"]
        parts = [network, *(part["config"] for part in network.get("members", ()))]
        own = max(part.get("stages", 0) for part in parts)
        if "members" in network and stages == own:
            overrides.pop("stages")
        return stages if 1 <= stages < own else None
    except (KeyError, TypeError, AttributeError):  # which `_build` explains
        return None


def _build(model_class, config, overrides, load_weights, name):
    try:
        config["config"] = deblurrer = with_present_names(config["config"])
        network = with_present_names(deblurrer["network"]["config"])
        deblurrer["network"]["config"] = network
        network_options = network.keys() - {"name", "trainable", "dtype"}
    except (KeyError, TypeError, AttributeError) as error:
        raise _no_deblurrer(name) from error
    of_network, of_deblurrer = _divided(
        f"Preset {name!r}", overrides, network_options, model_class
    )
    heads = network.get("num_heads")
    other_heads = not load_weights or of_network.get("num_heads", heads) != heads
    _drop_unfit(deblurrer, of_deblurrer, other_heads)
    for target, values in ((network, of_network), (deblurrer, of_deblurrer)):
        for key, value in values.items():
            target[key] = keras.saving.serialize_keras_object(value)
    config["compile_config"] = None
    try:
        model = keras.saving.deserialize_keras_object(config, safe_mode=True)
    except Exception as error:
        raise _no_model(name, overrides, error) from error
    if not isinstance(model, model_class):
        raise PresetError(
            f"Preset {name!r}: {CONFIG} is of a {type(model).__name__}, not of a "
            "Deblurrer. `keras.saving.load_model` opens other Keras models."
        )
    return model


def _divided(owner, overrides, network_options, model_class):
    """`divide_options`, whose error is a PresetError."""
    try:
        return divide_options(owner, overrides, network_options, model_class)
    except ValueError as error:
        raise PresetError(str(error)) from None


def _drop_unfit(deblurrer, of_deblurrer, other_heads):
    """Removes the choices of a configuration that are not of the heads there will be.

    Args:
        deblurrer: dictionary of arguments of `Deblurrer`; it is changed.
        of_deblurrer: those that take their place.
        other_heads: whether the heads are not those that the choices are of.
    """
    combine_heads = deblurrer.get("combine_heads", True)
    recombined = of_deblurrer.get("combine_heads", combine_heads) != combine_heads
    if other_heads or recombined:
        # Which heads are good was measured with the preset's weights and hypotheses.
        deblurrer.pop("best_pair", None)
        if not isinstance(deblurrer.get("select"), str):
            deblurrer.pop("select", None)
    if other_heads:
        deblurrer.pop("calibration", None)
        deblurrer.pop("adaptive_weights", None)
        if deblurrer.get("select") == "adaptive":
            deblurrer.pop("select")


def _no_deblurrer(name):
    return PresetError(
        f"Preset {name!r}: {CONFIG} is not the configuration of a Deblurrer. "
        "`keras.saving.load_model` opens other Keras models."
    )


def _no_model(name, overrides, error):
    # Keras repeats the whole configuration; the reason is its last line.
    reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
    return PresetError(
        f"Preset {name!r}: {CONFIG} makes no model: {reason} "
        f"Received: overrides={overrides}"
    )


@contextlib.contextmanager
def _reading(name):
    try:
        yield
    except Exception as error:
        raise PresetError(
            f"Preset {name!r}: {WEIGHTS} cannot be read: {error}. "
            "Download or copy the preset again."
        ) from error


def _load_weights(model, path, found, overrides, name):
    # Keras' reader names neither surplus weights nor all missing ones, so the layout
    # it will look for, which is the one it writes, is compared beforehand.
    problem = difference(layout_of_model(model), found)
    if problem is None:
        with _reading(name):
            model.load_weights(path)
        return
    remedy = f"{CONFIG} and {WEIGHTS} are not of one model; download or copy it again."
    if overrides:
        remedy = (
            f"The overrides {overrides} change the network: pass `load_weights=False` "
            "to build it with random weights, or leave them out."
        )
    raise PresetError(f"Preset {name!r}: {WEIGHTS} {problem}. {remedy}")
