import csv
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import yaml
from PIL import Image

from keras_mhdeblur import from_preset
from keras_mhdeblur.experimental.dead_heads import DeadHeadReset
from keras_mhdeblur.training import callbacks, recipes, runs
from keras_mhdeblur.training.distribution import make_strategy, num_replicas

TINY = yaml.safe_load(
    (Path(__file__).parents[1] / "resources" / "tiny_recipe.yaml").read_text()
)

# Graphs of a small network are made sooner.
TINY["network"] |= {"encoder_blocks": [0], "decoder_blocks": [0]}

QUIET = {"verbose": 0, "panel_every": 0}


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "photos"
    folder.mkdir()
    for k in range(5):
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3)).astype("uint8"))
        coarse.resize((48, 48), Image.Resampling.BICUBIC).save(folder / f"{k}.png")
    return {"photo_dir": str(folder)}


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
    def train(folder):
        # Heads that are reset also depend on the epoch's metrics and on the step.
        reset = DeadHeadReset(threshold=0.9)
        return runs.train(TINY, tmp_path / folder, photos, callbacks=[reset], **QUIET)

    whole = train("whole")
    with monkeypatch.context() as context:
        # At the end of the second epoch, between writing its log and its state.
        context.setattr(os, "replace", fail_at_call(os.replace, 4))
        with pytest.raises(Killed):
            train("killed")
    assert [row["epoch"] for row in log_rows(tmp_path / "killed")] == ["0", "1"]
    resumed = train("killed")
    assert int(resumed.optimizer.iterations) == 6
    for a, b in zip(whole.get_weights(), resumed.get_weights()):
        np.testing.assert_allclose(a, b, atol=1e-5)
    for a, b in zip(whole.optimizer.variables, resumed.optimizer.variables):
        np.testing.assert_allclose(a, b, atol=1e-5)
    rows, expected = log_rows(tmp_path / "killed"), log_rows(tmp_path / "whole")
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    same = ["loss", "psnr_mean", "reset_heads", "usage_0", "usage_1", "usage_2"]
    assert set(rows[0]) == {
        *("epoch", "seconds", "images_per_second", "non_finite_steps", *same)
    }
    for row, other in zip(rows, expected):
        for name in same:
            assert abs(float(row[name]) - float(other[name])) < 1e-3
        shares = [float(row[f"usage_{k}"]) for k in range(3)]
        assert abs(sum(shares) - 1) < 1e-6


@pytest.mark.slow
def test_a_process_killed_at_any_moment_goes_on_with_the_same_result(tmp_path, photos):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({**TINY, "steps": 12}))
    output = tmp_path / "killed"
    command = [sys.executable, "-m", "keras_mhdeblur", "train", str(recipe)]
    command += ["--data", photos["photo_dir"], "--output", str(output)]
    kills = 0
    while not (output / "preset").exists():
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        seen = len(log_rows(output)) if (output / "log.csv").exists() else 0
        # Into the epoch after the next: what was written is kept, the rest is redone.
        while process.poll() is None and kills < 3:
            if (output / "log.csv").exists() and len(log_rows(output)) > seen:
                time.sleep(0.05 * kills)
                process.kill()
                kills += 1
                break
            time.sleep(0.01)
        process.wait()
    assert kills == 3
    assert [row["epoch"] for row in log_rows(output)] == list("012345")
    whole = runs.train({**TINY, "steps": 12}, tmp_path / "whole", photos, **QUIET)
    result = from_preset(output / "preset")
    for a, b in zip(whole.get_weights(), result.get_weights()):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_the_result_is_the_running_average(tmp_path, photos):
    model = runs.train({**TINY, "steps": 2}, tmp_path, photos, **QUIET)
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


