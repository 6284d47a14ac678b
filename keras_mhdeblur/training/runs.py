"""Training by a recipe: from the first step, or from where it was stopped."""

import contextlib
import pathlib
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_mhdeblur import data
from keras_mhdeblur.deblurrer import Deblurrer
from keras_mhdeblur.training import recipes
from keras_mhdeblur.training.callbacks import (
    ImagesPerSecond,
    PicturePanel,
    SaveEpoch,
    StopOnNonFinite,
    finished_epochs,
)
from keras_mhdeblur.training.distribution import is_chief, per_replica_batch_size
from keras_mhdeblur.utils.types import PathLike, Recipe


def train(
    recipe: Recipe,
    output: PathLike,
    folders: Mapping[str, PathLike],
    *,
    initial_model: Deblurrer | None = None,
    strategy: Any = None,
    skip_broken: bool = False,
    panel_every: int = 10,
    tensorboard: bool = False,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: str | int = "auto",
) -> Deblurrer:
    """Trains a model, or goes on with a training that was stopped.

    After every epoch the weights, the optimizer's state and the running averages are
    in `output`; when it holds them already, training continues from there, with the
    data that would have come next (where there are several crops of an image, but for
    those in the buffer that shuffles them). Trainings have whole epochs: at least the
    recipe's steps.

    In `output`: state.weights.h5, log.csv with a row per epoch, panels/epoch_NNNN.png
    (blurry, best hypothesis, sharp, disagreement, and the hypotheses' shares), and
    tensorboard/ if asked for.

    Args:
        recipe: dictionary as from `recipes.load_recipe`.
        output: folder.
        folders: dictionary as from `recipes.data_folders`.
        initial_model: `Deblurrer` whose weights a new training starts with, instead of
            random ones; its network must be that of the recipe.
        strategy: of `distribution.make_strategy`, or None; the recipe's batch size is
            the global batch size. On many machines `output` must be a folder that all
            of them can read; the chief alone writes.
        skip_broken: leave out broken image files instead of raising.
        panel_every: epochs between two pictures; 0 for none.
        tensorboard: also write scalars for TensorBoard (which has to be installed).
        callbacks: further Keras callbacks, on every machine. They run before the log
            and the state are written, so what they add to an epoch's logs is in
            log.csv. Their own state is not saved; a training that goes on is given
            them anew.
        verbose: of `keras.Model.fit`.

    Returns:
        The trained `Deblurrer`; its weights are the running averages if the optimizer
        has `use_ema`.

    Raises:
        ValueError: the recipe or the data are wrong.
        OSError: `output` cannot be written to, or is too full; known before the first
            step.
        FloatingPointError: the loss was not finite in many steps in a row.
    """
    recipes.check_recipe(recipe)
    stages = _stages(recipe)
    for stage in stages:
        per_replica_batch_size(strategy, stage["batch_size"])
    output = pathlib.Path(output)
    output.mkdir(parents=True, exist_ok=True)
    scope = getattr(strategy, "scope", contextlib.nullcontext)
    with scope():
        model = recipes.build_model(recipe)
    state = output / "state.weights.h5"
    per_epoch = recipe["steps_per_epoch"]
    done = 0
    if state.exists():
        model.load_weights(state)
        # Not the optimizer's iterations, which lack the steps that loss scaling skips.
        epochs = finished_epochs(state)
        done = int(model.optimizer.iterations) if epochs is None else epochs * per_epoch
    elif initial_model is not None:
        _copy_weights(initial_model, model)
    stages = [stage for stage in stages if done < stage["stop"]]
    # All before the first step: photos may be too small for the last stage only.
    datasets = [
        recipes.build_dataset(
            recipe,
            folders,
            stage=stage,
            stream_from=stage["first_batch"] + max(done - stage["start"], 0),
            skip_broken=skip_broken,
        )
        for stage in stages
    ]
    for stage, dataset in zip(stages, datasets):
        stage_callbacks = [StopOnNonFinite(), *callbacks]
        if is_chief(strategy):
            stage_callbacks += [
                ImagesPerSecond(stage["batch_size"]),
                SaveEpoch(output / "log.csv", state),
            ]
            if panel_every:
                panels = output / "panels"
                pairs = map(model.degraded, dataset)
                stage_callbacks.append(PicturePanel(panels, pairs, panel_every))
            if tensorboard:
                stage_callbacks.append(_tensorboard(output / "tensorboard"))
        epoch = done // per_epoch
        epochs = epoch - (done - stage["stop"]) // per_epoch
        with _without_averages(model.optimizer):
            model.fit(
                dataset,
                initial_epoch=epoch,
                epochs=epochs,
                steps_per_epoch=per_epoch,
                shuffle=False,  # the dataset has its own order
                callbacks=stage_callbacks,
                verbose=verbose,
            )
        done = epochs * per_epoch
    with scope():
        model.optimizer.finalize_variable_values(model.trainable_variables)
    return model


