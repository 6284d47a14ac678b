"""Recipes: a YAML file that says how a model was or is to be trained."""

import inspect
import os
import pathlib
import time

import keras
import yaml

from keras_mhdeblur import data, losses, metrics, networks
from keras_mhdeblur.deblurrer import Deblurrer
from keras_mhdeblur.training.optimizers import TorchAdamW
from keras_mhdeblur.training.schedules import WarmupHoldCosine

_DATA = {
    "paired_folder": data.paired_folder,
    "synthesized_folder": data.synthesized_folder,
}
_METRICS = {
    name: getattr(metrics, name)
    for name in (
        "PSNROverall",
        "PSNRSingleHead",
        "PSNRMean",
        "PSNRPerHead",
        "HeadUsage",
    )
}
_LOSSES = {
    name: getattr(losses, name)
    for name in ("PSNRLoss", "MSELoss", "L1Loss", "CharbonnierLoss", "EdgeLoss")
}
_OPTIMIZERS = {"TorchAdamW": TorchAdamW, "AdamW": keras.optimizers.AdamW}
_NETWORKS = {name: getattr(networks, name) for name in networks.__all__}
_SECTIONS = ("seed", "network", "model", "data", "loss", "optimizer", "learning_rate")
_LENGTH = ("steps", "steps_per_epoch", "metrics")


def load_recipe(path, settings=()):
    """Reads a recipe.

    Args:
        path: YAML file.
        settings: strings "section.key=value" that replace values; values are YAML.

    Returns:
        Dictionary.

    Raises:
        ValueError: a section or a setting is unknown or missing.
    """
    recipe = yaml.safe_load(pathlib.Path(path).read_text())
    for setting in settings:
        key, separator, value = setting.partition("=")
        *parents, last = key.split(".")
        target = recipe
        for parent in parents:
            target = target.get(parent) if isinstance(target, dict) else None
        if not separator or not isinstance(target, dict):
            raise ValueError(
                "A setting is section.key=value of an existing section. "
                f"Received: setting={setting!r}"
            )
        target[last] = yaml.safe_load(value)
    expected = {*_SECTIONS, *_LENGTH}
    for wrong, names in (
        ("unknown", recipe.keys() - expected),
        ("missing", expected - recipe.keys() - {"metrics", "loss", "model"}),
    ):
        if names:
            raise ValueError(
                f"The recipe has {wrong} sections: {', '.join(sorted(names))}. "
                f"Received: path={str(path)!r}"
            )
    return recipe


def save_recipe(recipe, path):
    """Writes a recipe as YAML, its sections in the same order."""
    pathlib.Path(path).write_text(yaml.safe_dump(recipe, sort_keys=False))


def build_model(recipe):
    """The compiled `Deblurrer` of a recipe, with fresh weights from its seed."""
    keras.utils.set_random_seed(recipe["seed"])
    network = _make(_NETWORKS, recipe["network"], "network")
    model = Deblurrer(network, **recipe.get("model", {}))
    schedule = _call(
        WarmupHoldCosine,
        {**recipe["learning_rate"], "total_steps": recipe["steps"]},
        "learning_rate",
    )
    optimizer = {**recipe["optimizer"], "learning_rate": schedule}
    model.compile(
        optimizer=_make(_OPTIMIZERS, optimizer, "optimizer"),
        loss=_hypothesis_loss(recipe.get("loss", {"name": "PSNRLoss"}), model),
        metrics=[_METRICS[name]() for name in recipe.get("metrics", ())],
    )
    return model


