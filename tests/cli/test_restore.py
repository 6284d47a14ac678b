import argparse
import ast
import json
import os
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from keras_mhdeblur import Deblurrer, cli
from keras_mhdeblur.cli import common
from keras_mhdeblur.cli.photo_paths import find_photos, plan_outputs
from keras_mhdeblur.networks import NAFNet
from keras_mhdeblur.photos import Photo, read_image, write_image


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    """A preset whose heads add 0 and 0.2 to the input."""
    network = NAFNet(
        width=4, encoder_blocks=(0,), middle_blocks=1, decoder_blocks=(0,), num_heads=2
    )
    kernel, bias = network.get_layer("heads").weights
    kernel.assign(0 * kernel)
    bias.assign(keras.ops.convert_to_tensor([0.0] * 3 + [0.2] * 3))
    folder = tmp_path_factory.mktemp("presets") / "tiny"
    Deblurrer(network).save_to_preset(folder, litert=True)
    return str(folder)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, size in (("a.jpg", (20, 12)), ("b.png", (9, 13))):
        Image.new("RGB", size, (51, 51, 51)).save(folder / name)
    (folder / "notes.txt").write_text("no photo")
    (folder / "._a.jpg").write_bytes(b"a file manager's shadow")
    return folder


def run(*arguments):
    return cli.main([str(argument) for argument in arguments])


def restoring(*inputs, to, preset):
    """Arguments that restore without guard: no blur explains what the preset does."""
    return ("restore", "--no-guard", *inputs, "-o", to, "--preset", preset)


def wrong(*arguments):
    """Exit code of arguments that argparse refuses."""
    with pytest.raises(SystemExit) as caught:
        run(*arguments)
    return caught.value.code


def level(path):
    """The one grey level of a picture."""
    (value,) = np.unique(np.asarray(Image.open(path)))
    return int(value)


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_restores_a_folder(photos, preset, tmp_path, capfd):
    output = tmp_path / "new" / "restored"
    assert run(*restoring(photos, to=output, preset=preset)) == 0
    assert files(output) == ["a.png", "b.png"]
    # The mean of the heads: 51 + 0.1 * 255 = 76.5.
    assert level(output / "b.png") in (76, 77)
    assert Image.open(output / "b.png").size == (9, 13)
    out, err = capfd.readouterr()
    assert out == "" and "1/2  a.jpg" in err and "2/2  b.png" in err
    assert err.splitlines()[-1].startswith(f"Restored 2 of 2 photos to {output} in ")


def test_what_the_guard_keeps_is_said(photos, preset, tmp_path, capfd):
    # What the preset makes of one grey cannot have been blurred.
    output = tmp_path / "out"
    assert run("restore", photos, "--output", output, "--preset", preset) == 0
    assert level(output / "b.png") == 51
    lines = capfd.readouterr().err.splitlines()
    notes = [line for line in lines if line.startswith("  note ")]
    assert notes == [
        f"  note    {photos / name}: 100 % of the image was left unchanged by the "
        "artefact guard (--no-guard disables it)"
        for name in ("a.jpg", "b.png")
    ]


def test_hypotheses_and_selection(photos, preset, tmp_path):
    command = restoring(photos / "b.png", to=tmp_path / "out", preset=preset)
    assert run(*command, "--hypotheses", "--select", "1,1") == 0
    assert files(tmp_path / "out") == [
        "b.png",
        "b/b_0+1.png",
        "b/b_0.png",
        "b/b_1.png",
        "b/b_uncertainty.png",
    ]
    assert level(tmp_path / "out" / "b.png") == 102
    assert level(tmp_path / "out" / "b" / "b_0.png") == 51
    assert level(tmp_path / "out" / "b" / "b_1.png") == 102