@contextlib.contextmanager
def _without_averages(optimizer):
    """Keeps `fit` from replacing the weights by their running averages at its end.

    The next stage goes on with the weights, as a training does that was stopped.
    """
    optimizer.finalize_variable_values = lambda variables: None
    try:
        yield
    finally:
        del optimizer.finalize_variable_values


def rehearse(
    recipe: Recipe,
    folders: Mapping[str, PathLike],
    *,
    skip_broken: bool = False,
    steps: int = 3,
) -> dict[str, Any]:
    """Rehearsal of a training: its plan, and a few measured steps on its data.

    Args:
        recipe: dictionary as from `recipes.load_recipe`.
        folders: dictionary as from `recipes.data_folders`.
        skip_broken: leave out broken image files instead of raising.
        steps: steps to measure, after a first one.

    Returns:
        Dictionary: "network", "parameters", "num_heads", "num_hypotheses", "data"
        (what was found, in words), "stages" (list of steps, patch_size, batch_size),
        "first_step" and "step" (seconds; of the largest stage), "seconds" (estimate of
        the whole training, by its number of pixels) and "peak_memory_mb" (of this
        process, with the largest batch; None where the system does not tell).
    """
    recipes.check_recipe(recipe)
    model = recipes.build_model(recipe)
    stages = _stages(recipe)

    def pixels(stage):
        return stage["batch_size"] * stage["patch_size"] ** 2

    def data(stage):
        return recipes.build_dataset(
            recipe, folders, stage=stage, skip_broken=skip_broken
        )

    largest = max(stages, key=pixels)
    widest = max(stages, key=lambda stage: stage["patch_size"])
    if widest is not largest:
        data(widest)  # Are photos too small for it?
    batches = iter(data(largest))
    times = [time.monotonic()]
    for _ in range(1 + steps):
        model.train_on_batch(*next(batches))
        times.append(time.monotonic())
    step = (times[-1] - times[1]) / steps
    work = sum((s["stop"] - s["start"]) * pixels(s) for s in stages)
    return {
        "network": recipe["network"]["name"],
        "parameters": model.count_params(),
        "num_heads": model.num_heads,
        "num_hypotheses": model.num_hypotheses,
        "data": _data_found(recipe, folders),
        "stages": [
            {"steps": stage["stop"] - stage["start"], **_sizes(stage)}
            for stage in stages
        ],
        "first_step": times[1] - times[0],
        "step": step,
        "seconds": step * work / pixels(largest),
        "peak_memory_mb": _peak_memory_mb(),
    }


def _stages(recipe):
    """The stages of a training, with their first and last steps and first batches."""
    stages = recipe.get("progressive")
    if not stages:
        patches = recipes.recipe_patches(recipe)
        stages = [
            {
                "steps": recipe["steps"],
                "patch_size": patches.patch_size,
                "batch_size": patches.batch_size,
            }
        ]
    result, start, samples = [], 0, 0
    for stage in stages:
        steps, batch_size = stage["steps"], stage["batch_size"]
        result.append(
            {
                **_sizes(stage),
                "start": start,
                "stop": start + steps,
                # Batches of this size that hold what was seen before.
                "first_batch": -(-samples // batch_size),
            }
        )
        start += steps
        samples += steps * batch_size
    return result


def _sizes(stage):
    return {key: stage[key] for key in ("patch_size", "batch_size")}


def _copy_weights(source, target):
    try:
        target.network.set_weights(source.network.get_weights())
    except ValueError as error:
        raise ValueError(
            f"`initial_model` does not have the network of the recipe: {error}"
        ) from None


def _tensorboard(folder):
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        raise ValueError(
            "`tensorboard=True` needs TensorBoard: pip install tensorboard. "
            "Received: tensorboard=True"
        ) from None
    return keras.callbacks.TensorBoard(str(folder), write_graph=False)


def _data_found(recipe, folders):
    name = recipe["data"]["name"]
    where = ", ".join(str(folder) for folder in folders.values())
    if name == "synthesized_folder":
        return f"{len(data.list_images(folders['photo_dir']))} photos in {where}"
    if name == "paired_folder":
        return f"{len(data.list_pairs(**folders, skip_broken=True))} pairs in {where}"
    return f"{name} {where}"


def _peak_memory_mb():
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)