def train(recipe, output, data_folders, *, skip_broken=False, verbose="auto"):
    """Trains a model, or goes on with a training that was stopped.

    After every epoch the weights, the optimizer's state and the running averages are
    in `output`; when it holds them already, training continues from there, with the
    data that would have come next.

    Args:
        recipe: dictionary as from `load_recipe`.
        output: folder for the state, the log and the result.
        data_folders: dictionary of the folder arguments of the recipe's data function,
            for example {"photo_dir": "photos"}.
        skip_broken: leave out broken image files instead of raising.
        verbose: of `keras.Model.fit`.

    Returns:
        The trained `Deblurrer`; its weights are the running averages if the optimizer
        has `use_ema`.
    """
    output = pathlib.Path(output)
    output.mkdir(parents=True, exist_ok=True)
    model = build_model(recipe)
    state = output / "state.weights.h5"
    if state.exists():
        model.load_weights(state)
    steps, steps_per_epoch = recipe["steps"], recipe["steps_per_epoch"]
    done = int(keras.ops.convert_to_numpy(model.optimizer.iterations))
    dataset = _make(
        _DATA,
        {
            **recipe["data"],
            **data_folders,
            "seed": recipe["seed"],
            "stream_from": done,
            "skip_broken": skip_broken,
        },
        "data",
    )
    model.fit(
        dataset,
        initial_epoch=done // steps_per_epoch,
        epochs=-(-steps // steps_per_epoch),
        steps_per_epoch=steps_per_epoch,
        callbacks=[
            _SaveState(state),
            keras.callbacks.CSVLogger(output / "log.csv", append=True),
        ],
        verbose=verbose,
    )
    if model.optimizer.use_ema:
        model.optimizer.finalize_variable_values(model.trainable_variables)
    return model


def data_folders(recipe, root):
    """The folder arguments of a recipe's data function, for data below one folder.

    Args:
        recipe: dictionary as from `load_recipe`.
        root: folder of sharp photos, or one that holds the folders blur and sharp.

    Returns:
        Dictionary for `train`.
    """
    root = pathlib.Path(root)
    if recipe["data"].get("name") == "paired_folder":
        return {"blur_dir": root / "blur", "sharp_dir": root / "sharp"}
    return {"photo_dir": root}


def evaluation_pairs(recipe, photo_dir, patch_size=256, crops_per_image=4):
    """Photos blurred as in a recipe's training, but always the same way.

    Args:
        recipe: dictionary as from `load_recipe`; its data are synthesized.
        photo_dir: folder of sharp photos.
        patch_size: side of the square patches in pixels.
        crops_per_image: patches per photo.

    Returns:
        `tf.data.Dataset` of (blurry, sharp), one pair per batch.
    """
    settings = {key: v for key, v in recipe["data"].items() if key != "name"}
    settings |= {
        "patch_size": patch_size,
        "batch_size": 1,
        "crops_per_image": crops_per_image,
        "augment": False,
        "stream_from": 0,
    }
    count = crops_per_image * len(data.list_images(photo_dir))
    return data.synthesized_folder(photo_dir, **settings).take(count)


class _SaveState(keras.callbacks.Callback):
    """Writes weights and optimizer state after each epoch, whole or not at all."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            logs["seconds"] = round(time.monotonic() - self.started, 1)
        partial = self.path.with_name("partial.weights.h5")
        self.model.save_weights(partial)
        os.replace(partial, self.path)


def _hypothesis_loss(section, model):
    section = dict(section)
    relaxation = section.pop("relaxation", 0.0)
    base = _make(_LOSSES, section, "loss")
    return losses.HypothesisLoss(base, model.combine_heads, relaxation)


def _make(choices, section, title):
    """Builds what `section["name"]` names with the other entries as arguments."""
    section = dict(section)
    name = section.pop("name", None)
    if name not in choices:
        raise ValueError(
            f"`name` in the section {title} must be one of {', '.join(choices)}. "
            f"Received: name={name!r}"
        )
    return _call(choices[name], section, title)


def _call(function, arguments, title):
    parameters = inspect.signature(function).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        unknown = [key for key in arguments if key not in parameters]
        if unknown:
            raise ValueError(
                f"The section {title} has unknown entries: {', '.join(unknown)}. "
                f"Possible: {', '.join(parameters)}."
            )
    return function(**arguments)
