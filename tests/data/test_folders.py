import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_mhdeblur.data import (
    MotionBlur,
    Patches,
    list_images,
    list_pairs,
    paired_files,
    paired_folder,
    sharp_folder,
    synthesized_folder,
)


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array, "uint8")).save(path, **options)


def coordinates(index, height=40, width=50, flag=0):
    """Pixels that say where they are: row, column, number of the image."""
    y, x = np.mgrid[:height, :width]
    return np.stack([y, x, np.full_like(x, 2 * index + flag)], axis=-1)


@pytest.fixture
def folders(tmp_path):
    """Five pairs; the last channel is even in blurry images, odd in sharp ones."""
    for k in range(5):
        save(tmp_path / "blur" / f"{k}.png", coordinates(k))
        save(tmp_path / "sharp" / f"{k}.png", coordinates(k, flag=1))
    return tmp_path / "blur", tmp_path / "sharp"


def levels(images):
    """[0, 1] floats as the integers of the files."""
    scaled = np.array(images) * 255
    np.testing.assert_allclose(scaled, np.rint(scaled), atol=1e-3)
    return np.rint(scaled).astype(int)


def small(**settings):
    return Patches(**{"patch_size": 16, "batch_size": 2, **settings})


def whole(*folders):
    return [
        (levels(blurry), levels(sharp)) for blurry, sharp in paired_folder(*folders)
    ]


def batches(folders, count=None, **settings):
    dataset = paired_folder(*folders, small(**settings))
    dataset = dataset if count is None else dataset.take(count)
    return [(levels(blurry), levels(sharp)) for blurry, sharp in dataset]


def orientation(patch):
    """Whether rows run along rows, downwards, and columns to the right."""
    upright = patch[0, 0, 0] == patch[0, 1, 0]
    patch = patch if upright else patch.transpose(1, 0, 2)
    down = patch[1, 0, 0] > patch[0, 0, 0]
    right = patch[0, 1, 1] > patch[0, 0, 1]
    return bool(upright), bool(down), bool(right)


def patches(folders, passes=1, **settings):
    dataset = paired_folder(*folders, small(batch_size=1, **settings))
    return [levels(blurry)[0] for _ in range(passes) for blurry, _ in dataset]


# Patches.


@pytest.mark.parametrize("crops", [1, 4])
def test_both_images_of_a_pair_are_cropped_and_turned_alike(folders, crops):
    pairs = batches(folders, crops_per_image=crops)
    assert len(pairs) == 5 * crops // 2
    for blurry, sharp in pairs:
        assert blurry.shape == (2, 16, 16, 3)
        np.testing.assert_array_equal(blurry[..., :2], sharp[..., :2])
        np.testing.assert_array_equal(blurry[..., 2] + 1, sharp[..., 2])
        for patch in blurry:
            assert len(np.unique(patch[..., 2])) == 1
            for axis in (0, 1):  # a whole square of neighbouring pixels
                values = np.unique(patch[..., axis])
                np.testing.assert_array_equal(values, values[0] + np.arange(16))


def test_samples_of_a_batch_have_their_own_origins(folders):
    (blurry, _), *_ = batches(folders, batch_size=8, crops_per_image=4)
    origins = {tuple(patch[..., :2].min(axis=(0, 1))) for patch in blurry}
    assert len(origins) == 8


def test_origins_cover_the_image(folders):
    found = patches(folders, crops_per_image=200, augment=False)
    origins = np.array([patch[0, 0, :2] for patch in found])
    assert tuple(origins.min(axis=0)) == (0, 0)
    assert tuple(origins.max(axis=0)) == (40 - 16, 50 - 16)
    assert np.abs(origins.mean(axis=0) - (12, 17)).max() < 1.5


def test_patch_as_large_as_the_image(folders):
    found = patches(folders, augment=False)
    assert len({patch[..., 2].max() for patch in found}) == 5
    whole = batches(folders, patch_size=40, augment=False)
    assert {int(patch[0, 0, 0]) for blurry, _ in whole for patch in blurry} == {0}


def test_eight_orientations_with_augmentation_and_one_without(folders):
    found = [orientation(patch) for patch in patches(folders, crops_per_image=40)]
    counts = {key: found.count(key) for key in set(found)}
    assert len(counts) == 8 and min(counts.values()) > 10  # 25 expected of each
    plain = patches(folders, crops_per_image=4, augment=False)
    assert {orientation(patch) for patch in plain} == {(True, True, True)}


