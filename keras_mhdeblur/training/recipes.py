"""Recipes: a YAML file that says how a model was or is to be trained."""

import inspect
import pathlib
import re

import keras
import yaml

from keras_mhdeblur import data, losses, metrics, networks
from keras_mhdeblur.deblurrer import Deblurrer
from keras_mhdeblur.training.optimizers import Muon, TorchAdamW
from keras_mhdeblur.training.schedules import WarmupHoldCosine
from keras_mhdeblur.utils.spelling import did_you_mean

_DATA = {
    "benchmark_folder": data.benchmark_folder,
    "paired_folder": data.paired_folder,
    "prepared_folder": data.prepared_folder,
    "synthesized_folder": data.synthesized_folder,
}
# What `train` itself gives to the data function.
_FOLDER_ARGUMENTS = ("root", "blur_dir", "sharp_dir", "folder", "photo_dir")
_STREAM_ARGUMENTS = ("seed", "skip_broken", "stream_from")
_METRICS = {
    name: getattr(metrics, name)
    for name in (
        "PSNROverall",
        "PSNRSingleHead",
        "PSNRMean",
        "PSNRPerHypothesis",
        "HypothesisUsage",
    )
}
_LOSSES = {
    name: getattr(losses, name)
    for name in (
        "PSNRLoss",
        "MSELoss",
        "L1Loss",
        "CharbonnierLoss",
        "EdgeLoss",
        "FrequencyLoss",
        "CombinedLoss",
    )
}
# Entries of the section loss that are about the hypotheses.
_ASSIGNMENT = ("relaxation",)
# Entries that are no arguments of what the section names.
_MORE_ENTRIES = {"loss": _ASSIGNMENT, "data": ("on_device",)}
_OPTIMIZERS = {
    "TorchAdamW": TorchAdamW,
    "Muon": Muon,
    "AdamW": keras.optimizers.AdamW,
}
_NETWORKS = {name: getattr(networks, name) for name in networks.__all__}
_SECTIONS = (
    "network",
    "model",
    "data",
    "loss",
    "optimizer",
    "learning_rate",
)
_VALUES = (
    "seed",
    "dtype_policy",
    "steps",
    "steps_per_epoch",
    "metrics",
    "progressive",
)
_OPTIONAL = (
    "model",
    "loss",
    "dtype_policy",
    "metrics",
    "progressive",
)
_DTYPE_POLICIES = ("float32", "mixed_bfloat16", "mixed_float16")


