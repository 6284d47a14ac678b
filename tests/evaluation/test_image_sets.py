"""Sets of pairs that a file describes."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from keras_mhdeblur.data import blur_from_frames
from keras_mhdeblur.evaluation.image_sets import ImageSet

SETS = Path(__file__).parents[2] / "zoo" / "sets"


@pytest.fixture
def data(tmp_path):
    """Two photos, a folder of pairs and a run of frames, of noise."""
    random = np.random.default_rng(0)
    sizes = {"one": (80, 90), "two": (70, 100)}
    sizes |= {f"{part}/{n}": (40, 50) for part in ("blur", "sharp") for n in "ab"}
    sizes |= {f"frames/{n}": (40, 50) for n in range(6)}
    for name, size in sizes.items():
        path = tmp_path / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(random.integers(0, 256, (*size, 3), "uint8")).save(path)
    return tmp_path


def written(data, **entries):
    path = data / "set.yaml"
    path.write_text(yaml.safe_dump(entries), "utf-8")
    return ImageSet(path, data)


def pixels(path):
    return np.asarray(Image.open(path))


def is_part(small, image):
    """Whether a picture is a crop of another."""
    views = np.lib.stride_tricks.sliding_window_view(image, small.shape)
    return (views == small).all(axis=(-3, -2, -1)).any()


def test_synthesized_pairs(data):
    still = {
        "max_path": 0,
        "max_rotation": 0,
        "num_frames": 1,
        "max_noise": 0,
        "max_highlight": 1,
    }
    entry = {"kind": "still", "seed": 5, "sizes": {32: 3, "whole": 1}, "blur": still}
    images = written(data, photos=["one.png", "two.png"], synthesized=[entry])
    pairs = list(images.pairs())
    assert [pair.name for pair in pairs] == [f"still/{n:04}" for n in (1, 2, 3, 4)]
    assert [pair.scene for pair in pairs] == ["two.png", "one.png"] * 2
    for pair in pairs:
        assert is_part(pair.sharp, pixels(data / pair.scene))
        np.testing.assert_array_equal(pair.blurry, pair.sharp)
    assert pairs[3].sharp.shape == (72, 82, 3)
    again = next(images.pairs("still"))
    np.testing.assert_array_equal(again.sharp, pairs[0].sharp)


def test_exposure_darkens_both(data):
    entry = {
        "kind": "night",
        "seed": 0,
        "sizes": {32: 1},
        "exposure": [0.25, 0.25],
        "blur": {"max_path": 0, "num_frames": 1, "max_noise": 0, "max_highlight": 1},
    }
    pair = next(written(data, photos=["one.png"], synthesized=[entry]).pairs())
    brightest = 255 * 0.25 ** (1 / 2.2)
    assert brightest - 4 < pair.sharp.max() <= np.ceil(brightest)


def test_pairs_and_frames(data):
    pairs = {"kind": "real", "blurry": "blur", "sharp": "sharp", "chose": ["some"]}
    crops = pairs | {"size": 32, "count": 2, "seed": 1}
    frames = {
        "kind": "mean",
        "folders": ["frames"],
        "lengths": [3],
        "size": 32,
        "count": 2,
        "seed": 2,
    }
    images = written(data, pairs=[pairs, crops], frames=[frames])
    assert images.kinds == ["real", "mean"]
    found = list(images.pairs())
    assert [pair.name for pair in found] == [
        *(f"real/{n:04}" for n in range(1, 7)),
        *("mean/0001", "mean/0002"),
    ]
    assert {pair.chose for pair in found[:6]} == {("some",)}
    np.testing.assert_array_equal(found[1].blurry, pixels(data / "blur/b.png"))
    assert is_part(found[2].blurry, pixels(data / "blur/a.png"))
    assert is_part(found[2].sharp, pixels(data / "sharp/a.png"))
    assert any(
        is_part(found[6].sharp, pixels(data / f"frames/{n}.png")) for n in "1234"
    )


def test_exposures_have_all_frames(data):
    run = {
        "kind": "video",
        "folders": ["frames"],
        "lengths": [4],
        "size": 16,
        "count": 1,
        "seed": 3,
    }
    blur = {"max_path": 6, "num_frames": 5, "max_noise": 0, "max_highlight": 1}
    made = {"kind": "made", "seed": 1, "sizes": {32: 1}, "blur": blur}
    images = written(data, photos=["one.png"], exposures=[run, made])
    video, synthesized = images.exposures()
    assert video.frames.shape == (4, 16, 16, 3)
    assert synthesized.frames.shape == (5, 32, 32, 3)
    for exposure in (video, synthesized):
        mean = np.rint(255 * blur_from_frames(exposure.frames)).astype(int)
        assert np.abs(mean - exposure.blurry).max() <= 1


def test_mistakes(data):
    with pytest.raises(ValueError, match="Did you mean 'sizes'"):
        written(data, synthesized=[{"kind": "shake", "size": 3}])
    with pytest.raises(ValueError, match="Received: phots"):
        written(data, phots=[])
    images = written(data, pairs=[{"kind": "real", "blurry": "blur", "sharp": "sharp"}])
    with pytest.raises(ValueError, match="Did you mean 'real'"):
        next(images.pairs("reel"))
    entry = {"kind": "shake", "seed": 0, "sizes": {200: 1}}
    images = written(data, photos=["one.png"], synthesized=[entry])
    with pytest.raises(ValueError, match="crop of 256 pixels"):
        next(images.pairs())
    entry = {"kind": "shake", "seed": 0, "sizes": {8: 1}, "blur": {"num_targets": 2}}
    images = written(data, photos=["one.png"], synthesized=[entry])
    with pytest.raises(ValueError, match="must be 1. Received: num_targets=2"):
        next(images.pairs())


def test_no_photo_is_in_two_of_the_sets():
    sets = {
        path.stem: yaml.safe_load(path.read_text("utf-8"))
        for path in SETS.glob("*.yaml")
    }
    photos = {
        name: {*entries["photos"], *entries.get("soft_photos", ())}
        for name, entries in sets.items()
    }
    names = sorted(photos)
    assert names == ["choose", "report", "train"]
    for one in names:
        for other in names:
            assert one == other or not photos[one] & photos[other]