@pytest.mark.parametrize("tile", ["32", "auto", "none"])
def test_tile(photos, preset, tmp_path, tile, capfd):
    Image.new("RGB", (90, 70), (51, 51, 51)).save(photos / "b.png")
    command = restoring(photos / "b.png", to=tmp_path / "out", preset=preset)
    assert run(*command, "--tile", tile, "--select", "0,0") == 0
    assert level(tmp_path / "out" / "b.png") == 51
    said = "b.png: 0.0063 megapixels in 20 tiles\n" in capfd.readouterr().err
    assert said == (tile == "32")


def test_photos_above_the_memory_limit_are_kept_on_disk(
    photos, preset, tmp_path, capfd
):
    pytest.importorskip("pyvips")
    Image.new("RGB", (300, 290), (51, 51, 51)).save(photos / "b.png")
    command = restoring(photos / "b.png", to=tmp_path / "out", preset=preset)
    options = ("--memory-limit-mb", "1", "--tile", "256", "--select", "0,0")
    assert run(*command, *options) == 0
    assert level(tmp_path / "out" / "b.png") == 51
    said = "b.png: 0.087 megapixels in 4 tiles, on disk\n"
    assert said in capfd.readouterr().err


def test_broken_files_are_named_and_the_others_restored(
    photos, preset, tmp_path, capfd
):
    (photos / "zero.png").write_bytes(b"")
    (photos / "cut.jpg").write_bytes((photos / "a.jpg").read_bytes()[:300])
    missing = tmp_path / "missing.jpg"
    output = tmp_path / "out"
    assert run(*restoring(photos, missing, to=output, preset=preset)) == 1
    assert files(output) == ["a.png", "b.png"]
    err = capfd.readouterr().err
    assert f"mhdeblur: {photos / 'zero.png'}: it is empty (0 bytes)\n" in err
    assert f"mhdeblur: {photos / 'cut.jpg'}: it is " in err
    assert f"mhdeblur: {missing}: there is no such file" in err
    *_, summary, first, second, third = err.splitlines()
    assert summary.startswith(f"Restored 2 of 5 photos to {output} in ")
    assert summary.endswith(" s; 3 failed:")
    assert first == f"  failed  {missing}: there is no such file or folder"
    assert second.startswith(f"  failed  {photos / 'cut.jpg'}: it is ")
    assert third == f"  failed  {photos / 'zero.png'}: it is empty (0 bytes)"


def test_what_is_not_kept_is_said(photos, preset, tmp_path, capfd):
    Image.new("CMYK", (16, 16)).save(photos / "c.jpg")
    assert run(*restoring(photos, to=tmp_path / "out", preset=preset)) == 0
    *_, summary, note = capfd.readouterr().err.splitlines()
    assert summary.endswith(" s:")
    assert note.startswith(f"  note    {photos / 'c.jpg'}: CMYK is converted to RGB")


@pytest.mark.parametrize(
    "suffix, image_format", [("jpg", "JPEG"), ("webp", "WEBP"), ("tiff", "TIFF")]
)
def test_output_format(photos, preset, tmp_path, capfd, suffix, image_format):
    Image.new("RGBA", (8, 8)).save(photos / "c.png")
    command = restoring(photos, to=tmp_path / "out", preset=preset)
    jpg = suffix == "jpg"
    assert run(*command, "--output-format", suffix, "--hypotheses") == jpg
    names = [name for name in files(tmp_path / "out") if "/" not in name]
    assert names == [f"{stem}.{suffix}" for stem in ("ab" if jpg else "abc")]
    assert Image.open(tmp_path / "out" / names[0]).format == image_format
    assert (tmp_path / "out" / "b" / f"b_0+1.{suffix}").exists()
    assert ("it has an alpha channel" in capfd.readouterr().err) == jpg


