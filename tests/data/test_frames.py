import itertools
import json
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_mhdeblur.data import (
    MotionBlur,
    blur_from_frames,
    open_frames,
    paired_folder,
    pairs_from_frames,
    pairs_from_photo,
    synthesize_motion_blur,
)
from keras_mhdeblur.data.frames import label_index

GOPRO = Path(__file__).parents[1] / "resources" / "gopro_frames"


def load(path):
    return np.asarray(Image.open(path))


def gopro_frames():
    return np.stack([load(path) for path in sorted(GOPRO.glob("*.png"))])


def moving_frames(count, size=(24, 32), seed=0):
    """A picture with coarse structure that moves by a pixel per frame."""
    height, width = size
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (4, 6, 3), "uint8")
    large = Image.fromarray(small).resize((width + count, height))
    return [np.asarray(large)[:, k : k + width] for k in range(count)]


def save_frames(folder, frames, names=None):
    folder.mkdir(parents=True)
    for k, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / (names[k] if names else f"{k:06d}.png"))
    return folder


def save_video(path, frames, rate=240):
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "ffv1" if path.suffix == ".mkv" else "mpeg4", rate
        )
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "bgr0" if path.suffix == ".mkv" else "yuv420p"
        for frame in frames:
            frame = np.ascontiguousarray(frame)
            packets = stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24"))
            container.mux(packets)
        container.mux(stream.encode())
    return path


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


# Averages.


@pytest.mark.parametrize(
    "gamma, expected",
    [
        (1, 0.5),
        (2.2, 0.5 ** (1 / 2.2)),
        ("srgb", 0.735357),  # IEC 61966-2-1: half of the light of white
        ((lambda x: x**2, np.sqrt), 0.5**0.5),
    ],
)
def test_average_of_black_and_white(gamma, expected):
    frames = np.stack([np.zeros((4, 5, 3), "uint8"), np.full((4, 5, 3), 255, "uint8")])
    blurry = blur_from_frames(frames, gamma)
    assert blurry.shape == (4, 5, 3) and blurry.dtype == np.float32
    np.testing.assert_allclose(blurry, expected, atol=1e-5)


@pytest.mark.parametrize("gamma", [1, 2.2, "srgb"])
def test_frames_that_are_equal_are_their_average(gamma):
    levels = np.arange(256, dtype="uint8").reshape(16, 16, 1)
    blurry = blur_from_frames([levels] * 7, gamma)
    np.testing.assert_allclose(blurry * 255, levels, atol=2e-3)


def test_dtypes_of_frames_do_not_matter():
    frames = gopro_frames()
    expected = blur_from_frames(frames)
    for others in (frames / 255, frames.astype("uint16") * 257, list(frames)):
        np.testing.assert_allclose(blur_from_frames(others), expected, atol=1e-6)


def test_gopro_frames_are_averaged_by_the_published_recipe():
    frames = gopro_frames()
    # Written out in float64; whoever cuts off to 8 bits is off by up to one level.
    exact = 255 * np.mean((frames / 255.0) ** 2.2, axis=0) ** (1 / 2.2)
    blurry = blur_from_frames(frames)
    np.testing.assert_allclose(255 * blurry, exact, atol=1e-3)
    error = np.rint(255 * blurry) - np.floor(exact)
    assert 10 * np.log10(255**2 / np.mean(error**2)) > 50
    # The picture moves, and the other response gives another average.
    assert np.abs(exact - frames[4]).mean() > 20
    assert np.abs(255 * blur_from_frames(frames, gamma=1) - exact).mean() > 1


def test_label_is_the_later_of_two_in_the_middle():
    assert [label_index(n) for n in (7, 8, 10, 13)] == [3, 4, 5, 6]


@pytest.mark.parametrize(
    "frames, gamma, message",
    [
        ([], 2.2, "`frames` must hold at least one"),
        ([np.zeros((4, 4))], 2.2, r"`frames` must be images .* shape \(4, 4\)"),
        ([np.zeros((4, 4, 3)), np.zeros((4, 5, 3))], 2.2, r"one of shape \(4, 5, 3\)"),
        ([np.full((4, 4, 3), 7.0)], 2.2, r"in \[0, 1\]"),
        ([np.zeros((4, 4, 3))], 0, "Received: gamma=0"),
        ([np.zeros((4, 4, 3))], "rec709", "Received: gamma='rec709'"),
        ([np.zeros((4, 4, 3))], (np.sqrt,), "Received: gamma="),
    ],
)
def test_wrong_frames_and_responses(frames, gamma, message):
    with pytest.raises(ValueError, match=message):
        blur_from_frames(frames, gamma)


