import csv

import numpy as np
import pytest
import yaml
from PIL import Image

from keras_mhdeblur.training import recipes

TINY = {
    "seed": 5,
    "network": {
        "name": "NAFNet",
        "width": 4,
        "encoder_blocks": [1],
        "middle_blocks": 1,
        "decoder_blocks": [1],
        "num_heads": 2,
    },
    "model": {"combine_heads": True},
    "data": {
        "name": "synthesized_folder",
        "patch_size": 16,
        "batch_size": 2,
        "crops_per_image": 1,
        "max_path": 6.0,
        "num_frames": 4,
    },
    "loss": {"name": "PSNRLoss", "relaxation": 0.05},
    "optimizer": {
        "name": "TorchAdamW",
        "global_clipnorm": 0.01,
        "use_ema": True,
        "ema_momentum": 0.5,
    },
    "learning_rate": {"peak": 1e-2, "warmup_steps": 1},
    "steps": 6,
    "steps_per_epoch": 2,
    "metrics": ["PSNRMean", "HeadUsage"],
}


@pytest.fixture
def recipe_file(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return path


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "photos"
    folder.mkdir()
    for k in range(5):
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3)).astype("uint8"))
        coarse.resize((48, 48), Image.Resampling.BICUBIC).save(folder / f"{k}.png")
    return {"photo_dir": str(folder)}


# Reading.


def test_load_recipe(recipe_file):
    assert recipes.load_recipe(recipe_file) == TINY


def test_settings_replace_values(recipe_file):
    settings = ["steps=8", "network.width=12", "loss.name=MSELoss",
                "network.encoder_blocks=[1, 2]", "data.max_noise=0.0"]  # fmt: skip
    recipe = recipes.load_recipe(str(recipe_file), settings)
    assert recipe["steps"] == 8
    assert recipe["network"]["width"] == 12
    assert recipe["network"]["encoder_blocks"] == [1, 2]
    assert recipe["loss"] == {"name": "MSELoss", "relaxation": 0.05}
    assert recipe["data"]["max_noise"] == 0.0


@pytest.mark.parametrize("setting", ["steps", "nothing.width=3", "steps.width=3"])
def test_wrong_settings(recipe_file, setting):
    with pytest.raises(ValueError, match=f"Received: setting='{setting}'"):
        recipes.load_recipe(recipe_file, [setting])


def test_unknown_and_missing_sections(recipe_file):
    with pytest.raises(ValueError, match="unknown sections: optimiser"):
        recipes.load_recipe(recipe_file, ["optimiser={}"])
    recipe_file.write_text(
        yaml.safe_dump({k: v for k, v in TINY.items() if k not in ("data", "steps")})
    )
    with pytest.raises(ValueError, match="missing sections: data, steps"):
        recipes.load_recipe(recipe_file)


def test_model_loss_and_metrics_may_be_left_out(recipe_file):
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


def test_a_section_without_entries(recipe_file):
    with pytest.raises(ValueError, match="network must hold .* Received: network='NAF"):
        recipes.load_recipe(recipe_file, ["network=NAFNet"])


@pytest.mark.parametrize("section", ["network", "model", "loss", "optimizer",
                                     "learning_rate", "data"])  # fmt: skip
def test_unknown_entries_are_named_with_their_section(
    recipe_file, photos, tmp_path, section
):
    recipe = recipes.load_recipe(recipe_file, [f"{section}.widht=3"])
    with pytest.raises(
        ValueError, match=rf"section {section} has unknown entries: widht\. Possible: "
    ):
        recipes.train(recipe, tmp_path / "out", photos)


def test_missing_entries_are_named_with_their_section(recipe_file, tmp_path):
    recipe = recipes.load_recipe(recipe_file, ["learning_rate={}"])
    with pytest.raises(ValueError, match="learning_rate has missing entries: peak"):
        recipes.build_model(recipe)
    with pytest.raises(ValueError, match="data has missing entries: photo_dir"):
        recipes.train(TINY, tmp_path / "out", {})


@pytest.mark.parametrize("section", ["network", "loss", "optimizer"])
def test_unknown_names(recipe_file, section):
    recipe = recipes.load_recipe(recipe_file, [f"{section}.name=Magic"])
    with pytest.raises(ValueError, match=f"section {section} .*Received: name='Magic'"):
        recipes.build_model(recipe)


def test_unknown_metric(recipe_file):
    recipe = recipes.load_recipe(recipe_file, ["metrics=[PSNRMean, Magic]"])
    with pytest.raises(ValueError, match="section metrics .*Received: name='Magic'"):
        recipes.build_model(recipe)


# Building.