def test_a_photo_becomes_the_file_that_is_named(photos, preset, tmp_path, capfd):
    sharp = tmp_path / "new" / "sharp.JPG"
    assert run(*restoring(photos / "b.png", to=sharp, preset=preset)) == 0
    assert files(tmp_path / "new") == ["sharp.JPG"] and level(sharp) in (76, 77)
    with Image.open(sharp) as image:
        assert image.format == "JPEG" and image.size == (9, 13)
    error = capfd.readouterr().err
    assert f"Restored 1 of 1 photos to {sharp}" in error and "written as" not in error
    # A folder may have such a name, too.
    folder = tmp_path / "old.png"
    folder.mkdir()
    photo = photos / "b.png"
    assert run(*restoring(photo, to=folder, preset=preset)) == 0
    assert files(folder) == ["b.png"]
    assert run(*restoring(photo, to=photo, preset=preset)) == 2
    assert "would be overwritten" in capfd.readouterr().err


@pytest.mark.parametrize("inputs", [["."], ["a.jpg", "b.png"], ["*.*g"]])
def test_several_photos_do_not_become_one_file(photos, preset, tmp_path, capfd, inputs):
    sharp = tmp_path / "sharp.png"
    inputs = [photos / item for item in inputs]
    assert run(*restoring(*inputs, to=sharp, preset=preset)) == 2
    assert f"--output {sharp} is a file: " in capfd.readouterr().err
    assert not sharp.exists()


def test_a_named_file_has_a_format(photos, preset, tmp_path, capfd):
    sharp = tmp_path / "sharp.png"
    arguments = restoring(photos / "b.png", to=sharp, preset=preset)
    assert run(*arguments, "--output-format", "jpg") == 2
    assert "--output-format is for folders" in capfd.readouterr().err


@pytest.mark.parametrize("name", ["sharp.pdf", "sharp.SVG", "sharp.mp4", "a.heic"])
def test_formats_not_written_are_refused(photos, preset, tmp_path, capfd, name):
    assert run(*restoring(photos / "b.png", to=tmp_path / name, preset=preset)) == 2
    suffix = Path(name).suffix
    assert f"no photo is written as {suffix}; name a " in capfd.readouterr().err
    assert not (tmp_path / name).exists()


def test_existing_outputs_are_skipped(photos, preset, tmp_path, capfd):
    command = restoring(photos, to=tmp_path / "out", preset=preset)
    command += ("--skip-existing",)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").write_bytes(b"done before")
    assert run(*command) == 0
    assert (tmp_path / "out" / "a.png").read_bytes() == b"done before"
    assert level(tmp_path / "out" / "b.png") in (76, 77)
    assert "Restored 1 of 2 photos" in capfd.readouterr().err
    # Nothing is left to do, and no model is loaded for it.
    assert run(*command[:-2], "no_such_preset", "--skip-existing") == 0
    assert capfd.readouterr().err.endswith(" s; 2 already there.\n")


def test_linear_light(preset, tmp_path):
    # sRGB of 0, 0.5 and 1; with the head's 0.2, of 0.2, 0.7 and 1.
    light, brighter = ([[0, 0.21404, 1]], [[0.03310, 0.44799, 1]])
    pixels = np.repeat(np.array(light, "float32")[..., None], 3, axis=-1)
    for name, gray in (("colour.png", False), ("gray.png", True)):
        write_image(tmp_path / name, Photo(pixels, depth=16, gray=gray))
    inputs = (tmp_path / "colour.png", tmp_path / "gray.png")
    command = ("restore", "--no-guard", *inputs, "--preset", preset, "--linear")
    for head, expected in ((0, light), (1, brighter)):
        out = tmp_path / str(head)
        assert run(*command, "-o", out, "--select", f"{head},{head}") == 0
        for name in ("colour.png", "gray.png"):
            photo = read_image(out / name)
            assert photo.depth == 16
            np.testing.assert_allclose(photo.pixels[..., 1], expected, atol=1e-4)


