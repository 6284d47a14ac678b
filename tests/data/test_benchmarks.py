import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from keras_mhdeblur.data import (
    Patches,
    align_for_scoring,
    benchmark,
    benchmarks,
)


def save(path, index, size=(40, 24)):
    """A picture whose last channel is its number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[: size[1], : size[0]]
    pixels = np.stack([y, x, np.full_like(x, index)], axis=-1)
    Image.fromarray(pixels.astype("uint8")).save(path)


def counts(monkeypatch, name, **counts):
    """Makes a miniature complete."""
    monkeypatch.setitem(
        benchmarks._LAYOUTS,
        name,
        benchmarks.dataclasses.replace(benchmarks._LAYOUTS[name], counts=counts),
    )


def names(pairs, root):
    return [tuple(path.relative_to(root).as_posix() for path in pair) for pair in pairs]


def numbers(pairs):
    """Last channels of the whole images of pairs, in their order."""
    dataset = pairs.dataset()
    return [
        tuple(int(round(float(image[0, 0, 0, 2]) * 255)) for image in pair)
        for pair in dataset
    ]


@pytest.fixture
def gopro(tmp_path, monkeypatch):
    """GoPro with all sequences, a pair in each and two in the first test sequence."""
    counts(monkeypatch, "gopro", train=22, test=12)
    index = 0
    for split in ("train", "test"):
        for name in benchmarks._gopro_sequences(split):
            for frame in (1, 2) if name == "GOPR0384_11_00" else (1,):
                for offset, kind in enumerate(("blur", "blur_gamma", "sharp")):
                    path = tmp_path / split / name / kind / f"{frame:06}.png"
                    save(path, 3 * index + offset)
                index += 1
    return tmp_path


# GoPro.


@pytest.mark.parametrize("blur", ["blur", "blur_gamma"])
def test_gopro_in_its_official_layout(gopro, blur):
    pairs = benchmark("gopro", gopro, "test", blur=blur)
    assert (pairs.name, pairs.split, len(pairs), pairs.expected) == (
        "gopro", "test", 12, 12,
    )  # fmt: skip
    assert names(pairs, gopro)[:3] == [
        (f"test/GOPR0384_11_00/{blur}/000001.png",
         "test/GOPR0384_11_00/sharp/000001.png"),
        (f"test/GOPR0384_11_00/{blur}/000002.png",
         "test/GOPR0384_11_00/sharp/000002.png"),
        (f"test/GOPR0384_11_05/{blur}/000001.png",
         "test/GOPR0384_11_05/sharp/000001.png"),
    ]  # fmt: skip
    assert pairs.groups[1:3] == ("GOPR0384_11_00", "GOPR0384_11_05")
    offset = {"blur": 0, "blur_gamma": 1}[blur]
    assert numbers(pairs) == [(3 * k + offset, 3 * k + 2) for k in range(22, 34)]


def test_training_patches_of_a_benchmark(gopro):
    pairs = benchmark("gopro", gopro, "train")
    dataset = pairs.dataset(Patches(16, batch_size=4, stream_from=1))
    for pair in dataset.take(3).as_numpy_iterator():
        blurry, sharp = np.rint(255 * np.array(pair)).astype(int)
        np.testing.assert_array_equal(blurry[..., :2], sharp[..., :2])
        np.testing.assert_array_equal(blurry[..., 2] + 2, sharp[..., 2])


def test_the_official_counts():
    counts = {name: x.counts for name, x in benchmarks._LAYOUTS.items()}
    assert counts == {
        "gopro": {"train": 2103, "test": 1111},
        "hide": {"train": 6397, "test": 2025},
        "realblur_j": {"train": 3758, "test": 980},
        "realblur_r": {"train": 3758, "test": 980},
        "reds": {"train": 24000, "val": 3000, "val_300": 300},
    }
    assert len(benchmarks._gopro_sequences("train")) == 22
    assert len(benchmarks._gopro_sequences("test")) == 11


def test_a_partial_copy_is_reported(gopro):
    shutil.rmtree(gopro / "test" / "GOPR0410_11_00")
    shutil.rmtree(gopro / "test" / "GOPR0869_11_00" / "blur")
    (gopro / "test" / "GOPR0384_11_00" / "sharp" / "000002.png").unlink()
    with pytest.raises(ValueError) as info:
        benchmark("gopro", gopro, "test")
    message = str(info.value)
    assert message.startswith("GoPro test has 12 pairs, 9 were found (`allow_partial")
    assert "GOPR0410_11_00: no such folder" in message
    assert "GOPR0869_11_00/blur" in message
    assert "blur/000002.png: no partner in" in message
    assert message.endswith(f"Received: root='{gopro}'")
    with pytest.warns(UserWarning, match="12 pairs, 9 were found"):
        pairs = benchmark("gopro", gopro, "test", allow_partial=True)
    assert len(pairs) == 9 and pairs.expected == 12


def test_too_many_pairs_are_reported(gopro):
    for kind in ("blur", "sharp"):
        save(gopro / "test" / "GOPR0384_11_00" / kind / "000003.png", 0)
    with pytest.raises(ValueError, match="has 12 pairs, 13 were found"):
        benchmark("gopro", gopro, "test")


def test_a_truncated_file_is_named(gopro):
    path = gopro / "test" / "GOPR0410_11_00" / "sharp" / "000001.png"
    path.write_bytes(path.read_bytes()[:-30])
    pairs = benchmark("gopro", gopro, "test")
    with pytest.raises(ValueError, match="GOPR0410_11_00/sharp/000001.png: not a"):
        pairs.dataset(Patches(16))
    assert len(list(pairs.dataset(skip_broken=True))) == 11


@pytest.mark.parametrize("folders", [("input", "target"), ("blur", "sharp")])
@pytest.mark.parametrize("below", ["test", "."])
def test_flattened_copies(tmp_path, monkeypatch, folders, below):
    counts(monkeypatch, "gopro", test=3)
    stems = ["GOPR0384_11_00-000001", "GOPR0384_11_00-000002", "GOPR0410_11_00-000135"]
    for k, stem in enumerate(stems):
        for offset, folder in enumerate(folders):
            save(tmp_path / below / folder / f"{stem}.png", 2 * k + offset)
    pairs = benchmark("gopro", tmp_path, "test")
    assert numbers(pairs) == [(0, 1), (2, 3), (4, 5)]
    assert pairs.groups == ("GOPR0384_11_00", "GOPR0384_11_00", "GOPR0410_11_00")
    # Nothing says that these are gamma images.
    with pytest.raises(ValueError, match="no GoPro in a known layout"):
        benchmark("gopro", tmp_path, "test", blur="blur_gamma")


# HIDE.


@pytest.fixture
def hide(tmp_path, monkeypatch):
    counts(monkeypatch, "hide", train=1, test=3)
    places = ["train", "test/test-long-shot", "test/test-long-shot"]
    for k, place in enumerate([*places, "test/test-close-ups"]):
        save(tmp_path / place / f"{k}fromGOPR1.MP4.png", 2 * k)
        save(tmp_path / "GT" / f"{k}fromGOPR1.MP4.png", 2 * k + 1)
    return tmp_path


def test_hide(hide):
    pairs = benchmark("hide", hide, "test")
    assert pairs.groups == ("close-ups", "long-shot", "long-shot")
    assert numbers(pairs) == [(6, 7), (2, 3), (4, 5)]
    assert numbers(benchmark("hide", hide, "train")) == [(0, 1)]
    (hide / "GT" / "2fromGOPR1.MP4.png").unlink()
    with pytest.raises(ValueError, match="2fromGOPR1.MP4.png: no partner in .*GT"):
        benchmark("hide", hide, "test")


# RealBlur.


@pytest.mark.parametrize("letter, extra", [("J", ""), ("R", "BM3D_")])
def test_realblur_by_its_list(tmp_path, monkeypatch, letter, extra):
    name = f"realblur_{letter.lower()}"
    counts(monkeypatch, name, test=2, train=1)
    folder = f"RealBlur-{letter}_{extra}ECC_IMCORR_centroid_itensity_ref"
    lines = []
    for k, (scene, number) in enumerate([("scene230", 7), ("scene044", 10)]):
        sharp = f"{folder}/{scene}/gt/gt_{number}.png"
        blurry = f"{folder}/{scene}/blur/blur_{number}.png"
        save(tmp_path / sharp, 2 * k + 1)
        save(tmp_path / blurry, 2 * k)
        lines.append(f"{sharp} {blurry} \n")
    (tmp_path / f"RealBlur_{letter}_test_list.txt").write_text("".join(lines))
    pairs = benchmark(name, tmp_path, "test")
    assert numbers(pairs) == [(2, 3), (0, 1)]
    assert pairs.groups == ("scene044", "scene230")
    (tmp_path / folder / "scene230" / "blur" / "blur_7.png").unlink()
    with pytest.raises(ValueError, match="scene230/blur/blur_7.png: no such file"):
        benchmark(name, tmp_path, "test")
    with pytest.raises(ValueError, match="no RealBlur-. in a known layout"):
        benchmark(name, tmp_path, "train")


def test_flattened_realblur_with_names_of_both_kinds(tmp_path, monkeypatch):
    counts(monkeypatch, "realblur_j", test=2)
    save(tmp_path / "test" / "input" / "scene004_blur_1.png", 0)
    save(tmp_path / "test" / "target" / "scene004_gt_1.png", 1)
    save(tmp_path / "test" / "input" / "scene005_2.png", 2)
    save(tmp_path / "test" / "target" / "scene005_2.png", 3)
    pairs = benchmark("realblur_j", tmp_path, "test")
    assert numbers(pairs) == [(0, 1), (2, 3)]
    assert pairs.groups == ("scene004", "scene005")


# REDS.


@pytest.mark.parametrize("below", ["", "val"])
def test_reds(tmp_path, monkeypatch, below):
    counts(monkeypatch, "reds", train=240, val=60, val_300=30)
    for sequence in range(30):
        for frame in (8, 9):
            for offset, kind in enumerate(("blur_jpeg", "sharp")):
                path = f"val_{kind}/{sequence:03}/{frame:08}.png"
                save(tmp_path / below / path, 2 * sequence + offset, (16, 16))
    pairs = benchmark("reds", tmp_path, "val", blur="blur_jpeg")
    assert numbers(pairs)[:3] == [(0, 1), (0, 1), (2, 3)]
    assert pairs.groups[:3] == ("000", "000", "001")
    subset = benchmark("reds", tmp_path, "val_300", blur="blur_jpeg")
    assert len(subset) == 30
    assert {blurry.stem for blurry, _ in subset} == {"00000009"}
    with pytest.raises(ValueError, match="no REDS in a known layout"):
        benchmark("reds", tmp_path, "train")
    shutil.rmtree(tmp_path / below / "val_blur_jpeg" / "017")
    with pytest.raises(ValueError, match="val_blur_jpeg: no sequence 017"):
        benchmark("reds", tmp_path, "val_300", blur="blur_jpeg")


# Wrong arguments.


@pytest.mark.parametrize(
    "arguments, match",
    [
        ({"name": "gorpo"}, "one of gopro, hide, .* Received: name='gorpo'"),
        ({"split": "val"}, "one of train, test. Received: split='val'"),
        ({"blur": "gamma"}, "one of blur, blur_gamma. Received: blur='gamma'"),
        ({"name": "hide", "blur": "blur_gamma"}, "one of blur. Received: blur="),
        ({"root": "nowhere"}, "no such folder. Received: root='nowhere'"),
        ({}, "no GoPro in a known layout: SPLIT/SEQUENCE/blur"),
    ],
)
def test_wrong_arguments(tmp_path, arguments, match):
    with pytest.raises(ValueError, match=match):
        benchmark(**{"name": "gopro", "root": tmp_path, **arguments})


# Alignment.


@pytest.fixture
def sharp():
    """Smooth texture."""
    cv2 = pytest.importorskip("cv2")
    noise = np.random.default_rng(0).random((120, 150, 3), "float32")
    smooth = cv2.GaussianBlur(noise, (0, 0), 2)
    return (smooth - smooth.min()) / (smooth.max() - smooth.min())


def masked_psnr(image, sharp, mask):
    return -10 * np.log10(np.mean((image - sharp)[mask] ** 2))


@pytest.mark.parametrize("kind", ["shift", "homography"])
def test_alignment_undoes_a_known_motion_and_dimming(sharp, kind):
    import cv2

    motion = np.eye(3)
    motion[:2, 2] = 2.6, -1.7  # reads the pixel 2.6 to the right and 1.7 above
    if kind == "homography":
        motion = motion @ [[1.004, 0.006, 0], [-0.005, 0.997, 0], [2e-5, -1e-5, 1]]
    moved = cv2.warpPerspective(
        sharp, motion, (150, 120), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT,
    )  # fmt: skip
    aligned, mask = align_for_scoring(0.8 * moved, sharp)
    assert aligned.shape == sharp.shape and aligned.dtype == np.float32
    # The moved image shows nothing of a margin of the motion's length.
    assert mask.shape == (120, 150) and 0.95 < mask.mean() < 0.99
    assert masked_psnr(moved, sharp, mask) < 25
    # Next to the margin the cubic filters reach into what was mirrored there. The
    # brightness was matched before the geometry, so it is not quite right.
    inner = mask & np.pad(np.ones((110, 140), bool), 5)
    factor = np.sum((aligned * sharp)[inner]) / np.sum((aligned**2)[inner])
    assert abs(factor - 1) < 0.05
    assert masked_psnr(factor * aligned, sharp, inner) > 45


def test_aligned_images_stay(sharp):
    aligned, mask = align_for_scoring(sharp, sharp)
    assert mask[1:-1, 1:-1].all()
    np.testing.assert_allclose(aligned[mask], sharp[mask], atol=1e-3)


def test_without_opencv(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ImportError, match=r"pip install keras-mhdeblur\[realblur\]"):
        align_for_scoring(np.zeros((8, 8, 3)), np.zeros((8, 8, 3)))


def test_images_that_cannot_be_aligned(sharp):
    with pytest.raises(ValueError, match=r"Received: restored=\(8, 8, 3\)"):
        align_for_scoring(sharp[:8, :8], sharp)
    with pytest.raises(ValueError, match="cannot be aligned"):
        align_for_scoring(np.zeros_like(sharp), sharp)