def test_a_pass_visits_every_image_once_in_random_order(folders):
    orders = [
        [int(patch[0, 0, 2]) // 2 for patch in patches(folders, seed=seed)]
        for seed in range(4)
    ]
    assert all(sorted(order) == [0, 1, 2, 3, 4] for order in orders)
    assert len({tuple(order) for order in orders}) > 1


def test_the_seed_gives_the_patches(folders):
    first, again, other = (patches(folders, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.any(np.array(first) != other)


def test_a_second_pass_draws_anew(folders):
    found = patches(folders, passes=2)
    assert np.any(np.array(found[:5]) != found[5:])


@pytest.mark.parametrize("start", [1, 3, 7])
def test_a_stream_goes_on_where_it_stopped(folders, start):
    stream = batches(folders, 10, stream_from=0)
    later = batches(folders, 10 - start, stream_from=start)
    for expected, found in zip(stream[start:], later, strict=True):
        np.testing.assert_array_equal(found, expected)
    images = np.concatenate([blurry[:, 0, 0, 2] for blurry, _ in stream]) // 2
    for k in range(4):  # still every image once per pass
        assert set(images[5 * k : 5 * k + 5]) == set(range(5))


def test_one_pair_is_enough(folders):
    for folder in folders:
        for path in sorted(folder.iterdir())[1:]:
            path.unlink()
    assert len(batches(folders, 3, stream_from=0)) == 3


def test_a_pass_without_a_batch_is_refused(folders):
    dataset = paired_folder(*folders, small(batch_size=10, crops_per_image=2))
    assert len(list(dataset)) == 1
    with pytest.raises(ValueError, match="10 patches.* Received: batch_size=11"):
        paired_folder(*folders, small(batch_size=11, crops_per_image=2))
    stream = paired_folder(*folders, small(batch_size=11, stream_from=0))
    assert len(list(stream.take(2))) == 2


# Whole images and decoding.


def test_whole_images_in_the_order_of_their_names(tmp_path):
    for k, name in enumerate(["b", "a", "sub/c"]):
        for flag, folder in enumerate(["blur", "sharp"]):
            save(
                tmp_path / folder / f"{name}.png",
                coordinates(k, height=8 + k, flag=flag),
            )
    pairs = whole(tmp_path / "blur", tmp_path / "sharp")
    assert [blurry.shape for blurry, _ in pairs] == [
        (1, 9, 50, 3), (1, 8, 50, 3), (1, 10, 50, 3),
    ]  # fmt: skip
    for k, (blurry, sharp) in zip((1, 0, 2), pairs):
        np.testing.assert_array_equal(blurry[0], coordinates(k, 8 + k))
        np.testing.assert_array_equal(sharp[0], coordinates(k, 8 + k, flag=1))


@pytest.mark.parametrize(
    "name, options",
    [
        ("photo.jpg", {"quality": 80}),
        ("photo.JPEG", {"quality": 95, "subsampling": 0, "progressive": True}),
        ("photo.png", {}),
        ("photo.bmp", {}),
        ("jpeg_inside.png", {"format": "JPEG"}),
    ],
)
def test_pixels_are_those_of_pillow(tmp_path, name, options):
    noise = np.random.default_rng(0).integers(0, 256, (33, 47, 3))
    for folder in ("blur", "sharp"):
        save(tmp_path / folder / name, noise, **options)
    ((blurry, sharp),) = whole(tmp_path / "blur", tmp_path / "sharp")
    expected = np.array(Image.open(tmp_path / "blur" / name))
    np.testing.assert_array_equal(blurry[0], expected)
    np.testing.assert_array_equal(sharp[0], expected)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK"])
def test_other_colour_modes_become_rgb(tmp_path, mode):
    image = Image.fromarray(coordinates(9, 24, 24).astype("uint8")).convert(mode)
    name = "x.jpg" if mode == "CMYK" else "x.png"
    for folder in ("blur", "sharp"):
        (tmp_path / folder).mkdir()
        image.save(tmp_path / folder / name)
    ((blurry, _),) = whole(tmp_path / "blur", tmp_path / "sharp")
    expected = np.array(Image.open(tmp_path / "blur" / name).convert("RGB"), "int")
    assert np.abs(blurry[0] - expected).max() <= (2 if mode == "CMYK" else 0)


def test_suffixes_of_a_pair_may_differ(tmp_path):
    save(tmp_path / "blur" / "x.jpg", coordinates(0))
    save(tmp_path / "sharp" / "x.png", coordinates(0))
    assert len(batches((tmp_path / "blur", tmp_path / "sharp"), batch_size=1)) == 1


def test_jpeg_with_data_behind_its_end_is_sound(tmp_path):
    for folder in ("blur", "sharp"):
        save(tmp_path / folder / "motion_photo.jpg", coordinates(0))
        with open(tmp_path / folder / "motion_photo.jpg", "ab") as file:
            file.write(b"a film" * 1000)
    assert len(batches((tmp_path / "blur", tmp_path / "sharp"), batch_size=1)) == 1


# Lists of pairs.


def test_listed_pairs_give_what_their_folders_give(folders):
    pairs = list_pairs(*folders)
    assert pairs == [tuple(f / f"{k}.png" for f in folders) for k in range(5)]
    expected = paired_folder(*folders, small(stream_from=3)).take(4)
    found = paired_files(pairs, small(stream_from=3)).take(4).as_numpy_iterator()
    expected = expected.as_numpy_iterator()
    np.testing.assert_array_equal(list(found), list(expected))


def test_lists_with_problems(folders):
    pairs = list_pairs(*folders)
    (folders[1] / "3.png").unlink()
    with pytest.raises(ValueError, match="1 of 5 pairs .*\n.*blur/3.png: no partner"):
        list_pairs(*folders)
    assert list_pairs(*folders, skip_broken=True) == pairs[:3] + pairs[4:]
    with pytest.raises(ValueError, match="sharp/3.png: not a readable image"):
        paired_files(pairs, small())
    with pytest.raises(ValueError, match=r"Received: pairs=\[\]"):
        paired_files([])


# Wrong files.


def cut(path):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * 0.9)])


