import struct
import warnings

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from keras_mhdeblur.photos import png_tiff, read_image, write_image
from keras_mhdeblur.photos.pillow_images import photo_from_pil

COPYRIGHT, LENS = "© 2024 Jürgen Müller", "Łukasz 50 mm"


def as_pillow_reads(text):
    return text.encode().decode("latin-1")


def with_text(data):
    """Puts text of the same length in UTF-8 where Pillow writes ASCII only."""
    for mark, text in ((b"C", COPYRIGHT), (b"L", LENS)):
        data = data.replace(mark * len(text.encode()), text.encode())
    return data


def exif_block(*entries, order="<", count=None, following=0):
    """An EXIF block by the letter: (tag, type, number of values, their bytes)."""
    end = 8 + 2 + 12 * len(entries) + 4
    directory = struct.pack(f"{order}H", count or len(entries))
    values = b""
    for tag, kind, number, value in entries:
        if len(value) > 4:
            values, value = (
                values + value,
                struct.pack(f"{order}I", end + len(values)),
            )
        directory += struct.pack(f"{order}HHI", tag, kind, number) + value.ljust(
            4, b"\0"
        )
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}I", 8)
    return b"Exif\0\0" + head + directory + struct.pack(f"{order}I", following) + values


def picture(height=8, width=12):
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), "uint8"))


def exif_of(photo):
    exif = Image.Exif()
    exif.load(photo.exif)
    return exif


@pytest.mark.parametrize("source", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("target", ["jpg", "png", "webp", "tif", "avif"])
def test_text_of_any_encoding_is_kept(tmp_path, source, target):
    exif = Image.Exif()
    exif[0x8298] = "C" * len(COPYRIGHT.encode())
    exif.get_ifd(0x8769)[0xA434] = "L" * len(LENS.encode())
    path = tmp_path / f"in.{source}"
    if source == "tif":
        with open(path, "wb") as file:
            png_tiff.write_tiff(file, np.asarray(picture()), exif=exif.tobytes())
        path.write_bytes(with_text(path.read_bytes()))
    else:
        picture().save(path, exif=with_text(exif.tobytes()))
    write_image(tmp_path / f"out.{target}", read_image(path))
    with Image.open(tmp_path / f"out.{target}") as image:
        kept = image.getexif()
        assert kept[0x8298] == as_pillow_reads(COPYRIGHT)
        assert kept.get_ifd(0x8769)[0xA434] == as_pillow_reads(LENS)


@pytest.mark.parametrize(
    "odd",
    [
        (0x011A, 2, 3, b"72\0"),  # XResolution, text
        (0x0213, 2, 9, b"centered\0"),  # YCbCrPositioning, text
        (0x0100, 9, 1, struct.pack("<i", -1)),  # ImageWidth, negative
        (0x9000, 11, 1, struct.pack("<f", 1.5)),  # ExifVersion, a float
    ],
)
@pytest.mark.parametrize("target", ["png", "tif"])
def test_a_tag_that_pillow_cannot_write(tmp_path, odd, target):
    entries = (0x010F, 2, 6, b"Maker\0"), (0x0112, 3, 1, struct.pack("<H", 6)), odd
    picture().save(tmp_path / "in.jpg", exif=exif_block(*entries))
    photo = read_image(tmp_path / "in.jpg")
    assert photo.values.shape == (12, 8, 3)
    write_image(tmp_path / f"out.{target}", photo)
    assert exif_of(read_image(tmp_path / f"out.{target}"))[0x010F] == "Maker"


def test_exif_of_a_bigtiff(tmp_path, monkeypatch):
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Maker", 6
    exif.get_ifd(0x8769)[0x829A] = 0.125
    picture().save(tmp_path / "in.tif", exif=exif.tobytes(), big_tiff=True)
    photo = read_image(tmp_path / "in.tif")
    assert photo.values.shape == (12, 8, 3)
    monkeypatch.setattr(png_tiff, "_TIFF_LIMIT", 0)
    write_image(tmp_path / "out.tif", photo)
    assert (tmp_path / "out.tif").read_bytes()[2] == 43
    kept = exif_of(read_image(tmp_path / "out.tif"))
    assert kept[0x010F] == "Maker" and kept.get_ifd(0x8769)[0x829A] == 0.125


@pytest.mark.parametrize("order", "<>")
def test_values_stay_in_place_and_the_preview_goes(tmp_path, order):
    six = struct.pack(f"{order}H", 6)
    entries = (0x0112, 3, 1, six), (0x010F, 2, 6, b"Maker\0"), (0x927C, 7, 5, b"notes")
    block = exif_block(*entries, order=order, following=8)
    picture().save(tmp_path / "in.jpg", exif=block)
    photo = read_image(tmp_path / "in.jpg")
    assert dict(exif_of(photo)) == {0x010F: "Maker", 0x927C: b"notes"}
    assert not exif_of(photo).get_ifd(1)
    assert len(photo.exif) == len(block)
    assert photo.exif.index(b"notes") == block.index(b"notes")


@pytest.mark.parametrize(
    "damage",
    [
        {"count": 9},  # more tags than there are
        {"count": 2},  # the second of which is nonsense
    ],
)
def test_the_rest_of_a_damaged_block_is_kept(tmp_path, damage):
    block = exif_block((0x010F, 2, 6, b"Maker\0"), **damage)
    picture().save(tmp_path / "in.jpg", exif=block)
    photo = read_image(tmp_path / "in.jpg")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for suffix in ("tif", "png", "avif"):
            write_image(tmp_path / f"out.{suffix}", photo)
            assert exif_of(read_image(tmp_path / f"out.{suffix}"))[0x010F] == "Maker"


def test_directories_in_circles_end(tmp_path):
    pointer = (0x8769, 4, 1, struct.pack("<I", 8))
    picture().save(tmp_path / "in.jpg", exif=exif_block(pointer))
    write_image(tmp_path / "out.tif", read_image(tmp_path / "in.jpg"))
    assert read_image(tmp_path / "out.tif").exif is not None


def test_layers_are_no_metadata(tmp_path):
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[37724], tags[0x010F] = b"Adobe Photoshop Document Data Block\0", "Maker"
    picture().save(tmp_path / "in.tif", tiffinfo=tags)
    assert dict(exif_of(read_image(tmp_path / "in.tif"))) == {0x010F: "Maker"}


def test_exif_of_a_pil_image_that_has_no_file():
    image = picture()
    image.getexif()[0x010F] = "Maker"
    assert dict(exif_of(photo_from_pil(image))) == {0x010F: "Maker"}
