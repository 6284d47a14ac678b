import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_mhdeblur import cli, data

GOPRO = Path(__file__).parents[1] / "resources" / "gopro_frames"


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png", "b.jpg", "sub/a.png"):
        small = Image.fromarray(rng.integers(0, 256, (4, 5, 3), "uint8"))
        small.resize((50, 40)).save(folder / name)
    return folder


def run(*arguments):
    return cli.main(["synthesize", *(str(argument) for argument in arguments)])


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def load(path):
    return np.asarray(Image.open(path))


def test_frames_to_pairs(tmp_path, capfd):
    output = tmp_path / "new" / "pairs"
    command = ("frames", GOPRO, "--output", output, "--frames", "3,4", "--seed", 1)
    assert run(*command, "--gamma", "1", "--keep-frames", "--max-pairs", "2") == 0
    out, err = capfd.readouterr()
    assert out == "" and "1/1  gopro_frames" in err
    assert err.splitlines()[-1].startswith(f"Wrote 2 pairs to {output} in ")
    expected = data.pairs_from_frames(
        GOPRO,
        tmp_path / "same",
        (3, 4),
        gamma=1.0,
        keep_frames=True,
        max_pairs=2,
        seed=1,
    )
    assert files(output) == files(tmp_path / "same")
    for name in files(output):
        assert (output / name).read_bytes() == (tmp_path / "same" / name).read_bytes()
    assert len(expected["pairs"]) == 2


def test_photos_to_pairs_for_training_and_evaluation(photos, tmp_path, capfd):
    output = tmp_path / "pairs"
    options = ("--count", "2", "--size", "16", "--max-path", "4", "--max-noise", "0.02")
    more = ("--jpeg-quality", "60,90", "--max-megapixels", "0.0019")
    assert run("photos", photos, "-r", "-o", output, *options, *more) == 0
    assert "Wrote 8 pairs" in capfd.readouterr().err
    names = ["a", "b_jpg", "b_png", "sub_a"]
    assert files(output / "metadata") == [f"{name}.json" for name in names]
    expected = [f"{name}_{k}.png" for name in names for k in range(2)]
    assert files(output / "blur") == files(output / "sharp") == expected
    written = json.loads((output / "metadata" / "a.json").read_text())
    assert written["max_noise"] == 0.02 and written["jpeg_quality"] == [60, 90]
    assert written["reduced_size"] == [39, 49]
    # As `mhdeblur train` and `mhdeblur evaluate --pairs` read them.
    folders = output / "blur", output / "sharp"
    batch = next(iter(data.paired_folder(*folders, data.Patches(16, 8))))
    assert [part.shape for part in batch] == [(8, 16, 16, 3)] * 2
    assert len(list(data.paired_folder(*folders))) == 8


def test_whole_photos_of_any_size_as_jpeg(photos, tmp_path):
    options = ("--max-path", "3", "--jpeg-quality", "60,95")
    assert run("photos", photos / "a.png", "-o", tmp_path / "out", *options) == 0
    assert load(tmp_path / "out" / "blur" / "a.png").shape == (40 - 14, 50 - 14, 3)


def test_sources_with_one_name(tmp_path):
    folders = [tmp_path / key / "clip" for key in "ab"]
    for folder in folders:
        folder.mkdir(parents=True)
        for path in GOPRO.glob("*.png"):
            (folder / path.name).write_bytes(path.read_bytes())
    output = tmp_path / "out"
    assert run("frames", *folders, folders[0], "-o", output, "--frames", "8") == 0
    assert files(output / "blur") == ["clip_2_000000.png", "clip_3_000000.png"]


def test_pairs_are_never_mixed(tmp_path, capfd):
    command = ("frames", GOPRO, "-o", tmp_path, "--frames", "8")
    assert run(*command) == 0
    capfd.readouterr()
    assert run(*command) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("mhdeblur: error: --output") and "gopro_frames" in line


def test_inputs_that_fail_are_named_and_the_others_done(photos, tmp_path, capfd):
    output = tmp_path / "out"
    missing = tmp_path / "missing"
    assert run("frames", missing, photos, GOPRO, "-o", output, "--frames", "8") == 1
    err = capfd.readouterr().err
    assert f"mhdeblur: {missing}: There is no such file or folder" in err
    assert f"mhdeblur: {photos}: `source` has no 8 consecutive frames" in err
    assert "Wrote 1 pairs" in err and err.endswith("; 2 of 3 inputs failed.\n")

    (photos / "broken.png").write_bytes(b"no picture")
    Image.new("RGB", (9, 9)).save(photos / "small.png")
    options = ("--max-path", "2", "-o", tmp_path / "photos_out")
    assert run("photos", photos, missing, *options) == 1
    err = capfd.readouterr().err
    assert "broken.png: it is not an image" in err
    assert "small.png: The photo is too small" in err
    assert f"mhdeblur: {missing}: there is no such file" in err
    assert "Wrote 3 pairs" in err and "Traceback" not in err


def test_video_without_pyav(tmp_path, monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "clip.mp4").write_bytes(b"video")
    assert run("frames", tmp_path / "clip.mp4", "-o", tmp_path / "out") == 2
    err = capfd.readouterr().err
    assert 'pip install "keras-mhdeblur[video]"' in err and "Traceback" not in err


def test_no_video(tmp_path, capfd):
    pytest.importorskip("av")
    (tmp_path / "clip.mp4").write_bytes(b"video")
    assert run("frames", tmp_path / "clip.mp4", "-o", tmp_path / "out") == 1
    assert "clip.mp4: The file is not a video" in capfd.readouterr().err


def test_output_that_is_a_file(tmp_path, capfd):
    (tmp_path / "file").write_text("")
    assert run("frames", GOPRO, "-o", tmp_path / "file") == 2
    assert "--output" in capfd.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("movies", "a.mp4", "-o", "out"),
        ("frames", "-o", "out"),
        ("frames", "a.mp4"),
        ("frames", "a.mp4", "-o", "out", "--frames", "9,7"),
        ("frames", "a.mp4", "-o", "out", "--frames", "7,9,13"),
        ("frames", "a.mp4", "-o", "out", "--frames", "seven"),
        ("frames", "a.mp4", "-o", "out", "--gamma", "0"),
        ("frames", "a.mp4", "-o", "out", "--gamma", "rec709"),
        ("frames", "a.mp4", "-o", "out", "--seed", "-1"),
        ("frames", "a.mp4", "-o", "out", "--stride", "0"),
        ("photos", "a.jpg", "-o", "out", "--max-path", "far"),
        ("photos", "a.jpg", "-o", "out", "--max-path", "-3"),
        ("photos", "a.jpg", "-o", "out", "--max-megapixels", "0"),
        ("photos", "a.jpg", "-o", "out", "--jpeg-quality", "90,60"),
    ],
)
def test_wrong_usage_exits_with_two(arguments, capfd):
    with pytest.raises(SystemExit) as caught:
        run(*arguments)
    assert caught.value.code == 2
    assert "mhdeblur" in capfd.readouterr().err


def test_windows_and_qualities_out_of_range(photos, tmp_path, capfd):
    output = tmp_path / "out"
    assert run("frames", GOPRO, "-o", output, "--frames", "1") == 2
    assert "--frames" in capfd.readouterr().err
    assert run("photos", photos, "-o", output, "--jpeg-quality", "60,101") == 2
    assert "--jpeg-quality" in capfd.readouterr().err
    assert not output.exists()