# Streams.


def test_frames_of_a_folder_come_by_number(tmp_path):
    frames = moving_frames(12)
    folder = save_frames(tmp_path / "f", frames, [f"f{k}.png" for k in range(12)])
    (folder / "notes.txt").write_text("no frame")
    (folder / "sub").mkdir()
    found, fps = open_frames(folder)
    assert fps is None
    np.testing.assert_array_equal(list(found), frames)


def test_frames_of_a_video(tmp_path):
    frames = moving_frames(9)
    found, fps = open_frames(save_video(tmp_path / "clip.mkv", frames))
    assert fps == 240
    np.testing.assert_array_equal(list(found), frames)


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_videos_are_turned_upright(tmp_path, turns):
    corner = np.zeros((48, 64, 3), "uint8")
    corner[:16, :32] = 255
    path = save_video(tmp_path / "phone.mp4", [corner] * 2)
    # The matrix of the track header: a turn clockwise by quarters, in 16.16 numbers.
    cos, sin = [(1, 0), (0, 1), (-1, 0), (0, -1)][turns]
    data, plain = path.read_bytes(), _matrix(1, 0)
    place = data.index(plain, data.index(b"tkhd"))
    path.write_bytes(data[:place] + _matrix(cos, sin) + data[place + len(plain) :])
    expected = np.rot90(corner, -turns)
    for frame in open_frames(path)[0]:
        assert frame.shape == expected.shape
        assert np.abs(frame - expected.astype(float)).mean() < 3  # it is compressed


def _matrix(cos, sin):
    one = 1 << 16
    values = (cos * one, sin * one, 0, -sin * one, cos * one, 0, 0, 0, 1 << 30)
    return struct.pack(">9i", *values)


def test_videos_are_decoded_as_they_are_read(tmp_path):
    path = save_video(tmp_path / "clip.mp4", moving_frames(40))
    found, _ = open_frames(path)
    assert len(list(itertools.islice(found, 3))) == 3
    found.close()


def test_sources_that_cannot_be_read(tmp_path):
    (tmp_path / "empty").mkdir()
    for source, message in (("empty", "no frames"), ("missing.mp4", "no such file")):
        with pytest.raises(ValueError, match=f"{message}.*Received: source="):
            open_frames(tmp_path / source)
    folder = save_frames(tmp_path / "f", [*moving_frames(2), *moving_frames(1, (9, 8))])
    message = "000002.png has 8x9, the first 32x24. Received: source="
    with pytest.raises(ValueError, match=message):
        list(open_frames(folder)[0])
    (folder / "000001.png").write_bytes(b"broken")
    with pytest.raises(ValueError, match="000001.png"):
        list(open_frames(folder)[0])


def test_files_that_are_no_videos(tmp_path):
    pytest.importorskip("av")
    for data in (b"", b"no video at all" * 100):
        path = tmp_path / "clip.mp4"
        path.write_bytes(data)
        with pytest.raises(ValueError, match="not a video.*Received: source="):
            open_frames(path)
    path = save_video(tmp_path / "cut.mkv", moving_frames(30, (120, 160)))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match="Received: source="):
        pairs_from_frames(path, tmp_path / "out")


def test_without_pyav(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"video")
    with pytest.raises(ImportError, match=r'pip install "keras-mhdeblur\[video\]"'):
        open_frames(path)


# Pairs of frames.


def test_pairs_are_the_averages_of_windows(tmp_path):
    frames = moving_frames(20)
    source, output = save_frames(tmp_path / "GOPR1", frames), tmp_path / "out"
    made = pairs_from_frames(source, output, 8, keep_frames=True, gamma="srgb")
    # 20 frames: two windows of 8; the four that are left are too few.
    assert [pair["frames"] for pair in made["pairs"]] == [
        list(range(8)),
        list(range(8, 16)),
    ]
    assert [pair["name"] for pair in made["pairs"]] == ["GOPR1_000000", "GOPR1_000008"]
    for pair in made["pairs"]:
        window = [frames[k] for k in pair["frames"]]
        name = f"{pair['name']}.png"
        average = np.rint(255 * blur_from_frames(window, "srgb"))
        np.testing.assert_array_equal(load(output / "blur" / name), average)
        assert pair["label"] == pair["frames"][0] + 4
        np.testing.assert_array_equal(load(output / "sharp" / name), window[4])
        for k in range(8):
            kept = load(output / "frames" / pair["name"] / f"{k:02d}.png")
            np.testing.assert_array_equal(kept, window[k])
    written = json.loads((output / "metadata" / "GOPR1.json").read_text())
    assert written == made
    assert (made["fps"], made["gamma"], made["source"]) == (None, "srgb", "GOPR1")
    assert len(files(output)) == 2 * 2 + 16 + 1
    (blurry, sharp), *others = paired_folder(output / "blur", output / "sharp")
    assert len(others) == 1 and blurry.shape == sharp.shape == (1, 24, 32, 3)


