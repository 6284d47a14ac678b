import inspect
import json
import re
from pathlib import Path

import keras
import numpy as np
import pytest
import yaml
from PIL import Image

from keras_mhdeblur import data, from_preset, losses, networks
from keras_mhdeblur.data import MotionBlur, Patches
from keras_mhdeblur.deblurrer import Deblurrer
from keras_mhdeblur.presets.saving import save_to_preset
from keras_mhdeblur.presets.zoo import builtin_presets
from keras_mhdeblur.training import recipes
from keras_mhdeblur.training.recipes import schema
from keras_mhdeblur.training.schedules import WarmupHoldCosine

TINY = yaml.safe_load(
    (Path(__file__).parents[1] / "resources" / "tiny_recipe.yaml").read_text()
)


@pytest.fixture
def recipe_file(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return path


# Reading.


def test_blur_on_the_device(recipe_file):
    def load(*settings):
        return recipes.load_recipe(recipe_file, settings)

    assert recipes.build_model(load("data.on_device=false")).synthesis is None
    blur = recipes.build_model(load("data.on_device=true")).synthesis
    assert blur == MotionBlur(6.0, num_frames=4)
    with pytest.raises(ValueError, match="true or false. Received: on_device=1"):
        load("data.on_device=1")
    with pytest.raises(ValueError, match="is for synthesized_folder. Received: name="):
        load("data={name: paired_folder, on_device: true}")


def test_load_recipe(recipe_file):
    assert recipes.load_recipe(recipe_file) == TINY


def test_settings_replace_values(recipe_file):
    settings = ["steps=8", "network.width=12", "loss.name=MSELoss",
                "network.encoder_blocks=[1, 2]", "data.max_noise=0.0"]  # fmt: skip
    recipe = recipes.load_recipe(str(recipe_file), settings)
    assert recipe["steps"] == 8
    assert recipe["network"]["width"] == 12
    assert recipe["network"]["encoder_blocks"] == [1, 2]
    assert recipe["loss"] == {**TINY["loss"], "name": "MSELoss"}
    assert recipe["data"]["max_noise"] == 0.0


@pytest.mark.parametrize("text, number", [("1e-3", 0.001), ("-2E+1", -20), (".5e1", 5)])
def test_numbers_with_an_exponent(recipe_file, text, number):
    changed = recipes.load_recipe(recipe_file, [f"learning_rate.peak={text}"])
    lines = recipe_file.read_text()
    recipe_file.write_text(lines.replace("peak: 0.01", f"peak: {text}"))
    for recipe in (changed, recipes.load_recipe(recipe_file)):
        assert recipe["learning_rate"]["peak"] == number


def test_words_and_whole_numbers_stay_what_they_are(recipe_file):
    for text, value in (("e3", "e3"), ("1e", "1e"), ("v1e3", "v1e3"), ("12", 12)):
        recipe = recipes.load_recipe(recipe_file, [f"model.select={text}"])
        found = recipe["model"]["select"]
        assert found == value and type(found) is type(value)


@pytest.mark.parametrize("setting", ["steps", "nothing.width=3", "steps.width=3",
                                     "steps=[", "steps=2020-13-01"])  # fmt: skip
def test_wrong_settings(recipe_file, setting):
    with pytest.raises(ValueError, match=re.escape(f"Received: setting='{setting}'")):
        recipes.load_recipe(recipe_file, [setting])


def test_unknown_and_missing_sections(recipe_file):
    message = "unknown sections: optimiser. Did you mean 'optimizer'?"
    with pytest.raises(ValueError, match=re.escape(message)):
        recipes.load_recipe(recipe_file, ["optimiser={}"])
    recipe_file.write_text(
        yaml.safe_dump({k: v for k, v in TINY.items() if k not in ("data", "steps")})
    )
    with pytest.raises(ValueError, match="missing sections: data, steps"):
        recipes.load_recipe(recipe_file)


def test_some_sections_may_be_left_out(recipe_file):
    optional = ("model", "loss", "metrics")
    short = {k: v for k, v in TINY.items() if k not in optional}
    recipe_file.write_text(yaml.safe_dump(short))
    model = recipes.build_model(recipes.load_recipe(recipe_file))
    assert model.num_hypotheses == 3 and type(model.loss.base).__name__ == "PSNRLoss"


@pytest.mark.parametrize(
    "text", ["", "just words", "- a\n- b", "a: [1", b"\xff\xfe\x00"]
)
def test_files_that_are_no_recipes(recipe_file, text):
    if isinstance(text, bytes):
        recipe_file.write_bytes(text)
    else:
        recipe_file.write_text(text)
    with pytest.raises(ValueError, match="recipe.yaml"):
        recipes.load_recipe(recipe_file)


def test_only_arguments_that_a_network_takes_are_entries(recipe_file):
    with pytest.raises(ValueError, match="network has unknown entries: dtype"):
        recipes.load_recipe(recipe_file, ["network.dtype=mixed_bfloat16"])


@pytest.mark.parametrize("setting, message", [
    ("dead_head_reset={}", "recipe has unknown sections: dead_head_reset"),
    ("loss.assignment=annealed", "section loss has unknown entries: assignment"),
])  # fmt: skip
def test_what_is_experimental_is_in_no_recipe(recipe_file, setting, message):
    with pytest.raises(ValueError, match=message):
        recipes.load_recipe(recipe_file, [setting])


def test_a_section_without_entries(recipe_file):
    with pytest.raises(ValueError, match="network must hold .* Received: network='NAF"):
        recipes.load_recipe(recipe_file, ["network=NAFNet"])


@pytest.mark.parametrize("section", ["network", "model", "loss", "optimizer",
                                     "learning_rate", "data"])  # fmt: skip
def test_unknown_entries_are_named_with_their_section(recipe_file, section):
    with pytest.raises(
        ValueError, match=rf"section {section} has unknown entries: zzz\. Possible: "
    ):
        recipes.load_recipe(recipe_file, [f"{section}.zzz=3"])


@pytest.mark.parametrize("setting, meant", [
    ("network.widht=3", "width"),
    ("data.max_pth=3", "max_path"),
    ("data.jpeg_qualty=[80, 90]", "jpeg_quality"),
    ("optimizer.beta1=0.9", "beta_1"),
    ("learning_rate.warmup=3", "warmup_steps"),
    ("metrics=[PSNRmean]", "PSNRMean"),
    ("loss.name=PSNRLos", "PSNRLoss"),
    ("loss.relaxaton=0.1", "relaxation"),
    ("loss={name: CombinedLoss, losses: [{name: EdgLoss}]}", "EdgeLoss"),
    ("optimizer.lr=1e-3", "learning_rate.peak"),
])  # fmt: skip
def test_the_nearest_right_name_is_told(recipe_file, setting, meant):
    with pytest.raises(ValueError, match=f"Did you mean {meant!r}\\?"):
        recipes.load_recipe(recipe_file, [setting])


@pytest.mark.parametrize("entry", [
    "loss.relaxation",
    "loss.epsilon",
    "loss.weight",
    "data.max_path",
    "data.label_jitter",
    "data.patch_size",
    "optimizer.weight_decay",
    "learning_rate.peak",
    "learning_rate.warmup_steps",
    "network.width",
    "seed",
    "steps",
])  # fmt: skip
def test_a_word_is_no_number(recipe_file, entry):
    *section, name = entry.split(".")
    where = f"section {section[0]}" if section else "recipe"
    message = f"`{name}` in the {where} must be a number.*{name}='much'"
    with pytest.raises(ValueError, match=message):
        recipes.load_recipe(recipe_file, [f"{entry}=much"])


@pytest.mark.parametrize("setting", [
    "steps=1e1",
    "steps_per_epoch=0",
    "steps_per_epoch=-2",
    "data.batch_size=2.0",
    "data.patch_size=1.6e1",
    "progressive=[{steps: 2.0, patch_size: 16, batch_size: 2}]",
])  # fmt: skip
def test_counts_are_whole_numbers(recipe_file, setting):
    with pytest.raises(ValueError, match="must be a whole number of at least 1"):
        recipes.load_recipe(recipe_file, [setting])


def test_a_word_is_no_number_of_a_stage(recipe_file):
    stages = "progressive=[{steps: many, patch_size: 16, batch_size: 2}]"
    message = "`steps` in the section progressive must be a number.*steps='many'"
    with pytest.raises(ValueError, match=message):
        recipes.load_recipe(recipe_file, [stages])


@pytest.mark.parametrize(
    "name", ["seed", "stream_from", "photo_dir", "sharp", "margin", "return_frames"]
)
def test_what_the_training_gives_is_not_in_the_data_section(recipe_file, name):
    with pytest.raises(ValueError, match=f"data has unknown entries: {name}"):
        recipes.load_recipe(recipe_file, [f"data.{name}=1"])


def test_missing_entries_are_named_with_their_section(recipe_file):
    with pytest.raises(ValueError, match="learning_rate has missing entries: peak"):
        recipes.load_recipe(recipe_file, ["learning_rate={}"])
    with pytest.raises(ValueError, match="`folders` must have photo_dir .*folders={}"):
        recipes.build_dataset(TINY, {})


@pytest.mark.parametrize("section", ["network", "loss", "optimizer", "data"])
def test_unknown_names(recipe_file, section):
    with pytest.raises(ValueError, match=f"section {section} .*Received: name='Magic'"):
        recipes.load_recipe(recipe_file, [f"{section}.name=Magic"])


@pytest.mark.parametrize("stages, message", [
    ([{"steps": 4, "patch_size": 16, "batch_size": 2}], "`steps` steps in all, not 4"),
    ([{"steps": 3, "patch_size": 16, "batch_size": 2}], "whole epochs .* steps=3"),
    ([{"steps": 6, "patch_size": 16}], "progressive has missing entries: batch_size"),
    ([{"step": 6}], "unknown entries: step. Did you mean 'steps'"),
    (3, "must be a list. Received: progressive=3"),
    ([3], "must hold entries `key: value`. Received: progressive=.3."),
])  # fmt: skip
def test_wrong_stages(stages, message):
    with pytest.raises(ValueError, match=message):
        recipes.check_recipe({**TINY, "progressive": stages})


def test_metrics_are_a_list(recipe_file):
    with pytest.raises(ValueError, match="must be a list. .*metrics='HypothesisUsage'"):
        recipes.load_recipe(recipe_file, ["metrics=HypothesisUsage"])


@pytest.mark.parametrize("setting, received", [
    ("loss.relaxation=1.0", "relaxation=1.0"),
    ("optimizer.gradient_accumulation_steps=2", "gradient_accumulation_steps=2"),
])  # fmt: skip
def test_values_that_are_refused(recipe_file, setting, received):
    with pytest.raises(ValueError, match=re.escape(f"Received: {received}")):
        recipes.load_recipe(recipe_file, [setting])


def arguments(function, *others):
    """Names of the public arguments of a function or class, but for `others`."""
    names = inspect.signature(function).parameters
    others = {*others, "kwargs", "name", "trainable", "_share_layers_of"}
    return {name for name in names if name not in others}


def entries(section):
    return {*section.numbers, *section.others}


# An `Ensemble` is made of networks, in Python only.
@pytest.mark.parametrize("name", sorted({*networks.__all__} - {"Ensemble"}))
def test_entries_of_the_networks_are_their_arguments(name):
    assert entries(schema.network_entries()[name]) == arguments(getattr(networks, name))


def test_entries_are_arguments_of_what_they_are_for():
    for name, section in schema.LOSSES.items():
        assert entries(section) == arguments(getattr(losses, name))
    assert {"relaxation"} == arguments(losses.HypothesisLoss, "base", "combine")
    expected = {
        "model": arguments(Deblurrer, "network", "calibration"),
        "learning_rate": arguments(WarmupHoldCosine, "total_steps"),
    }
    assert {
        name: entries(section) for name, section in schema.PLAIN.items()
    } == expected
    patches = arguments(Patches, "seed", "stream_from") | {"on_device"}
    blur = arguments(MotionBlur)
    assert entries(schema.DATA["paired_folder"]) == patches
    assert entries(schema.DATA["synthesized_folder"]) == patches | blur
    assert entries(schema.DATA["prepared_folder"]) == patches - {"crops_per_image"}
    benchmark = arguments(data.benchmark, "root", "allow_partial")
    found = entries(schema.DATA["benchmark_folder"])
    assert found == patches | benchmark | {"benchmark_name"}


@pytest.mark.parametrize("name", schema.OPTIMIZERS)
def test_entries_of_the_optimizers_are_their_arguments(name):
    usual = arguments(keras.optimizers.AdamW, "learning_rate", "amsgrad")
    more = {"Muon": {"momentum"}, "AdamW": {"amsgrad"}}.get(name, set())
    expected = (usual | more) - {"gradient_accumulation_steps"}
    assert entries(schema.OPTIMIZERS[name]) == expected


def test_the_recipes_of_the_zoo_are_right():
    found = {name: folder / "recipe.yaml" for name, folder in builtin_presets().items()}
    found = {name: path for name, path in found.items() if path.exists()}
    assert {"nafnet_mh_c", "nafnet_mh_c_width64", "nafnet_width32"} <= set(found)
    for name, path in found.items():
        recipe = recipes.load_recipe(path)
        config = json.loads((path.parent / "config.json").read_text())["config"]
        network = config["network"]["config"]
        for key, value in recipe["network"].items():
            assert key == "name" or network[key] == value, (name, key)
        assert recipe["model"]["combine_heads"] == config["combine_heads"], name
        assert f"mhdeblur train {name} " in path.read_text()


# Building.


def test_the_model_is_what_the_recipe_says():
    model = recipes.build_model(TINY)
    assert model.network.width == 4 and model.network.encoder_blocks == (1,)
    assert model.combine_heads and model.num_heads == 2
    loss = model.loss.get_config()
    assert loss["relaxation"] == 0.05 and loss["combine"] is True
    optimizer = model.optimizer
    assert optimizer.global_clipnorm == 0.01 and optimizer.ema_momentum == 0.5
    rates = [float(optimizer._learning_rate(step)) for step in (0, 1, 6)]
    np.testing.assert_allclose(rates, [1e-2, 1e-2, 1e-7], rtol=1e-3)


def test_mixed_precision_is_of_the_training_only(tmp_path):
    model = recipes.build_model({**TINY, "dtype_policy": "mixed_bfloat16"})
    assert model.network.get_layer("intro").compute_dtype == "bfloat16"
    assert keras.config.dtype_policy().name == "float32"
    save_to_preset(model, tmp_path)
    assert from_preset(tmp_path).network.get_layer("intro").compute_dtype == "float32"
    with pytest.raises(ValueError, match="Received: dtype_policy='bfloat16'"):
        recipes.check_recipe({**TINY, "dtype_policy": "bfloat16"})


def test_the_seed_gives_the_first_weights():
    first, again = recipes.build_model(TINY), recipes.build_model(TINY)
    other = recipes.build_model({**TINY, "seed": 6})
    for a, b in zip(first.get_weights(), again.get_weights()):
        np.testing.assert_array_equal(a, b)
    assert any(np.any(a != b) for a, b in zip(first.get_weights(), other.get_weights()))


@pytest.mark.slow
def test_several_targets_are_an_entry_of_synthesized_data(recipe_file):
    recipe = recipes.load_recipe(recipe_file, ["data.num_targets=2"])
    assert recipes.recipe_blur(recipe) == MotionBlur(6.0, num_frames=4, num_targets=2)
    for section in "paired_folder", "prepared_folder":
        setting = f"data={{name: {section}, num_targets: 2}}"
        with pytest.raises(ValueError, match="data has unknown entries: num_targets"):
            recipes.load_recipe(recipe_file, [setting])


@pytest.mark.parametrize("targets", [1, 2])
def test_evaluation_pairs_are_always_the_same(tmp_path, targets):
    rng = np.random.default_rng(0)
    for k in range(3):
        pixels = rng.integers(0, 256, (48, 48, 3)).astype("uint8")
        Image.fromarray(pixels).save(tmp_path / f"{k}.png")
    found = []
    for seed in (1, 2):
        keras.utils.set_random_seed(seed)
        recipe = {**TINY, "data": {**TINY["data"], "num_targets": targets}}
        pairs = recipes.evaluation_pairs(recipe, tmp_path, 16, crops_per_image=4)
        found.append([sharp[0].numpy() for _, sharp in pairs])
    assert len(found[0]) == 12
    np.testing.assert_array_equal(found[0], found[1])
    # Four of each photo: some pixel of the photo is its patch's first.
    photos = [np.asarray(Image.open(tmp_path / f"{k}.png")) / 255 for k in range(3)]
    counts = [
        sum(
            np.isclose(photo, patch[0, 0], atol=1e-4).all(-1).any()
            for patch in found[0]
        )
        for photo in photos
    ]
    assert counts == [4, 4, 4]


@pytest.mark.parametrize("section", [
    {"name": "paired_folder"},
    {"name": "benchmark_folder", "benchmark_name": "gopro"},
])  # fmt: skip
def test_evaluation_pairs_of_data_that_are_not_synthesized(section, tmp_path):
    with pytest.raises(ValueError, match=f"Received: data.name='{section['name']}'"):
        recipes.evaluation_pairs({**TINY, "data": section}, tmp_path)