@pytest.mark.slow
def test_a_finished_training_is_not_trained_further(tmp_path, photos):
    short = {**TINY, "steps": 2}
    first = runs.train(short, tmp_path, photos, **QUIET)
    state = (tmp_path / "state.weights.h5").read_bytes()
    again = runs.train(short, tmp_path, photos, **QUIET)
    assert (tmp_path / "state.weights.h5").read_bytes() == state
    for a, b in zip(first.get_weights(), again.get_weights()):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_steps_that_loss_scaling_skips_are_not_made_up_for(tmp_path, photos):
    recipe = {**TINY, "dtype_policy": "mixed_float16"}
    first = runs.train(recipe, tmp_path, photos, **QUIET)
    assert int(first.optimizer.iterations) < 6  # the scale begins too high
    again = runs.train(recipe, tmp_path, photos, **QUIET)
    for a, b in zip(first.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_stages_alike_are_one_stage(tmp_path, photos):
    stage = {"steps": 2, "patch_size": 16, "batch_size": 2}
    one = runs.train(TINY, tmp_path / "one", photos, **QUIET)
    recipe = {**TINY, "progressive": [stage, {**stage, "steps": 4}]}
    two = runs.train(recipe, tmp_path / "two", photos, **QUIET)
    for a, b in zip(one.get_weights(), two.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.slow
def test_steps_are_rounded_up_to_whole_epochs(tmp_path, photos):
    recipe = {**TINY, "steps": 3}
    model = runs.train(recipe, tmp_path, photos, **QUIET)
    assert int(model.optimizer.iterations) == 4


@pytest.mark.slow
def test_training_lowers_the_loss(tmp_path, photos):
    recipe = {**TINY, "steps": 40, "steps_per_epoch": 20, "seed": 1}
    runs.train(recipe, tmp_path, photos, **QUIET)
    first, last = (float(row["loss"]) for row in log_rows(tmp_path))
    assert last < first - 0.3


@pytest.mark.slow
def test_broken_photos_stop_the_training_unless_skipped(tmp_path, photos):
    (tmp_path / "photos" / "2.png").write_bytes(b"")
    with pytest.raises(ValueError, match="1 of 5 photos .*\n.*photos/2.png"):
        runs.train(TINY, tmp_path / "out", photos, **QUIET)
    model = runs.train(
        {**TINY, "steps": 2}, tmp_path / "out", photos, skip_broken=True, **QUIET
    )
    assert int(model.optimizer.iterations) == 2


def test_photos_too_small_for_a_later_stage_are_named_first(tmp_path, photos):
    stages = [
        {"steps": 2, "patch_size": 16, "batch_size": 2},
        {"steps": 4, "patch_size": 64, "batch_size": 1},
    ]
    with pytest.raises(ValueError, match="48x48 is less than the"):
        runs.train({**TINY, "progressive": stages}, tmp_path / "run", photos, **QUIET)
    assert not (tmp_path / "run" / "log.csv").exists()
    stages[0]["batch_size"] = 64
    with pytest.raises(ValueError, match="48x48 is less than the"):
        runs.rehearse({**TINY, "progressive": stages}, photos)


def test_stages_of_growing_patches(tmp_path, photos, monkeypatch):
    stages = [
        {"steps": 2, "patch_size": 16, "batch_size": 4},
        {"steps": 4, "patch_size": 24, "batch_size": 2},
    ]
    recipe = {**TINY, "progressive": stages}
    asked = []
    build = recipes.build_dataset

    def build_and_note(recipe, folders, *, stage, stream_from, **settings):
        asked.append((stage["patch_size"], stage["batch_size"], stream_from))
        return build(recipe, folders, stage=stage, stream_from=stream_from, **settings)

    monkeypatch.setattr(recipes, "build_dataset", build_and_note)
    model = runs.train(recipe, tmp_path, photos, **QUIET)
    # The second stage goes on behind the 2 x 4 patches of the first.
    assert asked == [(16, 4, 0), (24, 2, 4)]
    assert int(model.optimizer.iterations) == 6
    assert [row["epoch"] for row in log_rows(tmp_path)] == ["0", "1", "2"]


def test_initial_weights(tmp_path, photos):
    first = recipes.build_model({**TINY, "seed": 9})
    recipe = {**TINY, "steps": 2, "learning_rate": {"peak": 0.0, "final": 0.0}}
    recipe["optimizer"] = {"name": "TorchAdamW"}
    model = runs.train(recipe, tmp_path, photos, initial_model=first, **QUIET)
    for a, b in zip(first.get_weights(), model.get_weights()):
        np.testing.assert_array_equal(a, b)
    wide = recipes.build_model({**TINY, "network": {**TINY["network"], "width": 8}})
    with pytest.raises(ValueError, match="`initial_model` does not have the network"):
        runs.train(recipe, tmp_path / "b", photos, initial_model=wide, **QUIET)


@pytest.mark.parametrize("targets", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_log_and_pictures(tmp_path, photos, targets):
    recipe = {**TINY, "steps": 4, "data": {**TINY["data"], "num_targets": targets}}
    runs.train(recipe, tmp_path, photos, verbose=0, panel_every=2)
    assert all(float(row["images_per_second"]) > 0 for row in log_rows(tmp_path))
    (picture,) = (tmp_path / "panels").glob("*.png")
    assert picture.name == "epoch_0002.png"
    pixels = np.asarray(Image.open(picture))
    blurry, best, sharp, spread = np.split(pixels[:32], 4, axis=1)
    batch = next(iter(recipes.build_dataset(recipe, photos)))
    label = batch[1] if targets == 1 else batch[1][:, 1]
    for column, expected in zip((blurry, sharp), (batch[0], label)):
        expected = np.concatenate(np.rint(255 * expected.numpy()), axis=0)
        np.testing.assert_array_equal(column, expected)
    assert np.ptp(best) > 0 and (pixels[32:] < 128).any()


@pytest.mark.slow
def test_pictures_of_a_training_that_goes_on_show_the_same_patches(tmp_path, photos):
    pictures = []
    for steps in (4, 8):
        recipe = {**TINY, "steps": steps}
        runs.train(recipe, tmp_path, photos, verbose=0, panel_every=2)
        path = tmp_path / "panels" / f"epoch_000{steps // 2}.png"
        pictures.append(np.asarray(Image.open(path)))
    first, later = pictures
    blurry = first[:32, : first.shape[1] // 4]
    np.testing.assert_array_equal(later[:32, : blurry.shape[1]], blurry)


def test_the_bars_are_in_the_order_of_the_hypotheses(tmp_path, monkeypatch):
    shares = []
    monkeypatch.setattr(
        callbacks, "_bars", lambda usage, width: shares.extend(usage) or _no_bars(width)
    )
    images = np.zeros((2, 1, 8, 8, 3), "float32")
    panel = callbacks.PicturePanel(tmp_path, [images], every=1)
    panel.set_model(lambda blurry: np.zeros((len(blurry), 11, 8, 8, 3), "float32"))
    logs = {f"usage_{k}": k / 55 for k in range(11)}
    panel.on_epoch_end(0, dict(sorted(logs.items())))
    assert shares == list(logs.values())


def _no_bars(width):
    return np.zeros((1, width, 3), "uint8")


def test_a_full_disk_is_found_before_the_first_step(tmp_path, photos, monkeypatch):
    usage = callbacks.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(
        callbacks.shutil, "disk_usage", lambda folder: usage._replace(free=1000)
    )
    with pytest.raises(OSError, match="too little room .* MB are needed"):
        runs.train(TINY, tmp_path, photos, **QUIET)
    assert list(tmp_path.glob("*.h5")) == list(tmp_path.glob("*.csv")) == []


def test_rehearsal(photos):
    plan = runs.rehearse(TINY, photos, steps=1)
    assert plan["parameters"] == recipes.build_model(TINY).count_params()
    assert plan["data"].startswith("5 photos in ")
    assert plan["stages"] == [{"steps": 6, "patch_size": 16, "batch_size": 2}]
    assert plan["seconds"] == pytest.approx(6 * plan["step"])
    assert plan["first_step"] > 0 and plan["peak_memory_mb"] > 100


def poisoned(build, bad):
    """Streams in which the batches of these numbers have a NaN in their labels."""

    def build_and_poison(*args, stream_from, **settings):
        def poison(index, batch):
            blurry, sharp = batch
            nan = tf.reduce_any(index + stream_from == tf.constant(list(bad), tf.int64))
            return blurry, tf.where(nan, np.nan, sharp)

        return build(*args, stream_from=stream_from, **settings).enumerate().map(poison)

    return build_and_poison


def test_a_loss_that_is_not_finite_is_counted(tmp_path, photos, monkeypatch):
    build = poisoned(recipes.build_dataset, [2])
    monkeypatch.setattr(recipes, "build_dataset", build)
    model = runs.train(TINY, tmp_path, photos, **QUIET)
    rows = log_rows(tmp_path)
    assert [row["non_finite_steps"] for row in rows] == ["0", "1", "0"]
    assert all(np.isfinite(float(row["loss"])) for row in rows)
    assert all(np.isfinite(weights).all() for weights in model.get_weights())


def test_many_of_them_end_the_training(tmp_path, photos, monkeypatch):
    recipe = {**TINY, "steps": 60, "steps_per_epoch": 30}
    build = poisoned(recipes.build_dataset, range(30, 60))
    monkeypatch.setattr(recipes, "build_dataset", build)
    with pytest.raises(FloatingPointError, match="20 steps in a row"):
        runs.train(recipe, tmp_path, photos, **QUIET)
    kept = recipes.build_model(recipe)
    kept.load_weights(tmp_path / "state.weights.h5")
    assert int(kept.optimizer.iterations) == 30


@pytest.mark.slow
@pytest.mark.parametrize("on_device", [False, True])
def test_two_replicas_train_what_one_device_trains(tmp_path, photos, on_device):
    strategy = make_strategy("mirrored")
    assert num_replicas(strategy) == 2
    one = runs.train(TINY, tmp_path / "one", photos, **QUIET)
    recipe = {**TINY, "data": {**TINY["data"], "on_device": on_device}}
    two = runs.train(
        recipe, tmp_path / "two", photos, strategy=strategy, verbose=0, panel_every=3
    )
    for a, b in zip(one.get_weights(), two.get_weights()):
        np.testing.assert_allclose(a, b, atol=1e-5)
    rows, expected = log_rows(tmp_path / "two"), log_rows(tmp_path / "one")
    for row, other in zip(rows, expected):
        assert abs(float(row["loss"]) - float(other["loss"])) < 1e-4
        assert row["usage_1"] == other["usage_1"]
    assert (tmp_path / "two" / "panels" / "epoch_0003.png").exists()
    with pytest.raises(ValueError, match="multiple of the 2 replicas"):
        odd = {**TINY, "data": {**TINY["data"], "batch_size": 3}}
        runs.train(odd, tmp_path / "odd", photos, strategy=strategy, **QUIET)
