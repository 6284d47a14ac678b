import json
import shutil
from collections import namedtuple

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_mhdeblur import cli
from keras_mhdeblur.data import (
    Patches,
    list_pairs,
    paired_files,
    prepare,
    prepared_folder,
    prepared_size,
)


def save(path, index, flag, size):
    """Pixels that say where they are: row, column, number of the image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[: size[1], : size[0]]
    pixels = np.stack([y, x, np.full_like(x, 2 * index + flag)], axis=-1)
    Image.fromarray(pixels.astype("uint8")).save(path)


def make_pairs(root, sizes):
    for flag, folder in enumerate(["blur", "sharp"]):
        for k, size in enumerate(sizes):
            save(root / folder / f"{k}.png", k, flag, size)
    return list_pairs(root / "blur", root / "sharp")


@pytest.fixture
def pairs(tmp_path):
    return make_pairs(tmp_path, [(50, 40)] * 5)


@pytest.fixture
def prepared(pairs, tmp_path):
    return prepare(pairs, tmp_path / "prepared")


def batches(folder, count=None, **settings):
    patches = Patches(**{"patch_size": 16, "batch_size": 2, **settings})
    dataset = prepared_folder(folder, patches)
    dataset = dataset if count is None else dataset.take(count)
    return list(dataset.as_numpy_iterator())


# Preparing.


def test_whole_images(pairs, prepared, tmp_path):
    assert prepared == tmp_path / "prepared"
    assert sorted(path.name for path in prepared.iterdir()) == [
        "blurry.npy", "index.json", "sharp.npy",
    ]  # fmt: skip
    arrays = [np.load(prepared / name) for name in ("blurry.npy", "sharp.npy")]
    for array, files in zip(arrays, zip(*pairs)):
        expected = np.stack([Image.open(path) for path in files])
        np.testing.assert_array_equal(array, expected)
    assert prepared_size(pairs) == sum(array.nbytes for array in arrays)
    index = json.loads((prepared / "index.json").read_text())
    assert index["pairs"][1] == ["blur/1.png", "sharp/1.png"]
    assert index["tiles"] == [[k, 0, 0] for k in range(5)]
    assert not (tmp_path / "prepared.partial").exists()


def test_tiles_cover_images_of_several_sizes(tmp_path):
    pairs = make_pairs(tmp_path, [(50, 40), (32, 33)])
    done = []
    folder = prepare(
        pairs, tmp_path / "out", 32, 16, progress=lambda *counts: done.append(counts)
    )
    assert done == [(1, 2), (2, 2)]
    tiles = json.loads((folder / "index.json").read_text())["tiles"]
    assert tiles == [
        [0, 0, 0], [0, 0, 16], [0, 0, 18], [0, 8, 0], [0, 8, 16], [0, 8, 18],
        [1, 0, 0], [1, 1, 0],
    ]  # fmt: skip
    for flag, name in enumerate(("blurry.npy", "sharp.npy")):
        array = np.load(folder / name)
        assert array.shape == (8, 32, 32, 3)
        for tile, (k, y, x) in zip(array, tiles):
            assert tuple(tile[0, 0]) == (y, x, 2 * k + flag)
            assert tuple(tile[-1, -1]) == (y + 31, x + 31, 2 * k + flag)
    assert prepared_size(pairs, 32, 16) == 2 * 8 * 32 * 32 * 3


def test_gopro_has_eight_tiles_an_image(tmp_path):
    pairs = make_pairs(tmp_path, [(1280, 720)])
    assert prepared_size(pairs) == 2 * 1280 * 720 * 3
    assert prepared_size(pairs, 512) == 2 * 8 * 512 * 512 * 3


def test_tiles_leave_out_no_pixels(pairs, tmp_path):
    for step in (33, 0):
        message = f"between 1 and `tile_size`, 32.* Received: step={step}"
        with pytest.raises(ValueError, match=message):
            prepared_size(pairs, 32, step)
        with pytest.raises(ValueError, match=message):
            prepare(pairs, tmp_path / "out", 32, step)
    for step in (32, None):
        assert prepared_size(pairs, 32, step) == 2 * 5 * 4 * 32 * 32 * 3


def test_several_sizes_need_tiles(tmp_path):
    pairs = make_pairs(tmp_path, [(50, 40), (32, 33)])
    with pytest.raises(ValueError, match="several sizes.*Received: tile_size=None"):
        prepare(pairs, tmp_path / "out")
    with pytest.raises(ValueError, match="1.png: 32x33 is less than the 40 pixels"):
        prepared_size(pairs, 40)


def test_a_truncated_file_is_named(pairs, tmp_path):
    path = pairs[3][1]
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match="sharp/3.png: not a readable image"):
        prepare(pairs, tmp_path / "out")
    assert not list(tmp_path.glob("out*"))
    folder = prepare(pairs, tmp_path / "out", skip_broken=True)
    assert len(np.load(folder / "blurry.npy")) == 4


def test_a_stopped_preparation_leaves_nothing_that_is_taken_for_whole(pairs, tmp_path):
    class Stop(Exception):
        pass

    def stop(done, total):
        if done == 3:
            raise Stop

    with pytest.raises(Stop):
        prepare(pairs, tmp_path / "out", progress=stop)
    assert not (tmp_path / "out").exists() and (tmp_path / "out.partial").exists()
    with pytest.raises(ValueError, match="no prepared pairs"):
        prepared_folder(tmp_path / "out.partial", Patches(16))
    prepare(pairs, tmp_path / "out")
    assert len(np.load(tmp_path / "out" / "sharp.npy")) == 5
    assert not (tmp_path / "out.partial").exists()


def test_an_existing_folder_stays(pairs, prepared):
    with pytest.raises(ValueError, match="must be a new folder.*Received: output='"):
        prepare(pairs, prepared)
    assert len(np.load(prepared / "sharp.npy")) == 5


def test_too_little_disk(pairs, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1, 1, 59_999))
    with pytest.raises(ValueError, match="GB are needed.*Received: output='.*/out'"):
        prepare(pairs, tmp_path / "out")
    assert not list(tmp_path.glob("out*"))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1, 1, 60_001))
    prepare(pairs, tmp_path / "out")


# Patches.


@pytest.mark.parametrize("augment", [True, False])
def test_the_patches_are_those_of_the_files(pairs, prepared, augment):
    settings = {"patch_size": 16, "batch_size": 4, "augment": augment, "seed": 3}
    files = paired_files(pairs, Patches(stream_from=2, **settings)).take(8)
    found = batches(prepared, 8, stream_from=2, **settings)
    for expected, batch in zip(files.as_numpy_iterator(), found, strict=True):
        np.testing.assert_array_equal(expected, batch)


def test_patches_are_regions_of_both_files(prepared):
    turned = set()
    for blurry, sharp in batches(prepared, 20, stream_from=0, batch_size=4):
        blurry, sharp = (np.rint(255 * x).astype(int) for x in (blurry, sharp))
        np.testing.assert_array_equal(blurry[..., :2], sharp[..., :2])
        np.testing.assert_array_equal(blurry[..., 2] + 1, sharp[..., 2])
        for patch in blurry:
            (y, x), (last_y, last_x) = patch[0, 0, :2], patch[-1, -1, :2]
            assert {abs(last_y - y), abs(last_x - x)} == {15}
            turned.add((patch[0, 1, 0] == y, last_y > y, last_x > x))
    assert len(turned) == 8


@pytest.mark.parametrize("start", [1, 7])
def test_a_stream_goes_on_where_it_stopped(prepared, start):
    stream = batches(prepared, 10, stream_from=0)
    later = batches(prepared, 10 - start, stream_from=start)
    np.testing.assert_array_equal(stream[start:], later)
    images = np.concatenate([blurry[:, 0, 0, 2] for blurry, _ in stream])
    for k in range(4):  # every image once per pass
        assert len(set(images[5 * k : 5 * k + 5])) == 5


def test_a_pass_visits_every_image_once(prepared):
    dataset = prepared_folder(prepared, Patches(16, 1, seed=1))
    passes = [np.concatenate([sharp for _, sharp in dataset]) for _ in range(2)]
    for patches in passes:
        assert len(patches) == 5 and len(set(patches[:, 0, 0, 2])) == 5
    assert np.any(passes[0] != passes[1])
    assert len(batches(prepared, batch_size=2)) == 2  # the incomplete batch is dropped


def test_a_pass_without_a_batch_is_refused(prepared):
    with pytest.raises(ValueError, match="5 patches.* Received: batch_size=6"):
        prepared_folder(prepared, Patches(16, 6))
    assert len(batches(prepared, 2, batch_size=6, stream_from=0)) == 2


def test_types(prepared):
    blurry, sharp = prepared_folder(prepared, Patches(16, 2)).element_spec
    assert blurry == sharp == tf.TensorSpec((2, 16, 16, 3), tf.float32)
    assert batches(prepared, 1, patch_size=40)[0][0].shape == (2, 40, 40, 3)


def test_wrong_folders_and_sizes(prepared):
    with pytest.raises(ValueError, match="50x40.*Received: patch_size=41"):
        prepared_folder(prepared, Patches(41))
    with pytest.raises(ValueError, match="one crop .*crops_per_image=2"):
        prepared_folder(prepared, Patches(16, crops_per_image=2))
    with pytest.raises(ValueError, match="no prepared pairs .*Received: folder='"):
        prepared_folder(prepared.parent, Patches(16))
    data = (prepared / "sharp.npy").read_bytes()
    (prepared / "sharp.npy").write_bytes(data[:-1])
    with pytest.raises(ValueError, match="sharp.npy cannot be read .*Received: folder"):
        prepared_folder(prepared, Patches(16))


# The command.


def run(*arguments):
    return cli.main(["prepare", *map(str, arguments)])


def test_command(pairs, tmp_path, capsys):
    command = ("--data", tmp_path, "--output", tmp_path / "out")
    assert run(*command, "--dry-run") == 0
    out, err = capsys.readouterr()
    assert "5 pairs found" in out and "out will take 0.00 GB" in out and err == ""
    assert not (tmp_path / "out").exists()
    assert run(*command, "--dry-run", "--tile", 32, "--step", 33) == 2
    assert "Received: step=33" in capsys.readouterr().err
    assert run(*command, "--tile", 32, "--step", 8) == 0
    out, err = capsys.readouterr()
    assert out.endswith(f"Wrote {tmp_path / 'out'}\n")
    assert len(err.splitlines()) == 5 and "5/5  5 of 5 pairs" in err
    assert np.load(tmp_path / "out" / "blurry.npy").shape == (5 * 8, 32, 32, 3)


def test_command_with_a_benchmark(tmp_path, capsys):
    for flag, folder in enumerate(["input", "target"]):
        save(tmp_path / "test" / folder / "a.png", 0, flag, (20, 20))
    command = ("--data", tmp_path, "--output", tmp_path / "out")
    command += ("--benchmark", "gopro", "--split", "test")
    assert run(*command) == 2
    err = capsys.readouterr().err
    assert "GoPro test has 1111 pairs, 1 were found (--allow-partial takes" in err
    assert run(*command, "--allow-partial") == 0
    assert "mhdeblur: warning: GoPro test has 1111" in capsys.readouterr().err
    assert len(np.load(tmp_path / "out" / "sharp.npy")) == 1
