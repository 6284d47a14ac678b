import io
import os
import struct
import sys
import tracemalloc
import types

import numpy as np
import pytest
from PIL import Image

from keras_mhdeblur.photos import (
    ImageFileError,
    Photo,
    png_tiff,
    read_image,
    write_image,
)
from keras_mhdeblur.utils import disk_arrays

pyvips = pytest.importorskip("pyvips")
# Every photo is larger.
LIMIT = 1e-6


def random_array(height, width, channels, dtype="uint8"):
    rng = np.random.default_rng(0)
    return rng.integers(0, np.iinfo(dtype).max + 1, (height, width, channels), dtype)


def assert_same(path, disk=True):
    """A file gives the same read in parts, or as a whole where it cannot be."""
    whole, parts = read_image(path), read_image(path, LIMIT)
    assert disk_arrays.on_disk(parts.values) == disk
    assert not disk_arrays.on_disk(whole.values)
    np.testing.assert_array_equal(parts.to_array(), whole.to_array())
    np.testing.assert_array_equal(parts.values, whole.values)
    names = "depth", "gray", "icc_profile", "exif", "xmp", "notes", "png_chunks"
    for name in names:
        assert getattr(parts, name) == getattr(whole, name), name
    return parts


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_pixels_are_those_of_the_whole(tmp_path, channels, dtype):
    array = random_array(150, 45, channels, dtype)
    for suffix, write in (("png", png_tiff.write_png), ("tif", png_tiff.write_tiff)):
        with open(tmp_path / f"in.{suffix}", "wb") as file:
            write(file, array)
        photo = assert_same(tmp_path / f"in.{suffix}")
        np.testing.assert_array_equal(
            photo.stored(slice(None))[..., -1], array[..., -1]
        )


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize(
    "options",
    [
        {"tile": True, "tile_width": 32, "tile_height": 16},
        {"compression": "lzw", "predictor": "horizontal"},
        {"compression": "packbits"},
        {"compression": "deflate", "bigtiff": True},
    ],
)
def test_kinds_of_tiff(tmp_path, options, dtype):
    array = random_array(31, 45, 3, dtype)
    pyvips.Image.new_from_array(array).tiffsave(str(tmp_path / "in.tif"), **options)
    photo = assert_same(tmp_path / "in.tif")
    np.testing.assert_array_equal(photo.values, array)


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("subsampling", [0, 2])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg(tmp_path, mode, subsampling, progressive):
    image = Image.fromarray(random_array(61, 45, 3)).convert(mode)
    options = {"subsampling": subsampling, "progressive": progressive}
    image.save(tmp_path / "in.jpg", **options)
    assert_same(tmp_path / "in.jpg")


