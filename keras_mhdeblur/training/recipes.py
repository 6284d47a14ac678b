"""Recipes: a YAML file that says how a model was or is to be trained."""

import csv
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
_SECTIONS = ("network", "model", "data", "loss", "optimizer", "learning_rate")
_VALUES = ("seed", "steps", "steps_per_epoch", "metrics")


def load_recipe(path, settings=()):
    """Reads a recipe.

    Args:
        path: YAML file.
        settings: strings "section.key=value" that replace values; values are YAML.

    Returns:
        Dictionary.

    Raises:
        ValueError: a section or a setting is unknown or missing, or the file is no
            recipe.
    """
    try:
        recipe = yaml.safe_load(pathlib.Path(path).read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a YAML file: {error}") from None
    if not isinstance(recipe, dict):
        raise ValueError(f"The recipe has no sections. Received: path={str(path)!r}")
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
    expected = {*_SECTIONS, *_VALUES}
    for wrong, names in (
        ("unknown", recipe.keys() - expected),
        ("missing", expected - recipe.keys() - {"metrics", "loss", "model"}),
    ):
        if names:
            raise ValueError(
                f"The recipe has {wrong} sections: {', '.join(sorted(names))}. "
                f"Received: path={str(path)!r}"
            )
    for title in _SECTIONS:
        if not isinstance(recipe.get(title, {}), dict):
            raise ValueError(
                f"The section {title} must hold entries `key: value`. "
                f"Received: {title}={recipe[title]!r}"
            )
    return recipe


def save_recipe(recipe, path):
    """Writes a recipe as YAML, its sections in the same order."""
    pathlib.Path(path).write_text(yaml.safe_dump(recipe, sort_keys=False))


def build_model(recipe):
    """The compiled `Deblurrer` of a recipe, with fresh weights from its seed."""
    keras.utils.set_random_seed(recipe["seed"])
    network = _make(_NETWORKS, recipe["network"], "network")
    model = _call(Deblurrer, {**recipe.get("model", {}), "network": network}, "model")
    schedule = _call(
        WarmupHoldCosine,
        {**recipe["learning_rate"], "total_steps": recipe["steps"]},
        "learning_rate",
    )
    optimizer = {**recipe["optimizer"], "learning_rate": schedule}
    model.compile(
        optimizer=_make(_OPTIMIZERS, optimizer, "optimizer"),
        loss=_hypothesis_loss(recipe.get("loss", {"name": "PSNRLoss"}), model),
        metrics=[
            _make(_METRICS, {"name": name}, "metrics")
            for name in recipe.get("metrics", ())
        ],
    )
    return model


def train(recipe, output, data_folders, *, skip_broken=False, verbose="auto"):
    """Trains a model, or goes on with a training that was stopped.

    After every epoch the weights, the optimizer's state and the running averages are
    in `output`; when it holds them already, training continues from there, with the
    data that would have come next. Trainings have whole epochs: at least the
    recipe's steps.

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
    steps_per_epoch = recipe["steps_per_epoch"]
    epoch = done // steps_per_epoch
    model.fit(
        dataset,
        initial_epoch=epoch,
        epochs=epoch - (done - recipe["steps"]) // steps_per_epoch,
        steps_per_epoch=steps_per_epoch,
        shuffle=False,  # the dataset has its own order
        callbacks=[_SaveEpoch(output / "log.csv", state)],
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


class _SaveEpoch(keras.callbacks.Callback):
    """After each epoch, adds a row to the log, then replaces the saved state.

    Files appear whole or not at all. Rows of epochs that are trained again, because
    the state was not saved any more, are replaced. (Of `keras.callbacks.CSVLogger`'s
    rows half the columns are "NA", and it repeats epochs.)
    """

    def __init__(self, log, state):
        super().__init__()
        self.log = log
        self.state = state

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        seconds = round(time.monotonic() - self.started, 1)
        values = dict(sorted((logs or {}).items()))
        self._write_row({"epoch": epoch, **values, "seconds": seconds})
        partial = self.state.with_name("partial.weights.h5")
        self.model.save_weights(partial)
        os.replace(partial, self.state)

    def _write_row(self, row):
        rows = []
        if self.log.exists():
            with open(self.log, newline="") as file:
                rows = list(csv.DictReader(file))
        rows = [old for old in rows if int(old["epoch"]) < row["epoch"]] + [row]
        columns = dict.fromkeys(key for row in rows for key in row)
        partial = self.log.with_name("partial.csv")
        with open(partial, "w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)
        os.replace(partial, self.log)


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
    parameters = inspect.signature(function).parameters.values()
    required = [p.name for p in parameters if p.default is p.empty and p.kind in _NAMED]
    possible = _argument_names(function)
    for wrong, names in (
        ("unknown", [name for name in arguments if name not in possible]),
        ("missing", [name for name in required if name not in arguments]),
    ):
        if names:
            raise ValueError(
                f"The section {title} has {wrong} entries: {', '.join(names)}. "
                f"Possible: {', '.join(possible)}."
            )
    return function(**arguments)


_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
# Where the other arguments of a function with `**blur` go.
_FORWARDED = {data.synthesized_folder: data.synthesize_motion_blur}


def _argument_names(function):
    """Public arguments of a function, or of a class and those of its bases."""
    functions = [function, _FORWARDED.get(function)]
    if inspect.isclass(function):
        functions = [base.__init__ for base in function.__mro__[:-1]]
    return [
        *dict.fromkeys(
            parameter.name
            for function in functions
            if function is not None
            for parameter in list(inspect.signature(function).parameters.values())
            if parameter.kind in _NAMED and not parameter.name.startswith("_")
        )
    ]
