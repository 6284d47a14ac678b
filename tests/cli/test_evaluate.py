"""`mhdeblur evaluate`."""

import csv
import json
import sys

import keras
import numpy as np
import pytest
from PIL import Image

from keras_mhdeblur import Deblurrer, cli
from keras_mhdeblur.data import MotionBlur
from keras_mhdeblur.networks import NAFNet
from keras_mhdeblur.presets import hub
from keras_mhdeblur.training import recipes


def adding(*offsets, **options):
    """A model whose heads add these offsets, in grey levels, to the input."""
    network = NAFNet(4, (0,), 1, (0,), num_heads=len(offsets))
    kernel, bias = network.get_layer("heads").weights
    kernel.assign(0 * kernel)
    bias.assign(keras.ops.convert_to_tensor(np.repeat(offsets, 3) / 255))
    return Deblurrer(network, **options)


@pytest.mark.slow
def test_rows_of_the_command_average_to_its_scores(tmp_path, capfd):
    for name, heads in (("two", (8, -4)), ("one", (6,))):
        adding(*heads).save_to_preset(tmp_path / name)
    rng = np.random.default_rng(0)
    for folder in ("blur", "sharp"):
        (tmp_path / folder / "b").mkdir(parents=True)
        for name in ("b/1.png", "b-2.png", "a.png"):
            pixels = rng.integers(100, 140, (16, 16, 3), "uint8")
            Image.fromarray(pixels).save(tmp_path / folder / name)

    def command(*arguments):
        pairs = "--pairs", tmp_path / "blur", tmp_path / "sharp"
        options = "--preset", tmp_path / "two", "--baseline", tmp_path / "one"
        arguments = "evaluate", *options, *pairs, *arguments
        return cli.main([str(argument) for argument in arguments])

    json_path, csv_path = tmp_path / "scores.json", tmp_path / "scores.csv"
    assert command("--output", json_path) == 0
    assert command("--output", csv_path) == 0
    scores = json.loads(json_path.read_text())
    with open(csv_path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == ["a.png", "b/1.png", "b-2.png"]
    for prefix, of in (("", scores), ("baseline_", scores["baseline"])):
        for image in ("mean", "medoid", "single", "overall"):
            for key in ("psnr", "ssim", "ssim_3d", "ssim_luma"):
                values = [float(row[f"{prefix}{image}_{key}"]) for row in rows]
                np.testing.assert_allclose(np.mean(values), of[image][key], atol=1e-4)
        for name, value, share in zip(
            of["hypotheses"], of["psnr_per_hypothesis"], of["usage"]
        ):
            values = [float(row[f"{prefix}psnr_{name}"]) for row in rows]
            np.testing.assert_allclose(np.mean(values), value, atol=1e-4)
            winners = [row[f"{prefix}winner"] for row in rows]
            np.testing.assert_allclose(winners.count(name) / 3, share, atol=1e-4)
    table = capfd.readouterr().out
    line = next(line for line in table.splitlines() if "baseline one head" in line)
    assert f"{scores['baseline']['mean']['psnr']:.2f}" in line

    assert command("--protocol", "paper", "--benchmark", "hide") == 0
    assert "SSIM 3-D" in capfd.readouterr().out
    for arguments, message in (
        (("--protocol", "paper"), "gopro, hide"),
        (("--output", tmp_path / "scores.txt"), ".json or .csv"),
        (("--output", tmp_path / "no" / "scores.csv"), "no folder"),
        (("--baseline", "nothing"), "--baseline nothing: Unknown preset"),
    ):
        assert command(*arguments) == 2
        assert message in capfd.readouterr().err
    (tmp_path / "blur" / "a.png").write_bytes(b"")
    assert command() == 2
    error = capfd.readouterr().err
    assert "1 of 3 pairs cannot be used:" in error and "a.png" in error


def evaluated_photos(folder, preset):
    return cli.main(["evaluate", "--photos", str(folder), "--preset", str(preset)])


@pytest.mark.parametrize("data", ["benchmark_folder, benchmark_name: gopro",
                                  "paired_folder", "prepared_folder"])  # fmt: skip
def test_photos_need_a_recipe_that_blurs_them(data, tmp_path, capfd):
    folder = tmp_path / "preset"
    adding(8, -4).save_to_preset(folder, recipe=recipe_file(tmp_path, data))
    assert evaluated_photos(tmp_path, folder) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert f"Received: data.name='{data.split(',')[0]}'" in line


@pytest.mark.slow
def test_photos_are_blurred_by_the_recipe_of_a_preset_on_the_hub(
    tmp_path, monkeypatch, capfd
):
    folder = tmp_path / "download"
    recipe = recipe_file(tmp_path, "synthesized_folder, max_path: 0")
    adding(8, -4).save_to_preset(folder, recipe=recipe)
    monkeypatch.setattr(hub, "download", {"hf://me/small": folder}.get)
    (tmp_path / "photos").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (264, 264, 3), "uint8")
    Image.fromarray(pixels).save(tmp_path / "photos" / "a.png")
    assert evaluated_photos(tmp_path / "photos", "hf://me/small") == 0
    assert "hf://me/small, 4 images" in capfd.readouterr().out