class _Loader(yaml.SafeLoader):
    """Reads 1e-3 as a number, as YAML 1.2 does; in YAML 1.1 it is a word."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)


def read_yaml(text):
    """The value of a YAML text; numbers such as 1e-3 are numbers."""
    return yaml.load(text, _Loader)


def load_recipe(path, settings=()):
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
    check_recipe(recipe)
    return recipe


def check_recipe(recipe):
    """Raises ValueError if anything in a recipe is unknown, missing or contradictory.

    Args:
        recipe: dictionary of sections.
    """
    known = (*_SECTIONS, *_VALUES)
    _refuse_wrong_names(
        recipe, known, [name for name in known if name not in _OPTIONAL], "sections"
    )
    for title in _SECTIONS:
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
    for title, choices in _CHOICES.items():
        section = recipe.get(title, {"name": "PSNRLoss"})
        more = _MORE_ENTRIES.get(title, ())
        _check_choice(choices, section, title, more)
    on_device = recipe["data"].get("on_device", False)
    if not isinstance(on_device, bool):
        raise ValueError(
            "`on_device` in the section data must be true or false. "
            f"Received: on_device={on_device!r}"
        )
    if on_device and recipe["data"]["name"] != "synthesized_folder":
        raise ValueError(
            "`on_device` in the section data is for synthesized_folder. "
            f"Received: name={recipe['data']['name']!r}"
        )
    numbers = _numbers(_argument_defaults(losses.HypothesisLoss))
    _refuse_words(recipe.get("loss", {}), numbers, "loss")
    _refuse_words(recipe, ("seed", "steps", "steps_per_epoch"))
    _refuse_words(recipe["learning_rate"], recipe["learning_rate"], "learning_rate")
    _refuse_fractions(recipe, ("steps", "steps_per_epoch"))
    _refuse_fractions(
        recipe["data"], ("patch_size", "batch_size", "crops_per_image"), "data"
    )
    accumulation = recipe["optimizer"].get("gradient_accumulation_steps")
    if accumulation:
        raise ValueError(
            "A recipe's optimizer cannot accumulate gradients: trainings count batches "
            "by updates. `batch_size` in the section data may be larger instead. "
            f"Received: gradient_accumulation_steps={accumulation}"
        )
    _check_arguments(Deblurrer, recipe.get("model", {}), "model", ("network",))
    _check_arguments(
        WarmupHoldCosine, recipe["learning_rate"], "learning_rate", ("total_steps",)
    )
    policy = recipe.get("dtype_policy", "float32")
    if policy not in _DTYPE_POLICIES:
        raise ValueError(
            f"`dtype_policy` must be one of {', '.join(_DTYPE_POLICIES)}. "
            f"Received: dtype_policy={policy!r}"
        )
    for name in recipe.get("metrics", ()):
        _chosen(_METRICS, name, "metrics")
    _hypothesis_loss(recipe, combine=True)  # refuses values out of their range
    for stage in recipe.get("progressive", ()):
        wanted = ("steps", "patch_size", "batch_size")
        if not isinstance(stage, dict):
            raise ValueError(
                "A stage of `progressive` must hold entries `key: value`. "
                f"Received: progressive={recipe['progressive']!r}"
            )
        _refuse_wrong_names(stage, wanted, wanted, "entries", "progressive")
        _refuse_words(stage, wanted, "progressive")
        _refuse_fractions(stage, wanted, "progressive")
        if stage["steps"] % recipe["steps_per_epoch"]:
            raise ValueError(
                "A stage of `progressive` must have whole epochs of `steps_per_epoch`. "
                f"Received: steps={stage['steps']}"
            )
    total = sum(stage["steps"] for stage in recipe.get("progressive", ()))
    if total not in (0, recipe["steps"]):
        raise ValueError(
            f"The stages of `progressive` must have `steps` steps in all, not {total}. "
            f"Received: steps={recipe['steps']}"
        )


def save_recipe(recipe, path):
    """Writes a recipe as YAML, its sections in the same order."""
    pathlib.Path(path).write_text(yaml.safe_dump(recipe, sort_keys=False))


def build_model(recipe):
    """The compiled `Deblurrer` of a recipe, with fresh weights from its seed."""
    keras.utils.set_random_seed(recipe["seed"])
    usual_policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(recipe.get("dtype_policy", usual_policy))
    try:
        network = _make(_NETWORKS, recipe["network"], "network")
        model = Deblurrer(network, **recipe.get("model", {}))
    finally:
        keras.config.set_dtype_policy(usual_policy)
    schedule = WarmupHoldCosine(**recipe["learning_rate"], total_steps=recipe["steps"])
    optimizer = {**recipe["optimizer"], "learning_rate": schedule}
    model.compile(
        optimizer=_make(_OPTIMIZERS, optimizer, "optimizer"),
        loss=_hypothesis_loss(recipe, model.combine_heads),
        metrics=[_METRICS[name]() for name in recipe.get("metrics", ())],
        synthesis=_synthesis(recipe),
    )
    return model


def build_dataset(recipe, folders, *, stage=None, stream_from=0, skip_broken=False):
    """The endless stream of training batches of a recipe.

    Args:
        recipe: dictionary as from `load_recipe`.
        folders: dictionary as from `data_folders`.
        stage: entry of the recipe's `progressive`, whose sizes replace those of its
            data; None for none.
        stream_from: number of the first batch.
        skip_broken: leave out broken image files instead of raising.

    Returns:
        `tf.data.Dataset` of (blurry, sharp), or of (patches, seeds) where the model
        blurs them (`on_device`).
    """
    section = {**recipe["data"], **folders}
    if stage is not None:
        section |= {key: stage[key] for key in ("patch_size", "batch_size")}
    section |= {"seed": recipe["seed"], "stream_from": stream_from}
    function = _chosen(_DATA, section.pop("name"), "data")
    synthesis = _synthesis(recipe)
    if synthesis is not None:
        function = data.sharp_folder
        known = inspect.signature(function).parameters
        section = {key: value for key, value in section.items() if key in known}
        section["margin"] = synthesis.margin
    section.pop("on_device", None)
    if "skip_broken" in _argument_defaults(function):
        section["skip_broken"] = skip_broken
    _check_arguments(function, section, "data")
    return function(**section)


def _synthesis(recipe):
    """What blurs the patches of a recipe in the training step; None if nothing does."""
    section = recipe["data"]
    if not section.get("on_device"):
        return None
    known = inspect.signature(data.synthesize_motion_blur).parameters
    return data.MotionBlur(**{key: section[key] for key in section if key in known})


def with_defaults(section):
    """A data section with the defaults of its function filled in."""
    parameters = inspect.signature(_DATA[section["name"]]).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    return defaults | section


def data_folders(recipe, root):
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


def evaluation_pairs(recipe, photo_dir, patch_size=256, crops_per_image=4):
    """Photos blurred as in a recipe's training, but always the same way.

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
    settings = dict(recipe["data"])
    name = settings.pop("name")
    settings.pop("on_device", None)
    if name != "synthesized_folder":
        raise ValueError(
            "Photos can be blurred as in a recipe's training only if its data are a "
            f"synthesized_folder. Received: data.name={name!r}"
        )
    settings |= {
        "patch_size": patch_size,
        "batch_size": 1,
        # Passes with one crop each: several crops of an image would be shuffled.
        "crops_per_image": 1,
        "augment": False,
        "stream_from": 0,
    }
    count = crops_per_image * len(data.list_images(photo_dir))
    return data.synthesized_folder(photo_dir, **settings).take(count)


