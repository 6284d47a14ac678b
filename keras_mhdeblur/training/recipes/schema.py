"""The sections, entries and names that may stand in a recipe."""

import pathlib
import re
from collections.abc import Iterable
from typing import Any

import yaml

from keras_mhdeblur.networks.registry import families
from keras_mhdeblur.training.recipes.build import hypothesis_loss
from keras_mhdeblur.utils.spelling import did_you_mean
from keras_mhdeblur.utils.types import PathLike, Recipe


class Entries:
    """The entries that a section may have, besides `name`.

    Args:
        numbers: names of the entries that are numbers, with spaces between.
        others: names of the others.
        required: those that must be there.
    """

    def __init__(self, numbers="", others="", required=""):
        self.numbers = numbers.split()
        self.others = others.split()
        self.required = required.split()

    def check(self, section, title, more=()):
        """Raises ValueError where a section has other entries, or words for numbers.

        Entries of the names in `more` may be there, too.
        """
        possible = [*self.numbers, *self.others, *more]
        _refuse_wrong_names(section, possible, self.required, "entries", title)
        _refuse_words(section, self.numbers, title)


_SIZES = "patch_size batch_size "
DATA = {
    "benchmark_folder": Entries(
        _SIZES + "crops_per_image",
        "benchmark_name split blur augment on_device",
        required="benchmark_name",
    ),
    "paired_folder": Entries(_SIZES + "crops_per_image", "augment on_device"),
    "prepared_folder": Entries(_SIZES, "augment on_device"),
    "synthesized_folder": Entries(
        _SIZES + "crops_per_image max_path max_rotation label_jitter num_frames "
        "num_targets gamma max_noise max_highlight max_zoom path_exponent still_share "
        "max_objects max_lights max_defocus gamma_spread max_late_noise min_resampling",
        "jpeg_quality augment on_device",
    ),
}
LOSSES = {
    "PSNRLoss": Entries("weight epsilon", "to_luma"),
    "MSELoss": Entries("weight"),
    "L1Loss": Entries("weight"),
    "CharbonnierLoss": Entries("weight epsilon"),
    "EdgeLoss": Entries("weight epsilon"),
    "FrequencyLoss": Entries("weight"),
    "CombinedLoss": Entries("weight", "losses", required="losses"),
}
_ADAMW = (
    "weight_decay beta_1 beta_2 epsilon clipnorm clipvalue global_clipnorm "
    "ema_momentum ema_overwrite_frequency loss_scale_factor "
)
OPTIMIZERS = {
    "TorchAdamW": Entries(_ADAMW, "use_ema"),
    "Muon": Entries(_ADAMW + "momentum", "use_ema"),
    "AdamW": Entries(_ADAMW, "use_ema amsgrad"),
}
METRICS = (
    "PSNROverall",
    "PSNRSingleHead",
    "PSNRMean",
    "PSNRPerHypothesis",
    "HypothesisUsage",
)
# Sections with a `name`, and the entries of each name.
NAMED = {"data": DATA, "loss": LOSSES, "optimizer": OPTIMIZERS}
# Sections without.
PLAIN = {
    "model": Entries(
        others="combine_heads select best_pair tlc_train_size adaptive_weights"
    ),
    "learning_rate": Entries("peak warmup_steps decay_steps final", required="peak"),
}
_STAGE = Entries(_SIZES + "steps", required=_SIZES + "steps")
_REQUIRED = (
    *("network", "data", "optimizer", "learning_rate"),
    *("seed", "steps", "steps_per_epoch"),
)
_OPTIONAL = (*("model", "loss", "dtype_policy", "metrics", "progressive"),)
_DTYPE_POLICIES = ("float32", "mixed_bfloat16", "mixed_float16")
# Names that people try, by section, for what stands elsewhere.
_ELSEWHERE = {
    "optimizer": {"lr": "learning_rate.peak", "learning_rate": "learning_rate.peak"}
}


def network_entries():
    """The entries of each registered network, by name."""
    return {
        family.name: Entries(family.numbers, family.others) for family in families()
    }