def test_the_model_is_what_the_recipe_says():
    model = recipes.build_model(TINY)
    assert model.network.width == 4 and model.network.encoder_blocks == (1,)
    assert model.combine_heads and model.num_heads == 2
    assert model.loss.get_config()["relaxation"] == 0.05
    optimizer = model.optimizer
    assert optimizer.global_clipnorm == 0.01 and optimizer.ema_momentum == 0.5
    rates = [float(optimizer._learning_rate(step)) for step in (0, 1, 6)]
    np.testing.assert_allclose(rates, [1e-2, 1e-2, 1e-7], rtol=1e-3)


def test_the_seed_gives_the_first_weights():
    first, again = recipes.build_model(TINY), recipes.build_model(TINY)
    other = recipes.build_model({**TINY, "seed": 6})
    for a, b in zip(first.get_weights(), again.get_weights()):
        np.testing.assert_array_equal(a, b)
    assert any(np.any(a != b) for a, b in zip(first.get_weights(), other.get_weights()))


# Training.


class Killed(Exception):
    pass


def fail_at_call(function, number):
    calls = []

    def failing(*args):
        calls.append(args)
        if len(calls) == number:
            raise Killed
        return function(*args)

    return failing


def log_rows(folder):
    with open(folder / "log.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert len({len(row) for row in rows}) == 1
    return [dict(zip(rows[0], row)) for row in rows[1:]]


def test_a_killed_training_goes_on_with_the_same_result(tmp_path, photos, monkeypatch):
    whole = recipes.train(TINY, tmp_path / "whole", photos, verbose=0)
    with monkeypatch.context() as context:
        # At the end of the second epoch, between writing its log and its state.
        context.setattr(recipes.os, "replace", fail_at_call(recipes.os.replace, 4))
        with pytest.raises(Killed):
            recipes.train(TINY, tmp_path / "killed", photos, verbose=0)
    assert [row["epoch"] for row in log_rows(tmp_path / "killed")] == ["0", "1"]
    resumed = recipes.train(TINY, tmp_path / "killed", photos, verbose=0)
    assert int(resumed.optimizer.iterations) == 6
    for a, b in zip(whole.get_weights(), resumed.get_weights()):
        np.testing.assert_allclose(a, b, atol=1e-5)
    for a, b in zip(whole.optimizer.variables, resumed.optimizer.variables):
        np.testing.assert_allclose(a, b, atol=1e-5)
    rows, expected = log_rows(tmp_path / "killed"), log_rows(tmp_path / "whole")
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    columns = ["epoch", "loss", "psnr_mean", "usage_0", "usage_1", "usage_2", "seconds"]
    assert list(rows[0]) == columns
    for row, other in zip(rows, expected):
        for name in columns[:-1]:
            assert abs(float(row[name]) - float(other[name])) < 1e-3
        shares = [float(row[f"usage_{k}"]) for k in range(3)]
        assert abs(sum(shares) - 1) < 1e-6


def test_the_result_is_the_running_average(tmp_path, photos):
    model = recipes.train({**TINY, "steps": 2}, tmp_path, photos, verbose=0)
    average = model.optimizer._model_variables_moving_average
    assert len(average) == len(model.trainable_variables)
    for a, b in zip(average, model.trainable_variables):
        np.testing.assert_array_equal(a, b)
    # The saved state is the last step's, with which training would go on.
    last = recipes.build_model(TINY)
    last.load_weights(tmp_path / "state.weights.h5")
    moved = [
        np.abs(a - b).max() for a, b in zip(last.get_weights(), model.get_weights())
    ]
    assert max(moved) > 1e-4


def test_a_finished_training_is_not_trained_further(tmp_path, photos):
    short = {**TINY, "steps": 2}
    first = recipes.train(short, tmp_path, photos, verbose=0)
    state = (tmp_path / "state.weights.h5").read_bytes()
    again = recipes.train(short, tmp_path, photos, verbose=0)
    assert (tmp_path / "state.weights.h5").read_bytes() == state
    for a, b in zip(first.get_weights(), again.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_steps_are_rounded_up_to_whole_epochs(tmp_path, photos):
    recipe = {**TINY, "steps": 3}
    model = recipes.train(recipe, tmp_path, photos, verbose=0)
    assert int(model.optimizer.iterations) == 4


def test_training_lowers_the_loss(tmp_path, photos):
    recipe = {**TINY, "steps": 40, "steps_per_epoch": 20, "seed": 1}
    recipes.train(recipe, tmp_path, photos, verbose=0)
    first, last = (float(row["loss"]) for row in log_rows(tmp_path))
    assert last < first - 0.3


def test_broken_photos_stop_the_training_unless_skipped(tmp_path, photos):
    (tmp_path / "photos" / "2.png").write_bytes(b"")
    with pytest.raises(ValueError, match="1 of 5 photos .*\n.*photos/2.png"):
        recipes.train(TINY, tmp_path / "out", photos, verbose=0)
    model = recipes.train(
        {**TINY, "steps": 2}, tmp_path / "out", photos, skip_broken=True, verbose=0
    )
    assert int(model.optimizer.iterations) == 2