def spoil(kind, blur, sharp):
    """Spoils the pair 3; returns what the message must say."""
    path = sharp / "3.png"
    image = coordinates(3)
    if kind == "text":
        path.write_text("no image")
        return "sharp/3.png: not a readable image"
    if kind == "empty":
        path.write_bytes(b"")
        return "sharp/3.png: not a readable image"
    if kind == "truncated png":
        cut(path)
        return "sharp/3.png: not a readable image"
    if kind in ("truncated jpg", "truncated bmp"):
        path.unlink()
        path = sharp / f"3.{kind[-3:]}"
        save(path, image)
        cut(path)
        return rf"sharp/3.{kind[-3:]}: a truncated \w+ file"
    if kind == "truncated jpeg named png":
        save(path, image, format="JPEG")
        cut(path)
        return "sharp/3.png: a truncated JPEG file"
    if kind == "tiff named png":
        save(path, image, format="TIFF")
        return "sharp/3.png: a TIFF file"
    if kind == "folder":
        path.unlink()
        path.mkdir()
        return "sharp/3.png: not a readable image"
    if kind == "only blurry":
        path.unlink()
        return "blur/3.png: no partner in .*sharp"
    if kind == "only sharp":
        (blur / "3.png").unlink()
        return "sharp/3.png: no partner in .*blur"
    if kind == "palette":
        path.unlink()
        Image.fromarray(image.astype("uint8")).quantize(8).save(sharp / "3.bmp")
        return "sharp/3.bmp: a BMP file with a palette"
    if kind == "two of a name":
        save(sharp / "3.bmp", image)
        return "blur/3.png: has the same name as .*sharp/3.bmp"
    if kind == "size":
        save(path, coordinates(3, 41, 50))
        return "sizes differ, 50x40 and 50x41"
    if kind == "small":
        save(blur / "3.png", coordinates(3, 15, 50))
        save(path, coordinates(3, 15, 50))
        return "blur/3.png: 50x15 is less than the 16 pixels needed"
    assert kind == "orientation"
    exif = Image.Exif()
    exif[0x0112] = 3
    save(path, image, exif=exif)
    return "EXIF orientations differ, 1 and 3"


@pytest.mark.parametrize(
    "kind",
    ["text", "empty", "truncated png", "truncated jpg", "truncated bmp",
     "truncated jpeg named png", "tiff named png", "folder", "only blurry",
     "only sharp", "palette", "two of a name", "size", "small", "orientation"],
)  # fmt: skip
def test_wrong_files_are_named_before_training(folders, kind):
    blur, sharp = folders
    reason = spoil(kind, blur, sharp)
    with pytest.raises(ValueError, match=reason) as info:
        paired_folder(blur, sharp, small())
    message = str(info.value)
    assert message.startswith("1 of 5 pairs cannot be used (`skip_broken=True`")
    assert not any(f"/{k}.png" in message for k in (0, 1, 2, 4))
    pairs = paired_folder(*folders, small(batch_size=1), skip_broken=True)
    assert {int(levels(blurry)[0, 0, 0, 2]) // 2 for blurry, _ in pairs} == {0, 1, 2, 4}


def test_equal_orientations_are_taken_as_stored(folders):
    exif = Image.Exif()
    exif[0x0112] = 6
    for flag, folder in enumerate(folders):
        save(folder / "3.png", coordinates(3, flag=flag), exif=exif)
    pairs = whole(*folders)
    np.testing.assert_array_equal(pairs[3][0][0], coordinates(3))
    np.testing.assert_array_equal(pairs[3][1][0], coordinates(3, flag=1))


def test_nothing_left(folders):
    for path in folders[1].iterdir():
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="5 of 5 pairs"):
        paired_folder(*folders, skip_broken=True)