def test_gopro_pair(tmp_path):
    made = pairs_from_frames(GOPRO, tmp_path, 8, name="a")
    assert [pair["label"] for pair in made["pairs"]] == [4]
    label = load(tmp_path / "sharp" / "a_000000.png")
    np.testing.assert_array_equal(label, load(GOPRO / "000218.png"))
    frames = gopro_frames()
    exact = 255 * np.mean((frames / 255.0) ** 2.2, axis=0) ** (1 / 2.2)
    error = load(tmp_path / "blur" / "a_000000.png") - exact
    assert np.abs(error).max() < 0.501


def test_pairs_of_a_video_and_of_its_frames_are_equal(tmp_path):
    frames = moving_frames(40)
    folder = save_frames(tmp_path / "frames", frames)
    video = save_video(tmp_path / "clip.mkv", frames)
    made = [
        pairs_from_frames(source, tmp_path / f"{k}", name="x", seed=3)
        for k, source in enumerate((folder, video))
    ]
    assert made[1]["fps"] == 240
    assert made[0]["pairs"] == made[1]["pairs"] and len(made[0]["pairs"]) > 2
    names = files(tmp_path / "0")
    assert names == files(tmp_path / "1")
    for name in names:
        if name.endswith(".png"):
            a, b = (load(tmp_path / k / name) for k in "01")
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("stride", [None, 1, 5, 20])
def test_windows(tmp_path, stride):
    source = save_frames(tmp_path / "f", moving_frames(100, (4, 4)))
    settings = {"stride": stride, "seed": 5}
    made = pairs_from_frames(source, tmp_path / "a", (7, 13), **settings)["pairs"]
    lengths = [len(pair["frames"]) for pair in made]
    assert min(lengths) >= 7 and max(lengths) <= 13 and len(set(lengths)) > 1
    for pair, following in itertools.pairwise(made):
        first, last = pair["frames"][0], pair["frames"][-1]
        assert pair["frames"] == list(range(first, last + 1))
        assert following["frames"][0] == (first + stride if stride else last + 1)
    assert 100 - made[-1]["frames"][0] < max(stride or 0, 13) + 7
    # The seed decides; a window does not depend on those before it.
    again = pairs_from_frames(source, tmp_path / "b", (7, 13), max_pairs=2, **settings)[
        "pairs"
    ]
    assert again == made[:2]
    other = pairs_from_frames(source, tmp_path / "c", seed=6, stride=stride)["pairs"]
    assert [len(pair["frames"]) for pair in other][:5] != lengths[:5]


def test_no_window_spans_a_cut(tmp_path):
    scenes = [moving_frames(10, seed=1), moving_frames(9, seed=2)]
    source = save_frames(tmp_path / "f", scenes[0] + scenes[1])
    made = pairs_from_frames(source, tmp_path / "out", (4, 6))
    assert made["cuts"] == 1
    for pair in made["pairs"]:
        assert len({number >= 10 for number in pair["frames"]}) == 1
    assert any(pair["frames"][0] == 10 for pair in made["pairs"])
    one_shot = pairs_from_frames(GOPRO, tmp_path / "other", (4, 6))
    assert one_shot["cuts"] == 0


def test_repeated_frames_are_left_out(tmp_path):
    frames = [frame for frame in moving_frames(8) for _ in range(2)]
    source = save_frames(tmp_path / "f", frames)
    made = pairs_from_frames(source, tmp_path / "out", 8)
    assert made["repeated"] == 8
    (pair,) = made["pairs"]
    assert pair["frames"] == list(range(0, 16, 2)) and pair["label"] == 8