@pytest.mark.parametrize("suffix", ["png", "tif", "jpg"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "Maker"
    image = Image.fromarray(random_array(4, 6, 3))
    image.save(tmp_path / f"in.{suffix}", exif=exif)
    assert b"Maker" in assert_same(tmp_path / f"in.{suffix}").exif


def test_orientation_of_a_bigtiff(tmp_path):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    image = Image.fromarray(random_array(4, 6, 3))
    image.save(tmp_path / "in.tif", exif=exif, big_tiff=True)
    photo = assert_same(tmp_path / "in.tif")
    assert photo.values.shape == (6, 4, 3) and b"Maker" in photo.exif


def test_a_file_that_is_replaced_is_read_anew(tmp_path):
    options = {"tile": True, "tile_width": 32, "tile_height": 16}
    for number in (1, 2):
        array = np.full((31, 45, 3), number, "uint8")
        image = pyvips.Image.new_from_array(array)
        image.tiffsave(str(tmp_path / "new.tif"), **options)
        os.replace(tmp_path / "new.tif", tmp_path / "in.tif")
        np.testing.assert_array_equal(assert_same(tmp_path / "in.tif").values, array)


def test_metadata_behind_the_pixels_of_a_png(tmp_path):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    xmp = b'<rdf:Description tiff:Orientation="6"/>'
    file = io.BytesIO()
    array = random_array(4, 6, 3, "uint16")
    gamma = png_tiff._chunk(b"gAMA", struct.pack(">I", 100000))
    png_tiff.write_png(file, array, None, exif.tobytes(), xmp, gamma)
    data = file.getvalue()
    start, pixels, end = (
        data.index(b"eXIf") - 4,
        data.index(b"IDAT") - 4,
        len(data) - 12,
    )
    parts = data[:start], data[pixels:end], data[start:pixels], data[end:]
    (tmp_path / "in.png").write_bytes(b"".join(parts))
    photo = assert_same(tmp_path / "in.png")
    assert photo.values.shape == (6, 4, 3) and b"Maker" in photo.exif
    assert b'Orientation="1"' in photo.xmp and photo.png_chunks == gamma


def test_other_kinds_are_read_as_a_whole(tmp_path):
    image = Image.fromarray(random_array(6, 5, 4))
    image.convert("RGB").quantize(9).save(tmp_path / "palette.png")
    image.convert("RGB").save(tmp_path / "clear.png", transparency=(1, 2, 3))
    image.convert("1").save(tmp_path / "bits.png")
    image.convert("CMYK").save(tmp_path / "cmyk.jpg")
    image.convert("F").point(lambda value: value / 256).save(tmp_path / "float.tif")
    image.convert("RGB").save(tmp_path / "jpeg.tif", compression="jpeg")
    image.save(tmp_path / "photo.webp", lossless=True)
    for name, channels in (("premultiply", 4), ("miniswhite", 1)):
        vips = pyvips.Image.new_from_array(random_array(6, 5, channels))
        vips.tiffsave(str(tmp_path / f"{name}.tif"), **{name: True})
    for path in sorted(tmp_path.iterdir()):
        assert_same(path, disk=False)


def test_small_photos_are_read_as_a_whole(tmp_path):
    Image.new("RGB", (100, 100)).save(tmp_path / "in.png")
    assert disk_arrays.on_disk(read_image(tmp_path / "in.png", 0.119).values)
    assert not disk_arrays.on_disk(read_image(tmp_path / "in.png", 0.12).values)


@pytest.mark.parametrize("suffix", ["png", "tif", "jpg"])
def test_broken_files_are_named(tmp_path, suffix):
    path = tmp_path / f"in.{suffix}"
    Image.fromarray(random_array(300, 64, 3)).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageFileError, match="broken"):
        read_image(path, LIMIT)


def test_a_full_disk_is_no_broken_file(tmp_path, monkeypatch):
    Image.new("RGB", (9, 7)).save(tmp_path / "in.png")
    usage = types.SimpleNamespace(free=188)  # of 9 * 7 * 3 bytes
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage)
    with pytest.raises(disk_arrays.DiskFullError, match="no room.*Received: folder="):
        read_image(tmp_path / "in.png", LIMIT)
    usage.free += 1
    assert disk_arrays.on_disk(read_image(tmp_path / "in.png", LIMIT).values)


def test_without_pyvips_a_note_says_what_would_help(tmp_path, monkeypatch):
    Image.new("RGB", (9, 7)).save(tmp_path / "in.png")
    monkeypatch.setitem(sys.modules, "pyvips", None)
    photo = read_image(tmp_path / "in.png", LIMIT)
    assert photo.values.shape == (7, 9, 3) and not disk_arrays.on_disk(photo.values)
    (note,) = photo.notes
    assert 'pip install "keras-mhdeblur[large]"' in note


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_reading_and_writing_take_little_memory(tmp_path, suffix):
    alpha = np.full((8000, 1000), 7, "uint8")
    write_image(tmp_path / "in.tif", Photo(np.zeros((8000, 1000, 3), "uint8"), alpha))
    tracemalloc.start()
    try:
        photo = read_image(tmp_path / "in.tif", LIMIT)
        write_image(tmp_path / f"out.{suffix}", photo)
        # Of 32 MB; a band of the writer has 1.
        assert tracemalloc.get_traced_memory()[1] < 8e6
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(
        read_image(tmp_path / f"out.{suffix}").to_array(), photo.to_array()
    )