def test_patterns(photos, preset, tmp_path):
    deep = photos / "deep" / "er"
    deep.mkdir(parents=True)
    for name in ("c.jpg", ".hidden.jpg"):
        Image.new("L", (4, 4)).save(deep / name)

    def found(pattern):
        matches, failures = find_photos([f"{photos}/{pattern}"], recursive=False)
        return [name.as_posix() for _, name in matches], failures

    assert found("*.jpg") == (["a.jpg"], [])
    assert found("[ab].*") == (["a.jpg", "b.png"], [])
    assert found("**/*.jpg") == (["a.jpg", "deep/er/c.jpg"], [])
    assert found("d*/e?") == (["deep/er/c.jpg"], [])
    for nothing in ("x*.jpg", "a**"):
        names, (failure,) = found(nothing)
        assert not names and failure.endswith("there is no such file or folder")
    _, failures = found("a.jpgg")
    assert failures[0].endswith(
        "there is no such file or folder. Did you mean 'a.jpg'?"
    )
    # A file of that name is no pattern.
    Image.new("L", (4, 4)).save(photos / "[ab].png")
    assert found("[ab].png") == (["[ab].png"], [])
    command = ("restore", "--no-guard", photos / "**" / "*.jpg", "-o", tmp_path / "out")
    assert run(*command, "--preset", preset) == 0
    assert files(tmp_path / "out") == ["a.png", "deep/er/c.png"]


def test_equal_names_of_two_folders(photos, preset, tmp_path, capfd):
    other = tmp_path / "other"
    other.mkdir()
    Image.new("RGB", (9, 13), (102, 102, 102)).save(other / "a.jpg")
    command = restoring(photos, other, to=tmp_path / "out", preset=preset)
    assert run(*command, "--select", "0,0") == 0
    assert files(tmp_path / "out") == ["a_jpg.png", "a_jpg_2.png", "b.png"]
    assert level(tmp_path / "out" / "a_jpg.png") == 51
    assert level(tmp_path / "out" / "a_jpg_2.png") == 102
    *_, first, second = capfd.readouterr().err.splitlines()
    assert first == f"  note    {photos / 'a.jpg'}: is written as a_jpg.png"
    assert second == f"  note    {other / 'a.jpg'}: is written as a_jpg_2.png"


def test_hypotheses_do_not_overwrite_restored_photos(photos, preset, tmp_path, capfd):
    command = (
        "restore",
        "--no-guard",
        "--preset",
        preset,
        "--recursive",
        "--hypotheses",
    )
    assert run(*command, photos, "-o", tmp_path / "once") == 0
    assert run(*command, tmp_path / "once", "-o", tmp_path / "twice") == 2
    assert "where other photos are" in capfd.readouterr().err
    assert not (tmp_path / "twice").exists()


def test_the_output_is_not_searched(photos, preset):
    command = restoring(photos, "-r", to=photos / "out", preset=preset)
    for _ in range(2):
        assert run(*command) == 0
        assert files(photos / "out") == ["a.png", "b.png"]


def test_too_many_pixels(photos, preset, tmp_path, capfd):
    Image.new("1", (1100, 1000)).save(photos / "c.png")
    command = restoring(photos, to=tmp_path / "out", preset=preset)
    assert run(*command, "--max-megapixels", "1") == 1
    assert files(tmp_path / "out") == ["a.png", "b.png"]
    assert "c.png: it has too many pixels" in capfd.readouterr().err


def test_recursive(photos, preset, tmp_path):
    (photos / "deep").mkdir()
    Image.new("L", (4, 4)).save(photos / "deep" / "a.jpg")
    command = ("restore", "--no-guard", photos, "--preset", preset)
    assert run(*command, "-o", tmp_path / "flat") == 0
    assert files(tmp_path / "flat") == ["a.png", "b.png"]
    assert run(*command, "-o", tmp_path / "out", "--recursive") == 0
    assert files(tmp_path / "out") == ["a.png", "b.png", "deep/a.png"]


def test_photos_are_never_overwritten(photos, preset, capfd):
    before = (photos / "b.png").read_bytes()
    assert run(*restoring(photos, to=photos, preset=preset)) == 2
    assert "choose another --output" in capfd.readouterr().err
    assert (photos / "b.png").read_bytes() == before
    assert not (photos / "a.png").exists()