def test_too_few_frames(tmp_path):
    source = save_frames(tmp_path / "f", moving_frames(6))
    message = "no 7 consecutive frames .* it has 6, 0 equal .* num_frames="
    with pytest.raises(ValueError, match=message):
        pairs_from_frames(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    still = save_frames(tmp_path / "still", [moving_frames(1)[0]] * 9)
    with pytest.raises(ValueError, match="it has 9, 8 equal to the one before"):
        pairs_from_frames(still, tmp_path / "out")


@pytest.mark.parametrize(
    "settings",
    [
        {"num_frames": 1},
        {"num_frames": (9, 7)},
        {"num_frames": (7, 9, 13)},
        {"stride": 0},
        {"max_pairs": 0},
        {"gamma": -1},
    ],
)
def test_wrong_settings(tmp_path, settings):
    ((key, value),) = settings.items()
    with pytest.raises(ValueError) as caught:
        pairs_from_frames(GOPRO, tmp_path, **settings)
    assert str(caught.value).endswith(f"Received: {key}={value}")
    assert files(tmp_path) == []


# Pairs of photos.


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(moving_frames(1, (60, 80))[0]).save(path)
    return path


def test_pairs_of_a_photo(photo, tmp_path):
    output = tmp_path / "out"
    blur = MotionBlur(6.0, num_frames=4)
    made = pairs_from_photo(photo, output, 2, size=16, seed=1, blur=blur)
    assert [pair["name"] for pair in made["pairs"]] == ["photo_0", "photo_1"]
    pixels = load(photo)
    for pair in made["pairs"]:
        (y, x), name = pair["origin"], f"{pair['name']}.png"
        assert 10 <= y <= 60 - 26 and 10 <= x <= 80 - 26
        sharp = load(output / "sharp" / name)
        np.testing.assert_array_equal(sharp, pixels[y : y + 16, x : x + 16])
        source = pixels[None, y - 10 : y + 26, x - 10 : x + 26] / np.float32(255)
        blurry, _ = synthesize_motion_blur(source, [pair["seed"]], blur, margin=10)
        expected = np.rint(255 * np.array(blurry)[0])
        np.testing.assert_array_equal(load(output / "blur" / name), expected)
    assert made["pairs"][0]["origin"] != made["pairs"][1]["origin"]
    assert json.loads((output / "metadata" / "photo.json").read_text()) == made
    others = [
        pairs_from_photo(photo, tmp_path / key, 2, size=16, blur=blur, **other)
        for key, other in (("a", {"seed": 2}), ("b", {"seed": 1, "name": "other"}))
    ]
    for other in others:
        assert other["pairs"][0]["seed"] != made["pairs"][0]["seed"]


def test_a_pair_has_one_target(photo, tmp_path):
    with pytest.raises(ValueError, match="Received: blur.num_targets=2$"):
        pairs_from_photo(photo, tmp_path, blur=MotionBlur(6.0, num_targets=2))


def test_whole_photos_lose_their_border(photo, tmp_path):
    made = pairs_from_photo(photo, tmp_path, blur=MotionBlur(6.0, num_frames=4))
    assert files(tmp_path / "blur") == files(tmp_path / "sharp") == ["photo.png"]
    sharp = load(tmp_path / "sharp" / "photo.png")
    np.testing.assert_array_equal(sharp, load(photo)[10:-10, 10:-10])
    assert made["pairs"][0]["origin"] == [10, 10]


def test_large_photos_are_reduced(photo, tmp_path):
    still = MotionBlur(0.0, max_noise=0.0)
    made = pairs_from_photo(photo, tmp_path, max_megapixels=0.0012, blur=still)
    assert made["reduced_size"] == [30, 40]
    assert (made["size"], made["max_megapixels"]) == (None, 0.0012)
    expected = Image.open(photo).resize((40, 30), Image.Resampling.LANCZOS)
    expected = np.asarray(expected)[4:-4, 4:-4]
    np.testing.assert_array_equal(load(tmp_path / "sharp" / "photo.png"), expected)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"size": 64}, "too small: 80x60 pixels; .* need 120"),
        ({"blur": MotionBlur(40)}, "too small"),
        ({"size": 0}, "Received: size=0"),
        ({"count": 0}, "Received: count=0"),
        ({"max_megapixels": 0}, "Received: max_megapixels=0"),
    ],
)
def test_photos_that_cannot_be_used(photo, tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        pairs_from_photo(photo, tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


def test_photo_that_cannot_be_read(tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        pairs_from_photo(tmp_path / "missing.jpg", tmp_path / "out")