def recipe_file(folder, data):
    path = folder / "of_the_training.yaml"
    path.write_text(
        f"{{seed: 0, network: {{name: NAFNet}}, data: {{name: {data}}}, steps: 2, "
        "steps_per_epoch: 2, optimizer: {name: AdamW}, learning_rate: {peak: 1e-3}}"
    )
    return path


def test_realblur_without_opencv_is_refused_before_the_work(
    tmp_path, monkeypatch, capfd
):
    adding(8, -4).save_to_preset(tmp_path)
    monkeypatch.setitem(sys.modules, "cv2", None)
    arguments = "--data", tmp_path, "--benchmark", "realblur_j", "--preset", tmp_path
    assert cli.main(["evaluate", *map(str, arguments)]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "pip install keras-mhdeblur[realblur]" in line


def test_photos_are_blurred_without_a_recipe_too(tmp_path, monkeypatch, capfd):
    """As `mhdeblur synthesize photos` blurs them by default."""
    adding(8, -4).save_to_preset(tmp_path / "bare")
    blurs = []

    def pairs(recipe, folder):
        blurs.append((recipes.recipe_blur(recipe), folder))
        image = np.full((1, 16, 16, 3), 0.5, "float32")
        return [(image, image)]

    monkeypatch.setattr(recipes, "evaluation_pairs", pairs)
    assert evaluated_photos(tmp_path, tmp_path / "bare") == 0
    assert blurs == [(MotionBlur(), str(tmp_path))]
    out, err = capfd.readouterr()
    assert err.startswith(
        f"mhdeblur: {tmp_path / 'bare'} has no recipe; the photos get the default "
        "motion blur of `mhdeblur synthesize photos`\n"
    )
    assert "1 images" in out
    command = ["synthesize", "photos", "a.jpg", "-o", "b"]
    options = vars(cli._parser().parse_args(command))
    for name in ("max_path", "max_noise", "jpeg_quality"):
        assert options[name] == getattr(MotionBlur(), name)


def test_named_set(tmp_path, capfd):
    """Known answers: the input is 10 levels too dark, the two heads add 8 and -4."""
    adding(8, -4, combine_heads=False, select=(0, 0)).save_to_preset(tmp_path / "two")
    pixels = np.full((32, 32, 3), 100, "uint8")
    pixels += np.arange(32, dtype="uint8")[:, None, None]
    for folder, offset in (("blur", 0), ("sharp", 10), ("darker", -10)):
        (tmp_path / folder).mkdir()
        for name in ("1.png", "2.png"):
            moved = (pixels.astype(int) + offset).astype("uint8")
            Image.fromarray(moved).save(tmp_path / folder / name)
    (tmp_path / "set.yaml").write_text(
        "pairs:\n"
        "- {kind: up, blurry: blur, sharp: sharp}\n"
        f"- {{kind: down, blurry: blur, sharp: darker, chose: ['{tmp_path}/two']}}\n"
    )

    def command(*arguments):
        preset = "--preset", tmp_path / "two"
        arguments = "evaluate", *preset, "--set", tmp_path / "set.yaml", *arguments
        return cli.main([str(argument) for argument in arguments])

    output = tmp_path / "scores.json"
    assert command("--data", tmp_path, "--output", output) == 0
    table = capfd.readouterr().out
    assert "down*" in table and "up " in table and "* Some of these" in table
    kinds = json.loads(output.read_text())["kinds"]

    def gain(left):
        return 20 * np.log10(10 / left)

    assert kinds["up"]["selected"] == pytest.approx(gain(2), abs=0.01)
    assert kinds["up"]["overall"] == pytest.approx(gain(2), abs=0.01)
    assert kinds["down"]["selected"] == pytest.approx(gain(18), abs=0.01)
    assert kinds["down"]["single"] == pytest.approx(gain(6), abs=0.01)
    assert [kinds[k]["selected_worse"] for k in ("up", "down", "all")] == [0, 2, 2]
    assert [kinds[k]["marked"] for k in ("up", "down", "all")] == [False, True, True]
    assert command("--data", tmp_path, "--output", tmp_path / "scores.csv") == 0
    with open(tmp_path / "scores.csv", newline="") as file:
        assert [row["kind"] for row in csv.DictReader(file)] == ["up", "down", "all"]
    capfd.readouterr()
    assert command("--data", tmp_path / "blur") == 2
    assert "blur: No such file" in capfd.readouterr().err
    assert command("--pairs", tmp_path / "blur", tmp_path / "sharp") == 2
    assert "--set needs --data" in capfd.readouterr().err