def test_long_lists_are_cut(tmp_path):
    for k in range(30):
        save(tmp_path / f"{k:02}.png", coordinates(k, 8, 8))
    with pytest.raises(ValueError, match="30 of 30 photos") as info:
        synthesized_folder(tmp_path, small())
    assert "and 10 more" in str(info.value) and "/25.png" not in str(info.value)


def test_missing_and_empty_folders(folders, tmp_path):
    with pytest.raises(ValueError, match="no such folder. Received: folder='.*/none'"):
        paired_folder(folders[0], tmp_path / "none")
    (tmp_path / "nothing").mkdir()
    (tmp_path / "nothing" / "notes.txt").write_text("x")
    with pytest.raises(ValueError, match="no .png.* Received: folder='.*/nothing'"):
        synthesized_folder(tmp_path / "nothing", small())


def test_list_images_is_sorted_and_looks_below(tmp_path):
    for name in ["b.PNG", "a/z.jpg", "c.txt", ".d.png", ".thumbnails/e.png"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    names = [str(p.relative_to(tmp_path)) for p in list_images(str(tmp_path))]
    assert names == ["a/z.jpg", "b.PNG"]


# Synthesized blur.


def test_synthesized_labels_are_pieces_of_the_photos(tmp_path):
    for k in range(3):
        save(tmp_path / f"{k}.png", coordinates(k, 60, 60))
    blur = MotionBlur(6.0, num_frames=4, jpeg_quality=(50, 90))
    dataset = synthesized_folder(tmp_path, small(batch_size=4), blur)
    found = list(dataset)
    assert len(found) == 3 * 8 // 4
    for blurry, label in found:
        assert blurry.shape == label.shape == (4, 16, 16, 3)
        for patch in levels(label):
            for axis in (0, 1):
                values = np.unique(patch[..., axis])
                np.testing.assert_array_equal(values, values[0] + np.arange(16))
            # The margin of the path is inside the photo.
            assert 10 <= patch[..., :2].min() and patch[..., :2].max() < 50
        assert np.any(levels(blurry) != levels(label))


@pytest.mark.parametrize("targets", [1, 3])
def test_blur_beside_the_pipeline_is_the_same(tmp_path, targets):
    for k in range(3):
        save(tmp_path / f"{k}.png", coordinates(k, 60, 60))
    patches = small(batch_size=4, seed=3, stream_from=0)
    blur = MotionBlur(6.0, num_frames=4, num_targets=targets, max_noise=0.0)
    assert blur.margin == 10
    sources, seeds = next(iter(sharp_folder(tmp_path, patches, margin=blur.margin)))
    assert sources.shape == (4, 36, 36, 3) and sources.dtype == "uint8"
    expected = next(iter(synthesized_folder(tmp_path, patches, blur)))
    assert expected[1].shape == (4, *[targets] * (targets > 1), 16, 16, 3)
    for found, images in zip(blur(sources, seeds), expected, strict=True):
        np.testing.assert_allclose(found, images, atol=1.01 / 255)


@pytest.mark.parametrize(
    "name, value",
    [("patch_size", None), ("batch_size", 0), ("batch_size", 2.0)]
    + [("crops_per_image", 0)],
)
def test_wrong_patches(name, value):
    with pytest.raises(ValueError, match=f"Received: {name}={value}"):
        Patches(**{name: value})


def test_synthesized_stream_goes_on_where_it_stopped(tmp_path):
    for k in range(3):
        save(tmp_path / f"{k}.png", coordinates(k, 60, 60))

    def stream(start, count):
        patches = small(crops_per_image=1, stream_from=start)
        dataset = synthesized_folder(tmp_path, patches, MotionBlur(6.0, num_frames=4))
        return list(dataset.take(count).as_numpy_iterator())

    for expected, found in zip(stream(0, 5)[2:], stream(2, 3), strict=True):
        np.testing.assert_array_equal(found[1], expected[1])
        np.testing.assert_allclose(found[0], expected[0], atol=1.01 / 255)


def test_types(folders):
    blurry, sharp = paired_folder(*folders, small()).element_spec
    assert blurry == sharp == tf.TensorSpec((2, 16, 16, 3), tf.float32)
    blurry, _ = paired_folder(*folders).element_spec
    assert blurry == tf.TensorSpec((None, None, None, 3), tf.float32)