def test_hypotheses_never_overwrite_photos(photos, preset, capfd):
    (photos / "a").mkdir()
    photo = photos / "a" / "a_0.png"
    Image.new("RGB", (8, 8)).save(photo)
    before = photo.read_bytes()
    command = restoring(photos / "a.jpg", photo, to=photos, preset=preset)
    assert run(*command, "--hypotheses") == 2
    assert "choose another --output" in capfd.readouterr().err
    assert photo.read_bytes() == before


def test_a_name_that_is_too_long_is_named(photos, tmp_path):
    long = tmp_path / (300 * "x")
    found, (failure,) = find_photos([photos / "a.jpg", long], recursive=False)
    assert len(found) == 1 and "there is no such file" in failure


def test_the_same_photo_twice_is_one(photos):
    found, failures = find_photos([photos, photos / "a.jpg"], recursive=False)
    assert [path.name for path, _ in found] == ["a.jpg", "b.png"] and not failures


def test_output_names_are_unique():
    names = ["a.jpg", "a.png", "b.jpg", "A.JPG", "a_jpg.tif", "sub/b.png", "c"]
    outputs = [str(name) for name in plan_outputs([Path(name) for name in names])]
    assert outputs == [
        "a_jpg_2.png",
        "a_png.png",
        "b.png",
        "A_jpg_3.png",
        "a_jpg.png",
        "sub/b.png",
        "c.png",
    ]


def test_folder_without_photos(tmp_path, capfd):
    (tmp_path / "empty").mkdir()
    assert run("restore", "--no-guard", tmp_path / "empty", "-o", tmp_path / "out") == 1
    assert "no photos" in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


def test_output_that_is_a_file(photos, capfd):
    assert (
        run("restore", "--no-guard", photos / "b.png", "-o", photos / "notes.txt") == 2
    )
    assert "--output" in capfd.readouterr().err


def test_unknown_preset_is_one_line(photos, tmp_path, capfd):
    command = (
        "restore",
        "--no-guard",
        photos,
        "-o",
        tmp_path / "out",
        "--preset",
        "no_such_preset",
    )
    assert run(*command) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("mhdeblur: error: ") and "no_such_preset" in line


def test_long_messages_end_in_whole_words():
    words = " ".join(["preset"] * 100)
    text = common.one_line(ValueError(words))
    assert text == " ".join(["preset"] * 42) + " ..." and len(text) <= 300
    assert common.one_line(ValueError(words[:300])) == words[:300]


def test_heads_that_do_not_exist(photos, preset, tmp_path, capfd):
    command = restoring(photos, to=tmp_path / "out", preset=preset)
    assert run(*command, "--select", "0,2") == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("mhdeblur: error: --select: ") and "0 to 1" in line


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("sharpen",),
        ("restore", "--no-guard", "a.jpg"),
        ("restore", "--no-guard", "--output", "out"),
        ("restore", "--no-guard", "a.jpg", "-o", "out", "--select", "best"),
        ("restore", "--no-guard", "a.jpg", "-o", "out", "--select", "1,2,3"),
        ("restore", "--no-guard", "a.jpg", "-o", "out", "--tile", "0"),
        ("restore", "--no-guard", "a.jpg", "-o", "out", "--memory-limit-mb", "-1"),
    ],
)
def test_wrong_usage_exits_with_two(arguments, capfd):
    assert wrong(*arguments) == 2
    assert "mhdeblur" in capfd.readouterr().err


@pytest.mark.parametrize("arguments", [("a.jpg", "--outptu", "x"), ("--outptu=x",)])
def test_a_mistyped_option_is_named(arguments, capfd):
    assert wrong("restore", *arguments) == 2
    assert "--outptu. Did you mean '--output'?" in capfd.readouterr().err


