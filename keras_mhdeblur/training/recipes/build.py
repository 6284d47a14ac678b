"""Objects out of a checked recipe: model, loss, data."""

import dataclasses
import pathlib
from collections.abc import Mapping

import keras
import tensorflow as tf

from keras_mhdeblur import data, losses, metrics
from keras_mhdeblur.deblurrer import Deblurrer
from keras_mhdeblur.networks.registry import families
from keras_mhdeblur.training.optimizers import Muon, TorchAdamW
from keras_mhdeblur.training.schedules import WarmupHoldCosine
from keras_mhdeblur.utils.types import PathLike, Recipe

_OPTIMIZERS = {
    "TorchAdamW": TorchAdamW,
    "Muon": Muon,
    "AdamW": keras.optimizers.AdamW,
}


def build_model(recipe: Recipe) -> Deblurrer:
    """The compiled `Deblurrer` of a recipe, with fresh weights from its seed."""
    keras.utils.set_random_seed(recipe["seed"])
    usual_policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(recipe.get("dtype_policy", usual_policy))
    try:
        network = _made(network_classes(), recipe["network"])
        model = Deblurrer(network, **recipe.get("model", {}))
    finally:
        keras.config.set_dtype_policy(usual_policy)
    schedule = WarmupHoldCosine(**recipe["learning_rate"], total_steps=recipe["steps"])
    optimizer = {**recipe["optimizer"], "learning_rate": schedule}
    model.compile(
        optimizer=_made(_OPTIMIZERS, optimizer),
        loss=hypothesis_loss(recipe, model.combine_heads),
        metrics=[getattr(metrics, name)() for name in recipe.get("metrics", ())],
        synthesis=recipe_blur(recipe) if recipe["data"].get("on_device") else None,
    )
    return model


def network_classes():
    """Network classes by name: those of all families that are registered by now."""
    return {family.name: family.network for family in families()}


def hypothesis_loss(recipe, combine=True):
    """The `HypothesisLoss` of a recipe."""
    section = dict(recipe.get("loss", {"name": "PSNRLoss"}))
    relaxation = section.pop("relaxation", 0.0)
    return losses.HypothesisLoss(_image_loss(section), combine, relaxation)


def build_dataset(
    recipe: Recipe,
    folders: Mapping[str, PathLike],
    *,
    stage: Mapping[str, int] | None = None,
    stream_from: int = 0,
    skip_broken: bool = False,
) -> tf.data.Dataset:
    """The endless stream of training batches of a recipe.

    Args:
        recipe: dictionary as from `load_recipe`.
        folders: dictionary as from `data_folders`.
        stage: entry of the recipe's `progressive`, whose sizes replace those of its
            data; None for none.
        stream_from: number of the first batch.
        skip_broken: leave out broken image files instead of raising, and take an
            incomplete benchmark.

    Returns:
        `tf.data.Dataset` of (blurry, sharp), or of (patches, seeds) where the model
        blurs them (`on_device`).
    """
    section = recipe["data"]
    wanted = data_folders(recipe, "")
    if set(folders) != set(wanted):
        raise ValueError(
            f"`folders` must have {', '.join(wanted)} for the recipe's data, "
            f"{section['name']}. Received: folders={folders}"
        )
    patches = recipe_patches(recipe, stage=stage, stream_from=stream_from)
    if section["name"] == "prepared_folder":
        return data.prepared_folder(folders["folder"], patches)
    if section["name"] == "paired_folder":
        pairs = data.list_pairs(**folders, skip_broken=skip_broken)
        return data.paired_files(pairs, patches, skip_broken=skip_broken)
    if section["name"] == "benchmark_folder":
        benchmark = data.benchmark(
            section["benchmark_name"],
            folders["root"],
            section.get("split", "train"),
            blur=section.get("blur", "blur"),
            allow_partial=skip_broken,
        )
        return benchmark.dataset(patches, skip_broken=skip_broken)
    photos, blur = folders["photo_dir"], recipe_blur(recipe)
    if section.get("on_device"):
        return data.sharp_folder(
            photos, patches, margin=blur.margin, skip_broken=skip_broken
        )
    return data.synthesized_folder(photos, patches, blur, skip_broken=skip_broken)


def recipe_patches(
    recipe: Recipe,
    *,
    stage: Mapping[str, int] | None = None,
    stream_from: int | None = None,
) -> data.Patches:
    """The `Patches` of a recipe, with the sizes of a stage of `progressive`, if any."""
    section = recipe["data"]
    if stage is not None:
        section = section | {key: stage[key] for key in ("patch_size", "batch_size")}
    settings = _arguments(data.Patches, section)
    return data.Patches(**settings, seed=recipe["seed"], stream_from=stream_from)


def recipe_blur(recipe: Recipe) -> data.MotionBlur:
    """The `MotionBlur` of a recipe whose data are a synthesized_folder."""
    return data.MotionBlur(**_arguments(data.MotionBlur, recipe["data"]))


def data_folders(recipe: Recipe, root: PathLike) -> dict[str, pathlib.Path]:
    """The folder arguments of a recipe's data function, for data below one folder.

    Args:
        recipe: dictionary as from `load_recipe`.
        root: folder of sharp photos, of a benchmark, of prepared pairs, or one that
            holds the folders blur and sharp; as the recipe's data function needs it.

    Returns:
        Dictionary for `train`.
    """
    root = pathlib.Path(root)
    return {
        "benchmark_folder": {"root": root},
        "paired_folder": {"blur_dir": root / "blur", "sharp_dir": root / "sharp"},
        "prepared_folder": {"folder": root},
        "synthesized_folder": {"photo_dir": root},
    }[recipe["data"]["name"]]


def evaluation_pairs(
    recipe: Recipe, photo_dir: PathLike, patch_size: int = 256, crops_per_image: int = 4
) -> tf.data.Dataset:
    """Photos blurred as in a recipe's training, but always the same way.

    The label is one image, also where the training has several targets.

    Args:
        recipe: dictionary as from `load_recipe`.
        photo_dir: folder of sharp photos.
        patch_size: side of the square patches in pixels.
        crops_per_image: patches per photo.

    Returns:
        `tf.data.Dataset` of (blurry, sharp), one pair per batch.

    Raises:
        ValueError: the recipe's data are not synthesized, or photos cannot be used.
    """
    name = recipe["data"]["name"]
    if name != "synthesized_folder":
        raise ValueError(
            "Photos can be blurred as in a recipe's training only if its data are a "
            f"synthesized_folder. Received: data.name={name!r}"
        )
    # Passes with one crop each: several crops of an image would be shuffled.
    patches = data.Patches(
        patch_size, batch_size=1, augment=False, crops_per_image=1, stream_from=0
    )
    count = crops_per_image * len(data.list_images(photo_dir))
    blur = dataclasses.replace(recipe_blur(recipe), num_targets=1)
    return data.synthesized_folder(photo_dir, patches, blur).take(count)


def _image_loss(section):
    if "losses" in section:
        parts = [_image_loss(part) for part in section["losses"]]
        section = {**section, "losses": parts}
    return _made(vars(losses), section)


def _made(choices, section):
    """Makes what `section["name"]` names with the other entries as arguments."""
    arguments = {key: value for key, value in section.items() if key != "name"}
    return choices[section["name"]](**arguments)


def _arguments(dataclass, section):
    """The entries of a section that are fields of a dataclass."""
    names = [field.name for field in dataclasses.fields(dataclass)]
    return {name: section[name] for name in names if name in section}