def _hypothesis_loss(recipe, combine):
    section = dict(recipe.get("loss", {"name": "PSNRLoss"}))
    settings = {key: section.pop(key) for key in _ASSIGNMENT if key in section}
    return losses.HypothesisLoss(_image_loss(section), combine, **settings)


def _image_loss(section):
    section = dict(section)
    if "losses" in section:
        section["losses"] = [_image_loss(part) for part in section["losses"]]
    return _make(_LOSSES, section, "loss")


_CHOICES = {
    "network": _NETWORKS,
    "data": _DATA,
    "loss": _LOSSES,
    "optimizer": _OPTIMIZERS,
}
# Names that people try, by section, for what stands elsewhere.
_ELSEWHERE = {
    "optimizer": {"lr": "learning_rate.peak", "learning_rate": "learning_rate.peak"}
}
# Arguments that do not come from the section.
_GIVEN = {
    "data": (
        *_FOLDER_ARGUMENTS,
        *_STREAM_ARGUMENTS,
        # What `synthesized_folder` gives to `synthesize_motion_blur`.
        "sharp",
        "margin",
        "return_frames",
    ),
    "optimizer": ("learning_rate",),
}


def _make(choices, section, title):
    """Builds what `section["name"]` names with the other entries as arguments."""
    section = dict(section)
    return _chosen(choices, section.pop("name", None), title)(**section)


def _check_choice(choices, section, title, more=()):
    """Refuses a section that `_make` could not build from, but for `more` entries."""
    section = dict(section)
    function = _chosen(choices, section.pop("name", None), title)
    _check_arguments(function, section, title, _GIVEN.get(title, ()), more)
    for part in section.get("losses", ()):
        _check_choice(choices, part, title)


def _chosen(choices, name, title):
    if name not in choices:
        raise ValueError(
            f"`name` in the section {title} must be one of {', '.join(choices)}."
            f"{did_you_mean(name, choices)} Received: name={name!r}"
        )
    return choices[name]


def _check_arguments(function, arguments, title, given=(), more=()):
    """Refuses arguments a function does not take, and the lack of those it needs.

    Args:
        function: function or class.
        arguments: dictionary, as in the recipe.
        title: the section, for the message.
        given: names of arguments that come from elsewhere.
        more: names of entries that are possible, too.
    """
    parameters = inspect.signature(function).parameters.values()
    required = [p.name for p in parameters if p.default is p.empty and p.kind in _NAMED]
    defaults = _argument_defaults(function)
    possible = [name for name in defaults if name not in given]
    possible += more
    required = [name for name in required if name not in given]
    _refuse_wrong_names(arguments, possible, required, "entries", title)
    _refuse_words(arguments, _numbers(defaults), title)


def _refuse_words(section, numbers, title=None):
    """Refuses text where a number belongs.

    Args:
        section: dictionary.
        numbers: names of the entries that are numbers.
        title: the section's name; None for the recipe itself.
    """
    where = "the recipe" if title is None else f"the section {title}"
    for name in numbers:
        if isinstance(section.get(name), str):
            raise ValueError(
                f"`{name}` in {where} must be a number. "
                f"Received: {name}={section[name]!r}"
            )


def _refuse_fractions(section, counts, title=None):
    """Refuses all but whole numbers from 1 on, as `_refuse_words` does words."""
    where = "the recipe" if title is None else f"the section {title}"
    for name in counts:
        value = section.get(name, 1)
        if type(value) is not int or value < 1:
            raise ValueError(
                f"`{name}` in {where} must be a whole number of at least 1. "
                f"Received: {name}={value!r}"
            )


def _numbers(defaults):
    """Names of the arguments whose default is a number."""
    return [name for name, value in defaults.items() if type(value) in (int, float)]


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


_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
# Where the other arguments of a function with `**blur` go.
_FORWARDED = {data.synthesized_folder: data.synthesize_motion_blur}


def _argument_defaults(function):
    """Public arguments of a function or class, and of what it passes others on to.

    Returns:
        Dictionary from names to defaults.
    """
    functions = [function, _FORWARDED.get(function)]
    if inspect.isclass(function):
        functions = [base.__init__ for base in function.__mro__[:-1]]
    defaults = {}
    for function in functions:
        if function is None:
            continue
        parameters = inspect.signature(function).parameters.values()
        for parameter in parameters:
            name = parameter.name
            if parameter.kind in _NAMED and name[0] != "_" and name != "self":
                defaults.setdefault(name, parameter.default)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            break
    return defaults