class _Loader(yaml.SafeLoader):
    """Reads 1e-3 as a number, as YAML 1.2 does; in YAML 1.1 it is a word."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)


def read_yaml(text: str) -> Any:
    """The value of a YAML text; numbers such as 1e-3 are numbers."""
    return yaml.load(text, _Loader)


def load_recipe(path: PathLike, settings: Iterable[str] = ()) -> Recipe:
    """Reads a recipe and checks it.

    Args:
        path: YAML file.
        settings: strings "section.key=value" that replace values; values are YAML.

    Returns:
        Dictionary.

    Raises:
        ValueError: the file is no recipe, or a section, an entry, a name or a setting
            is unknown or missing; the message names it and the nearest known one.
    """
    try:
        recipe = read_yaml(pathlib.Path(path).read_text())
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{path} is not a YAML file: {error}") from None
    if not isinstance(recipe, dict):
        raise ValueError(f"The recipe has no sections. Received: path={str(path)!r}")
    for setting in settings:
        _replace(recipe, setting)
    check_recipe(recipe)
    return recipe


def save_recipe(recipe: Recipe, path: PathLike) -> None:
    """Writes a recipe as YAML, its sections in the same order."""
    pathlib.Path(path).write_text(yaml.safe_dump(recipe, sort_keys=False))


def check_recipe(recipe: Recipe) -> None:
    """Raises ValueError if anything in a recipe is unknown, missing or contradictory.

    Args:
        recipe: dictionary of sections.
    """
    known = _REQUIRED + _OPTIONAL
    _refuse_wrong_names(recipe, known, _REQUIRED, "sections")
    for title in ("network", *NAMED, *PLAIN):
        if not isinstance(recipe.get(title, {}), dict):
            raise ValueError(
                f"The section {title} must hold entries `key: value`. "
                f"Received: {title}={recipe[title]!r}"
            )
    for title in ("metrics", "progressive"):
        if not isinstance(recipe.get(title, []), list):
            raise ValueError(
                f"`{title}` must be a list. Received: {title}={recipe[title]!r}"
            )
    _check_data(recipe)
    _check_optimizer(recipe["optimizer"])
    _check_loss(recipe.get("loss", {"name": "PSNRLoss"}))
    _check_named("network", recipe["network"], choices=network_entries())
    for title, entries in PLAIN.items():
        if title in recipe:
            entries.check(recipe[title], title)
    _refuse_words(recipe, ("seed", "steps", "steps_per_epoch"))
    _refuse_fractions(recipe, ("steps", "steps_per_epoch"))
    policy = recipe.get("dtype_policy", "float32")
    if policy not in _DTYPE_POLICIES:
        raise ValueError(
            f"`dtype_policy` must be one of {', '.join(_DTYPE_POLICIES)}. "
            f"Received: dtype_policy={policy!r}"
        )
    for name in recipe.get("metrics", ()):
        _refuse_unknown(METRICS, name, "metrics")
    hypothesis_loss(recipe)  # refuses values out of their range
    _check_progressive(recipe)


def _replace(recipe, setting):
    """Replaces the value that a setting "section.key=value" names."""
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
    try:
        target[last] = read_yaml(value)
    except (yaml.YAMLError, ValueError):
        raise ValueError(
            f"The value of a setting must be YAML. Received: setting={setting!r}"
        ) from None


def _check_named(title, section, more=(), choices=None):
    """Checks a section with a `name`, which may also have the entries `more`."""
    choices = NAMED[title] if choices is None else choices
    name = section.get("name")
    _refuse_unknown(choices, name, title)
    entries = {key: value for key, value in section.items() if key != "name"}
    choices[name].check(entries, title, more)


def _check_data(recipe):
    section = recipe["data"]
    _check_named("data", section)
    _refuse_fractions(section, ("patch_size", "batch_size", "crops_per_image"), "data")
    on_device = section.get("on_device", False)
    if not isinstance(on_device, bool):
        raise ValueError(
            "`on_device` in the section data must be true or false. "
            f"Received: on_device={on_device!r}"
        )
    if on_device and section["name"] != "synthesized_folder":
        raise ValueError(
            "`on_device` in the section data is for synthesized_folder. "
            f"Received: name={section['name']!r}"
        )


def _check_optimizer(section):
    steps = section.get("gradient_accumulation_steps")
    if steps:
        raise ValueError(
            "A recipe's optimizer cannot accumulate gradients: trainings count batches "
            "by updates. `batch_size` in the section data may be larger instead. "
            f"Received: gradient_accumulation_steps={steps}"
        )
    _check_named("optimizer", section)


def _check_loss(section):
    _check_named("loss", section, ("relaxation",))
    _refuse_words(section, ("relaxation",), "loss")
    for part in section.get("losses", ()):
        _check_named("loss", part)


def _check_progressive(recipe):
    stages = recipe.get("progressive", ())
    for stage in stages:
        if not isinstance(stage, dict):
            raise ValueError(
                "A stage of `progressive` must hold entries `key: value`. "
                f"Received: progressive={stages!r}"
            )
        _STAGE.check(stage, "progressive")
        _refuse_fractions(stage, _STAGE.numbers, "progressive")
        if stage["steps"] % recipe["steps_per_epoch"]:
            raise ValueError(
                "A stage of `progressive` must have whole epochs of `steps_per_epoch`. "
                f"Received: steps={stage['steps']}"
            )
    total = sum(stage["steps"] for stage in stages)
    if total not in (0, recipe["steps"]):
        raise ValueError(
            f"The stages of `progressive` must have `steps` steps in all, not {total}. "
            f"Received: steps={recipe['steps']}"
        )


def _refuse_unknown(choices, name, title):
    if name not in choices:
        raise ValueError(
            f"`name` in the section {title} must be one of {', '.join(choices)}."
            f"{did_you_mean(name, choices)} Received: name={name!r}"
        )


def _refuse_words(section, numbers, title=None):
    """Refuses text where a number belongs; without title, in the recipe itself."""
    where = "the recipe" if title is None else f"the section {title}"
    for name in numbers:
        if isinstance(section.get(name), str):
            raise ValueError(
                f"`{name}` in {where} must be a number. "
                f"Received: {name}={section[name]!r}"
            )


def _refuse_fractions(section, counts, title=None):
    """Refuses all but whole numbers from 1 on."""
    where = "the recipe" if title is None else f"the section {title}"
    for name in counts:
        value = section.get(name, 1)
        if type(value) is not int or value < 1:
            raise ValueError(
                f"`{name}` in {where} must be a whole number of at least 1. "
                f"Received: {name}={value!r}"
            )


def _refuse_wrong_names(names, possible, required, what, title=None):
    where = "The recipe" if title is None else f"The section {title}"
    unknown = [name for name in names if name not in possible]
    if unknown:
        elsewhere = _ELSEWHERE.get(title, {}).get(unknown[0])
        hint = f" Did you mean {elsewhere!r}?" if elsewhere else None
        raise ValueError(
            f"{where} has unknown {what}: {', '.join(map(str, unknown))}."
            f"{hint or did_you_mean(unknown[0], possible)} "
            f"Possible: {', '.join(possible)}."
        )
    missing = [name for name in required if name not in names]
    if missing:
        raise ValueError(
            f"{where} has missing {what}: {', '.join(missing)}. "
            f"Possible: {', '.join(possible)}."
        )
