"""from_preset: a verified preset folder -> Deblurrer."""

import contextlib
import tempfile
from pathlib import Path

import h5py
import keras

from keras_mhdeblur import networks  # noqa: F401 (Keras makes only what is imported)
from keras_mhdeblur.deblurrer import Deblurrer
from keras_mhdeblur.limits import weights_at_most
from keras_mhdeblur.options import divide_options
from keras_mhdeblur.presets.files import (
    CONFIG,
    WEIGHTS,
    PresetError,
    at_stages,
    read_json,
    read_metadata,
    verify,
)
from keras_mhdeblur.presets.zoo import find_preset


def from_preset(name, load_weights=True, **overrides):
    """Loads a model from a preset.

    Files are compared with the preset's sha256 sums first, and every variable of the
    model must be in the weights file, no more and no less.

    Args:
        name: name of a built-in preset (see `list_presets`), path of a preset's
            folder, "hf://user/repo" or "hf://user/repo@revision". A folder that has
            a built-in preset's name is written "./name".
        load_weights: whether to load the weights; False gives random ones.
        overrides: arguments of the network (`num_heads=5`) or of `Deblurrer`
            (`select="medoid"`, `local_statistics=256`) to use in place of the
            preset's. `stages` of MAXIM may be less than the preset's. Others that
            change the weights' shapes need `load_weights=False`.

    Returns:
        A `Deblurrer`, not compiled.

    Raises:
        PresetError: the preset does not exist, cannot be reached or is damaged, has
            no weights, or an override is unknown or does not fit the weights.

    Example:

    ```python
    model = keras_mhdeblur.from_preset("nafnet_mh_c")
    model.restore("photo.jpg").save("sharp.png")
    ```
    """
    folder, name = find_preset(name), str(name)
    metadata = read_metadata(folder, name)
    if load_weights and WEIGHTS not in metadata["files"]:
        raise PresetError(
            f"Preset {name!r} has no weights yet, only a configuration. Build it with "
            "`load_weights=False` and train it, or convert an official checkpoint "
            "with `mhdeblur convert`."
        )
    verify(folder, [CONFIG, WEIGHTS] if load_weights else [CONFIG], metadata, name)
    config = read_json(folder, CONFIG, name)
    if not load_weights:
        return _build(config, overrides, load_weights, name)
    stages = _fewer_stages(config, overrides)
    if stages is not None:
        overrides.pop("stages")
        chosen = at_stages(metadata, stages)
        for key in ("select", "best_pair", "adaptive_weights"):
            config["config"].pop(key, None)
            if chosen.get(key) is not None:
                config["config"][key] = chosen[key]
    path = Path(folder) / WEIGHTS
    with _reading(name):
        found = _weight_shapes(path)
    # Not the exact limits: what differs is told better once both are known.
    with weights_at_most(number=4 * len(found) + 100, size=4 * path.stat().st_size):
        model = _build(config, overrides, load_weights, name)
    _load_weights(model, path, found, overrides, name)
    if stages is None:
        return model
    network = model.network.with_stages(stages)
    return Deblurrer(**{**model.get_config(), "network": network})


def _fewer_stages(config, overrides):
    """The override `stages` where it is less than the preset's; None else."""
    stages = overrides.get("stages")
    try:
        own = config["config"]["network"]["config"]["stages"]
        return stages if 1 <= stages < own else None
    except (KeyError, TypeError):  # which `_build` explains
        return None


def _build(config, overrides, load_weights, name):
    try:
        deblurrer, network = config["config"], config["config"]["network"]["config"]
        network_options = network.keys() - {"name", "trainable", "dtype"}
    except (KeyError, TypeError, AttributeError) as error:
        raise PresetError(
            f"Preset {name!r}: {CONFIG} is not the configuration of a Deblurrer. "
            "`keras.saving.load_model` opens other Keras models."
        ) from error
    try:
        of_network, of_deblurrer = divide_options(
            f"Preset {name!r}", overrides, network_options
        )
    except ValueError as error:
        raise PresetError(str(error)) from None
    combine_heads = deblurrer.get("combine_heads", True)
    recombined = of_deblurrer.get("combine_heads", combine_heads) != combine_heads
    heads = network.get("num_heads")
    other_heads = not load_weights or of_network.get("num_heads", heads) != heads
    if other_heads or recombined:
        # Which heads are good was measured with the preset's weights and hypotheses.
        deblurrer.pop("best_pair", None)
        if not isinstance(deblurrer.get("select"), str):
            deblurrer.pop("select", None)
    if other_heads:
        deblurrer.pop("adaptive_weights", None)
        if deblurrer.get("select") == "adaptive":
            deblurrer.pop("select")
    for target, values in ((network, of_network), (deblurrer, of_deblurrer)):
        for key, value in values.items():
            target[key] = keras.saving.serialize_keras_object(value)
    config["compile_config"] = None
    try:
        model = keras.saving.deserialize_keras_object(config, safe_mode=True)
    except Exception as error:
        # Keras repeats the whole configuration; the reason is its last line.
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
        raise PresetError(
            f"Preset {name!r}: {CONFIG} makes no model: {reason} "
            f"Received: overrides={overrides}"
        ) from error
    if not isinstance(model, Deblurrer):
        raise PresetError(
            f"Preset {name!r}: {CONFIG} is of a {type(model).__name__}, not of a "
            "Deblurrer. `keras.saving.load_model` opens other Keras models."
        )
    return model


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
    with tempfile.TemporaryDirectory() as scratch:
        own_path = Path(scratch) / WEIGHTS
        model.save_weights(own_path)
        problem = _difference(_weight_shapes(own_path), found)
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


def _weight_shapes(path):
    """Path of every weight in an h5 file -> its shape and its layer's name."""
    shapes = {}

    def visit(item_path, item):
        if isinstance(item, h5py.Dataset):
            shapes[item_path] = item.shape, item.parent.attrs.get("name", "?")

    with h5py.File(path) as file:
        file.visititems(visit)
    return shapes


def _difference(expected, found):
    """How two results of `_weight_shapes` differ, in words, or None."""
    for path, (shape, layer) in expected.items():
        if path not in found:
            return f"lacks {path} of layer {layer!r}"
        if found[path][0] != shape:
            return f"has shape {found[path][0]}, not {shape}, at {path} ({layer!r})"
    for path in found:
        if path not in expected:
            return f"has {path}, which is no weight of the model"
    return None