def test_presets_lists_the_built_in_ones(capfd):
    from keras_mhdeblur import presets

    assert run("presets") == 0
    out = capfd.readouterr().out
    names = [line.split()[0] for line in out.splitlines() if not line.startswith(" ")]
    assert names == list(presets.list_presets())


def test_only_the_standard_library_is_imported_before_it_is_needed():
    imported = set()
    for file in Path(cli.__file__).parent.glob("*.py"):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module)
    light = ("keras_mhdeblur.cli", "keras_mhdeblur.utils.atomic")
    others = {name for name in imported if not name.startswith(light)}
    assert "argparse" in others and others <= sys.stdlib_module_names


def test_import_noise_is_hidden_unless_the_import_fails(capfd):
    with common.quiet_import():
        os.write(2, b"chatter")
    os.write(2, b"heard\n")
    assert capfd.readouterr().err == "heard\n"
    with pytest.raises(ImportError), common.quiet_import():
        os.write(2, b"library missing\n")
        raise ImportError
    assert capfd.readouterr().err == "library missing\n"


RECIPE = """
seed: 1
network: {name: NAFNet, width: 4, encoder_blocks: [0], decoder_blocks: [0]}
data: {name: synthesized_folder, patch_size: 16, batch_size: 2, max_path: 2.0,
  num_frames: 4}
optimizer: {name: TorchAdamW, use_ema: true}
learning_rate: {peak: 0.001}
steps: 4
steps_per_epoch: 2
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def sharp_photos(tmp_path):
    folder = tmp_path / "sharp_photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        pixels = rng.integers(0, 256, (280, 280, 3), "uint8")
        Image.fromarray(pixels).save(folder / name)
    return folder


@pytest.mark.slow
def test_train_then_restore_and_evaluate(recipe, sharp_photos, photos, tmp_path, capfd):
    output = tmp_path / "run"
    assert run("train", recipe, "--data", sharp_photos, "--output", output) == 0
    trained = output / "preset"
    assert (trained / "recipe.yaml").read_text() == RECIPE
    steps = (output / "log.csv").read_text().splitlines()
    assert len(steps) == 3
    # A second run finds nothing left to do.
    assert run("train", recipe, "--data", sharp_photos, "--output", output) == 0
    assert (output / "log.csv").read_text().splitlines() == steps

    restored = tmp_path / "restored"
    command = (
        "restore",
        "--no-guard",
        photos,
        "--output",
        restored,
        "--preset",
        trained,
    )
    assert run(*command, "--engine", "keras") == 0
    capfd.readouterr()
    scores = tmp_path / "scores.json"
    command = ("evaluate", "--preset", trained, "--photos", sharp_photos)
    assert run(*command, "--output", scores) == 0
    scores = json.loads(scores.read_text())
    assert scores["images"] == 8
    line = next(
        line for line in capfd.readouterr().out.splitlines() if "blurry input" in line
    )
    assert f"{scores['input']['psnr']:.2f}" in line


def test_evaluate_pairs(preset, photos, tmp_path, capfd):
    # Heads add 0 and 0.2 to pictures that are sharp already.
    sharp = tmp_path / "sharp"
    sharp.mkdir()
    for name in ("a.png", "b.jpg"):
        Image.new("RGB", (14, 12), (51, 51, 51)).save(sharp / name)
    assert run("evaluate", "--preset", preset, "--pairs", sharp, sharp) == 0
    table = capfd.readouterr().out
    assert "2 images" in table
    best = next(line for line in table.splitlines() if "oracle" in line)
    assert best.split()[2:4] == ["100.00", "+0.00"]
    assert run("evaluate", "--preset", preset, "--pairs", photos, photos) == 2
    assert "11 x 11" in capfd.readouterr().err


def test_training_on_a_broken_file_names_it(recipe, sharp_photos, tmp_path, capfd):
    (sharp_photos / "broken.png").write_bytes(b"no picture")
    command = ("train", recipe, "--data", sharp_photos, "--output", tmp_path / "run")
    assert run(*command) == 2
    error = capfd.readouterr().err
    assert "broken.png" in error and "--skip-broken" in error


@pytest.mark.slow
def test_training_without_the_broken_files(recipe, sharp_photos, tmp_path):
    (sharp_photos / "broken.png").write_bytes(b"no picture")
    command = ("train", recipe, "--data", sharp_photos, "--output", tmp_path / "run")
    assert run(*command, "--skip-broken") == 0


@pytest.mark.parametrize(
    "imported, given, expected", [(False, None, "1"), (False, "0", "0"), (True, "", "")]
)
def test_training_uses_onednn(recipe, tmp_path, monkeypatch, imported, given, expected):
    """Where TensorFlow is still to be imported, and nobody decided otherwise."""
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", given or "")
    if given is None:
        monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS")
    if not imported:
        monkeypatch.delitem(sys.modules, "tensorflow")
    command = ("train", recipe, "--data", tmp_path, "--output", tmp_path / "run")
    assert run(*command, "--set", "nothing.here=1") == 2
    assert os.environ["TF_ENABLE_ONEDNN_OPTS"] == expected


@pytest.mark.parametrize(
    "change, message",
    [
        ("optimizer.lr=1", "lr"),
        ("network.name=NAFNett", "NAFNett"),
        ("steps", "steps"),
        ("nothing.here=1", "nothing.here"),
    ],
)
def test_wrong_recipe_settings(recipe, sharp_photos, tmp_path, capfd, change, message):
    command = ("train", recipe, "--data", sharp_photos, "--output", tmp_path / "run")
    assert run(*command, "--set", change) == 2
    assert message in capfd.readouterr().err


def test_no_such_recipe(sharp_photos, tmp_path, capfd):
    command = ("train", "none.yaml", "--data", sharp_photos, "-o", tmp_path)
    assert run(*command) == 2
    assert "none.yaml" in capfd.readouterr().err


def test_evaluate_a_partial_benchmark(tmp_path, preset, capfd):
    rng = np.random.default_rng(0)
    for name in ("input", "target"):
        folder = tmp_path / "test" / name
        folder.mkdir(parents=True)
        pixels = rng.integers(0, 256, (24, 24, 3)).astype("uint8")
        Image.fromarray(pixels).save(folder / "a.png")
    command = ("evaluate", "--preset", preset, "--data", tmp_path)
    assert run(*command) == 2
    assert "--data needs --benchmark" in capfd.readouterr().err
    assert run(*command, "--benchmark", "gopro") == 2
    assert "1 were found (--allow-partial takes them)" in capfd.readouterr().err
    output = tmp_path / "scores.csv"
    command += ("--benchmark", "gopro", "--allow-partial", "--output", output)
    assert run(*command) == 0
    (line, *_) = capfd.readouterr().err.splitlines()
    assert line.startswith(
        "mhdeblur: warning: GoPro test has 1111 pairs, 1 were found."
    )
    assert output.read_text().splitlines()[1].startswith("test/input/a.png,")


@pytest.mark.parametrize(
    "arguments, expected",
    [
        ([], ("nafnet_maxim_mh_c", None)),
        (["--quality", "fast"], ("nafnet_mh_c", None)),
        (["--preset", "a"], ("a", None)),
        (["--preset", "a", "--stages", "2"], ("a", 2)),
    ],
)
def test_quality_is_a_preset(arguments, expected):
    parser = argparse.ArgumentParser()
    common.add_preset_option(parser.add_argument)
    assert common.chosen_preset(parser.parse_args(arguments)) == expected


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--quality", "good", "--preset", "a"], "one choice"),
        (["--stages", "1"], "--stages needs --preset"),
    ],
)
def test_quality_and_preset_exclude_each_other(
    photos, tmp_path, capfd, arguments, message
):
    assert run("restore", photos, "-o", tmp_path / "out", *arguments) == 2
    assert message in capfd.readouterr().err
