import dataclasses
import io
import os
import stat
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from keras_mhdeblur.photos import (
    ImageFileError,
    Photo,
    check_format,
    photos_of,
    pixel_limit,
    png_tiff,
    read_image,
    write_image,
)
from keras_mhdeblur.photos.pillow_images import photo_from_pil
from keras_mhdeblur.photos.pixels import (
    from_float,
    linear_to_srgb,
    srgb_to_linear,
    to_float,
)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def random_bytes(rng, *shape):
    return rng.integers(0, 256, shape, dtype="uint8")


def srgb_profile():
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def chunk(name, content):
    return (
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
    )


def write_png(path, size, bits, kind, data, more=b""):
    """A PNG by the letter of the specification, without any library."""
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", *size, bits, kind, 0, 0, 0))
        + more
        + chunk(b"IDAT", zlib.compress(data))
        + chunk(b"IEND", b"")
    )


def write_png16(path, array, more=b""):
    height, width, channels = array.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = array.astype(">u2").reshape(height, -1)
    data = b"".join(b"\0" + row.tobytes() for row in rows)
    write_png(path, (width, height), 16, kind, data, more)


def decode_png16(path):
    """The samples of a 16-bit PNG, read without Pillow's cut to 8 bits."""
    import tensorflow as tf

    return tf.io.decode_png(path.read_bytes(), dtype=tf.uint16).numpy()


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_eight_bit_files_come_back_unchanged(tmp_path, rng, mode):
    array = random_bytes(rng, 5, 7, len(mode)).squeeze()
    Image.fromarray(array).save(tmp_path / "in.png")
    photo = read_image(tmp_path / "in.png")
    colours = array[..., None] if mode == "L" else array
    colours = colours[..., :1] if mode in ("L", "LA") else colours[..., :3]
    np.testing.assert_array_equal(
        photo.pixels, np.broadcast_to(colours / np.float32(255), (5, 7, 3))
    )
    assert photo.gray == (mode in ("L", "LA")) and photo.depth == 8
    write_image(tmp_path / "out.png", photo)
    with Image.open(tmp_path / "out.png") as image:
        assert image.mode == mode
        np.testing.assert_array_equal(np.asarray(image), array)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_sixteen_bit_png_keeps_every_bit_profile_and_exif(tmp_path, rng, channels):
    array = rng.integers(0, 65536, (6, 5, channels), dtype="uint16")
    write_png16(tmp_path / "in.png", array)
    photo = read_image(tmp_path / "in.png")
    assert photo.depth == 16 and photo.gray == (channels < 3)
    np.testing.assert_allclose(photo.pixels[..., 0], array[..., 0] / 65535, atol=1e-7)
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    photo.exif, photo.icc_profile = exif.tobytes(), srgb_profile()
    write_image(tmp_path / "out.png", photo)
    np.testing.assert_array_equal(decode_png16(tmp_path / "out.png"), array)
    with Image.open(tmp_path / "out.png") as image:
        image.load()
        assert image.info["icc_profile"] == photo.icc_profile
        assert image.getexif()[0x010F] == "Maker"
    again = read_image(tmp_path / "out.png")
    assert again.exif is not None
    # An RGB profile means nothing for gray pixels.
    assert again.icc_profile == (photo.icc_profile if channels > 2 else None)


def test_sixteen_bits_and_a_transparent_colour(tmp_path):
    array = np.array([[[1, 2, 3], [1, 2, 4]]], "uint16")
    clear = chunk(b"tRNS", struct.pack(">3H", 1, 2, 3))
    write_png16(tmp_path / "in.png", array, clear)
    photo = read_image(tmp_path / "in.png")
    np.testing.assert_array_equal(photo.alpha, [[0, 65535]])
    np.testing.assert_array_equal(photo.to_array()[..., :3], array)


@pytest.mark.parametrize("bits, grays", [(1, 255), (2, 85), (4, 17), (8, 1)])
def test_few_bits_and_a_transparent_gray(tmp_path, bits, grays):
    data = bytes([0, 1 << (8 - bits), 0])  # one, and zeros up to the byte's end
    clear = chunk(b"tRNS", struct.pack(">H", 1))
    write_png(tmp_path / "in.png", (2, 1), bits, 0, data, clear)
    photo = read_image(tmp_path / "in.png")
    assert photo.to_array().tolist() == [[[grays, 0], [0, 255]]]


def test_a_png_keeps_what_describes_its_colours(tmp_path, rng):
    array = rng.integers(0, 65536, (6, 5, 3), dtype="uint16")
    numbers = 31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000
    chunks = (
        chunk(b"cICP", bytes([9, 16, 0, 1]))
        + chunk(b"gAMA", struct.pack(">I", 100000))
        + chunk(b"cHRM", struct.pack(">8I", *numbers))
        + chunk(b"sRGB", b"\0")
        + chunk(b"pHYs", struct.pack(">IIB", 11811, 11811, 1))
    )
    other = chunk(b"tIME", bytes(7))
    write_png16(tmp_path / "in.png", array, chunks + other)
    write_image(tmp_path / "out.png", read_image(tmp_path / "in.png"))
    write_png16(tmp_path / "expected.png", array, chunks)
    length = 33 + len(chunks)
    assert (tmp_path / "out.png").read_bytes()[:length] == (
        tmp_path / "expected.png"
    ).read_bytes()[:length]
    with Image.open(tmp_path / "out.png") as image:
        assert image.info["gamma"] == 1 and image.info["srgb"] == 0


def write_tiff(path, array, *, order="<", planes=False, **tags):
    """A TIFF without compression, by the letter of the specification."""
    height, width, channels = array.shape
    array = array.astype(array.dtype.newbyteorder(order))
    parts = np.moveaxis(array, -1, 0) if planes else [array]
    values = {
        256: [width],
        257: [height],
        258: [8 * array.itemsize] * channels,
        259: [1],
        262: [2 if channels > 2 else 1],
        273: [8 + i * parts[0].nbytes for i in range(len(parts))],
        277: [channels],
        278: [height],
        279: [part.nbytes for part in parts],
        284: [2 if planes else 1],
    } | {int(tag[1:]): [value] for tag, value in tags.items()}
    data = b"".join(part.tobytes() for part in parts)
    end = 8 + len(data) + 6 + 12 * len(values)
    entries, more = b"", b""
    for tag, value in sorted(values.items()):
        field = struct.pack(f"{order}{len(value)}I", *value)
        if len(value) > 1:
            more, field = more + field, struct.pack(f"{order}I", end + len(more))
        entries += struct.pack(f"{order}HHI", tag, 4, len(value)) + field
    path.write_bytes(
        (b"II*\0" if order == "<" else b"MM\0*")
        + struct.pack(f"{order}I", 8 + len(data))
        + data
        + struct.pack(f"{order}H", len(values))
        + entries
        + bytes(4)
        + more
    )


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("planes", [False, True])
def test_sixteen_bit_tiff(tmp_path, rng, order, planes):
    array = rng.integers(0, 65536, (6, 5, 3), dtype="uint16")
    write_tiff(tmp_path / "in.tif", array, order=order, planes=planes)
    photo = read_image(tmp_path / "in.tif")
    assert photo.depth == 16 and photo.notes == ()
    np.testing.assert_array_equal(photo.to_array(), array)


@pytest.mark.parametrize("extra, expected", [(0, (1, 2, 3)), (2, (1, 2, 3, 5))])
def test_fourth_channel_of_a_tiff(tmp_path, extra, expected):
    array = np.array([[[1, 2, 3, 5]]], "uint16")
    write_tiff(tmp_path / "in.tif", array, t338=extra)
    photo = read_image(tmp_path / "in.tif")
    np.testing.assert_array_equal(photo.to_array()[0, 0], expected)


def test_premultiplied_alpha_of_a_tiff(tmp_path):
    array = np.array([[[16384, 0, 32768, 32768], [0, 0, 0, 0]]], "uint16")
    write_tiff(tmp_path / "in.tif", array, t338=1)
    photo = read_image(tmp_path / "in.tif")
    np.testing.assert_allclose(photo.pixels, [[[0.5, 0, 1], [0, 0, 0]]], atol=1e-4)
    np.testing.assert_array_equal(photo.alpha, [[32768, 0]])


def test_negative_tiff(tmp_path, rng):
    array = rng.integers(0, 65536, (4, 3, 1), dtype="uint16")
    write_tiff(tmp_path / "in.tif", 65535 - array, t262=0)
    photo = read_image(tmp_path / "in.tif")
    np.testing.assert_array_equal(photo.to_array(), array[..., 0])


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_written_tiff(tmp_path, rng, dtype, channels):
    import cv2

    array = rng.integers(0, np.iinfo(dtype).max, (6, 5, channels), dtype)
    with open(tmp_path / "out.tif", "wb") as file:
        png_tiff.write_tiff(file, array)
    back = read_image(tmp_path / "out.tif").to_array().reshape(6, 5, -1)
    if channels == 2 and dtype == "uint16":
        np.testing.assert_array_equal(back[..., [0, 3]], array)
        return
    np.testing.assert_array_equal(back, array)
    if channels in (1, 3):
        other = cv2.imread(str(tmp_path / "out.tif"), cv2.IMREAD_UNCHANGED)
        assert other.dtype == dtype
        np.testing.assert_array_equal(other.reshape(6, 5, -1)[..., ::-1], array)


@pytest.mark.parametrize("limit", [0, 2**32])
def test_written_strips(tmp_path, rng, monkeypatch, limit):
    monkeypatch.setattr(png_tiff, "_TIFF_LIMIT", limit)
    array = rng.integers(0, 65536, (150, 5, 3), "uint16")
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x829A] = 0.125
    with open(tmp_path / "out.tif", "wb") as file:
        png_tiff.write_tiff(file, array, exif=exif.tobytes())
    assert (tmp_path / "out.tif").read_bytes()[2] == (42 if limit else 43)
    np.testing.assert_array_equal(read_image(tmp_path / "out.tif").to_array(), array)
    with Image.open(tmp_path / "out.tif") as image:
        assert len(image.tag_v2[273]) == 3
        assert image.getexif().get_ifd(0x8769)[0x829A] == 0.125


@pytest.mark.parametrize("compression", [5, 32773])  # LZW, PackBits
def test_compressed_sixteen_bit_tiff(tmp_path, rng, compression):
    import cv2

    array = rng.integers(0, 65536, (70, 50, 3), dtype="uint16")
    options = [cv2.IMWRITE_TIFF_COMPRESSION, compression]
    assert cv2.imwrite(str(tmp_path / "in.tif"), array[..., ::-1], options)
    np.testing.assert_array_equal(read_image(tmp_path / "in.tif").to_array(), array)


def test_compressed_planes_keep_eight_bits_and_say_so(tmp_path, rng):
    """libtiff gives Pillow no second byte of theirs."""
    array = rng.integers(0, 65536, (6, 5, 3), dtype="uint16")
    plain = tmp_path / "plain.tif"
    write_tiff(plain, array, planes=True)
    with Image.open(plain) as image:
        tags = {tag: image.tag_v2[tag] for tag in image.tag_v2}
    data = [zlib.compress(array[..., c].tobytes()) for c in range(3)]
    tags |= {259: 8, 279: tuple(map(len, data))}
    tags[273] = tuple(int(n) for n in np.cumsum([0, *map(len, data[:2])]))
    directory = png_tiff.ImageFileDirectory_v2(b"II*\0\0\0\0\0")
    for tag, value in tags.items():
        directory[tag] = value
    file = io.BytesIO()
    directory.save(file)
    (tmp_path / "in.tif").write_bytes(file.getvalue() + b"".join(data))
    photo = read_image(tmp_path / "in.tif")
    np.testing.assert_array_equal(photo.to_array(), array >> 8)
    assert photo.depth == 8 and photo.notes == ("8 of its 16 bits are kept",)


def test_sixteen_bits_need_no_tensorflow(tmp_path):
    code = f"""
import sys
import keras_mhdeblur.cli
from keras_mhdeblur.photos import read_image, write_image

for suffix in ("png", "tif"):
    path = {str(tmp_path)!r} + "/in." + suffix
    write_image(path, read_image(path))
assert not {{"tensorflow", "keras"}} & set(sys.modules)
"""
    array = np.zeros((2, 3, 3), "uint16")
    write_png16(tmp_path / "in.png", array)
    write_tiff(tmp_path / "in.tif", array)
    subprocess.run([sys.executable, "-c", code], check=True)


def test_sixteen_bit_gray_tiff(tmp_path, rng):
    array = rng.integers(0, 65536, (4, 3), dtype="uint16")
    Image.fromarray(array).save(tmp_path / "in.tif")
    photo = read_image(tmp_path / "in.tif")
    np.testing.assert_array_equal(photo.to_array(), array)


def test_float_tiff_in_range(tmp_path):
    array = np.array([[0, 0.25, 1]], "float32")
    Image.fromarray(array).save(tmp_path / "in.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "in.tif").pixels[..., 0], array)
    Image.fromarray(255 * array).save(tmp_path / "high.tif")
    with pytest.raises(ImageFileError, match="in 0 to 1"):
        read_image(tmp_path / "high.tif")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(tmp_path, rng, orientation):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "Maker"
    exif.get_ifd(0x8769)[0x829A] = 0.125
    image = Image.fromarray(random_bytes(rng, 4, 6, 3))
    image.save(tmp_path / "in.png", exif=exif)
    with Image.open(tmp_path / "in.png") as stored:
        upright = np.asarray(ImageOps.exif_transpose(stored))
    write_image(tmp_path / "out.png", read_image(tmp_path / "in.png"))
    with Image.open(tmp_path / "out.png") as result:
        np.testing.assert_array_equal(np.asarray(result), upright)
        assert 0x0112 not in result.getexif()
        assert result.getexif()[0x010F] == "Maker"
        assert result.getexif().get_ifd(0x8769)[0x829A] == 0.125


def test_icc_profile_of_a_jpeg_is_kept(tmp_path, rng):
    profile = srgb_profile()
    image = Image.fromarray(random_bytes(rng, 8, 8, 3))
    image.save(tmp_path / "in.jpg", icc_profile=profile)
    photo = read_image(tmp_path / "in.jpg")
    for name in ("out.png", "out.jpg"):
        write_image(tmp_path / name, photo)
        with Image.open(tmp_path / name) as image:
            assert image.info["icc_profile"] == profile


XMP = (
    b'<x:xmpmeta><rdf:Description tiff:Orientation="6" tiff:Make="Maker"/>'
    b"<tiff:Orientation>6</tiff:Orientation></x:xmpmeta>"
)


@pytest.mark.parametrize("source", ["png", "jpg", "webp", "tiff", "avif"])
@pytest.mark.parametrize("target", ["png", "jpg", "webp", "tiff"])
def test_metadata_are_kept(tmp_path, rng, source, target):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    exif.get_ifd(0x8769)[0x829A] = 0.125
    exif.get_ifd(0x8825)[1] = "N"
    profile = srgb_profile()
    array = random_bytes(rng, 16, 24, 3)
    if source in ("png", "tiff"):  # Pillow writes a part of them
        write = {"png": png_tiff.write_png, "tiff": png_tiff.write_tiff}[source]
        with open(tmp_path / f"in.{source}", "wb") as file:
            write(file, array, profile, exif.tobytes(), XMP)
    else:
        options = {"exif": exif, "icc_profile": profile, "xmp": XMP}
        Image.fromarray(array).save(tmp_path / f"in.{source}", **options)
    photo = read_image(tmp_path / f"in.{source}")
    assert photo.pixels.shape == (24, 16, 3)
    write_image(tmp_path / f"out.{target}", photo)
    with Image.open(tmp_path / f"out.{target}") as image:
        image.load()
        assert image.size == (16, 24) and image.info["icc_profile"] == profile
        assert image.info["xmp"] == photo.xmp
        kept = image.getexif()
        assert kept.get(0x0112, 1) == 1 and kept[0x010F] == "Maker"
        assert kept.get_ifd(0x8769)[0x829A] == 0.125 and kept.get_ifd(0x8825)[1] == "N"
    if source == "tiff":  # Pillow turns it and its XMP
        assert b"Make" in photo.xmp and b"Orientation" not in photo.xmp
    else:
        assert photo.xmp == XMP.replace(b"6", b"1")
    # It is not turned again.
    assert read_image(tmp_path / f"out.{target}").pixels.shape == (24, 16, 3)


def test_orientation_of_xmp_alone_is_applied_once(tmp_path, rng):
    Image.fromarray(random_bytes(rng, 4, 6, 3)).save(tmp_path / "in.jpg", xmp=XMP)
    photo = read_image(tmp_path / "in.jpg")
    assert photo.pixels.shape == (6, 4, 3) and photo.xmp == XMP.replace(b"6", b"1")


def test_orientation_of_a_cut_xmp_packet_is_applied_once(tmp_path, rng):
    packet = XMP[: XMP.index(b"6") + 1]
    Image.fromarray(random_bytes(rng, 4, 6, 3)).save(tmp_path / "in.webp", xmp=packet)
    write_image(tmp_path / "out.png", read_image(tmp_path / "in.webp"))
    assert read_image(tmp_path / "out.png").pixels.shape == (6, 4, 3)


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "avif"])
def test_animations_are_refused(tmp_path, rng, suffix):
    first, second = (Image.fromarray(random_bytes(rng, 8, 8, 3)) for _ in range(2))
    path = tmp_path / f"in.{suffix}"
    first.save(path, save_all=True, append_images=[second])
    with pytest.raises(ImageFileError, match="animated"):
        read_image(path)
    first.save(path)
    assert read_image(path).pixels.shape == (8, 8, 3)


@pytest.mark.parametrize("suffix", ["tiff", "mpo"])
def test_first_of_several_pictures(tmp_path, rng, suffix):
    array = np.full((8, 8, 3), 200, "uint8")
    first, second = Image.fromarray(array), Image.fromarray(array // 2)
    first.save(tmp_path / f"in.{suffix}", save_all=True, append_images=[second])
    photo = read_image(tmp_path / f"in.{suffix}")
    np.testing.assert_allclose(255 * photo.pixels, array, atol=2)
    # A camera's second picture is its preview; pages are equals.
    pages = ("only the first page is restored",)
    assert photo.notes == (pages if suffix == "tiff" else ())


def test_palette_with_and_without_transparency(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "opaque.png")
    photo = read_image(tmp_path / "opaque.png")
    assert photo.pixels.tolist() == [[[1, 0, 0], [0, 1, 0]]]
    assert photo.alpha is None
    image.save(tmp_path / "clear.png", transparency=1)
    photo = read_image(tmp_path / "clear.png")
    assert photo.pixels.tolist() == [[[1, 0, 0], [0, 1, 0]]]
    assert photo.alpha.tolist() == [[255, 0]]


def test_cmyk_becomes_rgb(tmp_path):
    # Full magenta and yellow is red; quality 100 keeps it within a few levels.
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "in.jpg", quality=100)
    photo = read_image(tmp_path / "in.jpg")
    np.testing.assert_allclose(photo.pixels[8, 8], (1, 0, 0), atol=0.02)
    assert photo.icc_profile is None and not photo.gray
    assert photo.notes == ("CMYK is converted to RGB, without a colour profile",)


def test_cmyk_with_a_profile_keeps_its_orientation(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.new("CMYK", (16, 8), (0, 255, 255, 0))
    # A profile that is not of CMYK cannot be used; the plain conversion is.
    image.save(tmp_path / "in.jpg", exif=exif, icc_profile=srgb_profile())
    photo = read_image(tmp_path / "in.jpg")
    assert photo.pixels.shape == (16, 8, 3) and photo.exif is None


def test_tiff_tags_about_its_own_layout_are_dropped(tmp_path, rng):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    Image.fromarray(random_bytes(rng, 4, 6, 3)).save(tmp_path / "in.tif", exif=exif)
    photo = read_image(tmp_path / "in.tif")
    kept = Image.Exif()
    kept.load(photo.exif)
    assert dict(kept) == {0x010F: "Maker"} and photo.pixels.shape == (6, 4, 3)


@pytest.mark.parametrize("image_format", ["PNG", "TIFF", "JPEG"])
def test_a_pil_image_is_turned_once(rng, image_format):
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.fromarray(random_bytes(rng, 4, 6, 3)).save(file, image_format, exif=exif)
    with Image.open(file) as image:
        for _ in range(2):
            assert photo_from_pil(image).pixels.shape == (6, 4, 3)


def test_one_bit_image_is_gray(tmp_path):
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "in.png")
    np.testing.assert_array_equal(
        read_image(tmp_path / "in.png").to_array(), [[255, 0]]
    )


def truncated(data):
    return data[: len(data) // 2]


@pytest.mark.parametrize(
    "name, content, reason",
    [
        ("zero.jpg", lambda jpeg, png: b"", "empty"),
        ("text.jpg", lambda jpeg, png: b"no image at all", "not an image"),
        ("photo.jpg", lambda jpeg, png: b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
        ("cut.jpg", lambda jpeg, png: truncated(jpeg), "broken"),
        ("cut.png", lambda jpeg, png: truncated(png), "broken"),
        ("head.png", lambda jpeg, png: png[:20], "not an image|broken"),
        ("flip.png", lambda jpeg, png: png[:60] + b"\xff" * 9 + png[69:], "broken"),
    ],
)
def test_unusable_files_are_named(tmp_path, rng, name, content, reason):
    files = []
    for image_format in ("JPEG", "PNG"):
        file = io.BytesIO()
        Image.fromarray(random_bytes(rng, 64, 64, 3)).save(file, format=image_format)
        files.append(file.getvalue())
    (tmp_path / name).write_bytes(content(*files))
    with pytest.raises(ImageFileError, match=reason) as caught:
        read_image(tmp_path / name)
    assert str(caught.value).endswith(f"Received: path={tmp_path / name}")
    assert caught.value.path == tmp_path / name and "\n" not in caught.value.reason


def test_truncated_sixteen_bit_png_is_refused(tmp_path, rng):
    write_png16(tmp_path / "in.png", rng.integers(0, 65536, (64, 64, 3)))
    (tmp_path / "in.png").write_bytes(truncated((tmp_path / "in.png").read_bytes()))
    with pytest.raises(ImageFileError, match="broken"):
        read_image(tmp_path / "in.png")


def test_a_wrong_suffix_does_not_matter(tmp_path):
    Image.new("RGB", (3, 2)).save(tmp_path / "in.jpg", "PNG")
    assert read_image(tmp_path / "in.jpg").pixels.shape == (2, 3, 3)


def test_decompression_bomb(tmp_path):
    Image.new("1", (2000, 1000)).save(tmp_path / "in.png")
    before = Image.MAX_IMAGE_PIXELS
    with pixel_limit(10**6):
        with pytest.raises(ImageFileError, match="2000000 pixels.*limit of 1000000"):
            read_image(tmp_path / "in.png")
    assert Image.MAX_IMAGE_PIXELS == before
    with pixel_limit(2 * 10**6):
        assert read_image(tmp_path / "in.png").pixels.shape == (1000, 2000, 3)


def test_missing_file_and_folder_are_named(tmp_path):
    with pytest.raises(ImageFileError, match="no such file"):
        read_image(tmp_path / "none.jpg")
    with pytest.raises(ImageFileError, match="folder"):
        read_image(tmp_path)


def test_broken_exif_does_not_hide_the_picture(tmp_path, rng):
    image = Image.fromarray(random_bytes(rng, 4, 4, 3))
    image.save(tmp_path / "in.png", exif=b"Exif\0\0MM\0*\0\0\xff\xff garbage")
    assert read_image(tmp_path / "in.png").pixels.shape == (4, 4, 3)


def test_to_float_scales_by_dtype():
    np.testing.assert_array_equal(
        to_float(np.array([[0, 51, 255]], "uint8")),
        np.array([[0, 0.2, 1]], "float32"),
    )
    np.testing.assert_array_equal(
        to_float(np.array([[0, 13107, 65535]], "uint16")),
        np.array([[0, 0.2, 1]], "float32"),
    )
    overshoot = to_float(np.array([[-1e-6, 0.5, 1 + 1e-6]]))
    assert overshoot.dtype == np.float32
    assert overshoot.tolist() == [[0, 0.5, 1]]


@pytest.mark.parametrize(
    "value, message",
    [
        (np.full((2, 2, 3), 200.0), "0, 1"),
        (np.full((2, 2, 3), -0.1), "0, 1"),
        (np.array([[0.5, np.nan]]), "NaN"),
        (np.array([[0.5, np.inf]]), "NaN"),
        (np.zeros(3), "shape"),
        (np.zeros((2, 2, 2)), "shape"),
        (np.zeros((1, 1, 2, 2, 3)), "shape"),
        (np.zeros((0, 2, 3)), "empty"),
        (np.zeros((2, 2, 3), "int64"), "uint8"),
        (np.zeros((2, 2), bool), "uint8"),
        (3, "path"),
    ],
)
def test_unusable_arrays_are_refused(value, message):
    with pytest.raises(ValueError, match=rf"`picture`.*{message}.*Received: picture="):
        to_float(value, "picture")


def test_from_float_rounds_and_clips():
    pixels = np.array([-1, 0.4 / 255, 0.6 / 255, 2], "float32")
    assert from_float(pixels, "uint8").tolist() == [0, 0, 1, 255]
    every = np.arange(65536, dtype="uint16")
    back = from_float(every / np.float32(65535), "uint16")
    np.testing.assert_array_equal(back, every)


def test_srgb():
    light = np.linspace(0, 1, 1001, dtype="float32")
    np.testing.assert_allclose(srgb_to_linear(linear_to_srgb(light)), light, atol=1e-6)
    # Half of the scale is a fifth of the light.
    assert linear_to_srgb(np.float32(0.2140)) == pytest.approx(0.5, abs=1e-3)


def photo(alpha=None, depth=8):
    return Photo(np.full((2, 2, 3), 0.5, "float32"), alpha=alpha, depth=depth)


@pytest.mark.parametrize("suffix", ["jpg", "mpo", "bmp", "ppm", "pgm", "gif"])
def test_formats_without_alpha(tmp_path, suffix):
    with pytest.raises(ValueError, match="alpha channel.*Received: path="):
        write_image(tmp_path / f"out.{suffix}", photo(alpha=np.zeros((2, 2), "uint8")))


@pytest.mark.parametrize("suffix", ["png", "tif", "webp", "avif", "jp2", "tga"])
@pytest.mark.parametrize("gray", [False, True])
def test_formats_with_alpha(tmp_path, suffix, gray):
    alpha = np.array([[0, 255], [255, 0]], "uint8")
    clear = dataclasses.replace(photo(alpha=alpha), gray=gray)
    write_image(tmp_path / f"out.{suffix}", clear)
    back = read_image(tmp_path / f"out.{suffix}").alpha
    np.testing.assert_allclose(back, alpha, atol=3 if suffix == "avif" else 0)


@pytest.mark.parametrize("suffix", ["xyz", "pdf", "eps", "ico", "psd"])
def test_formats_that_are_not_for_photos(tmp_path, suffix):
    with pytest.raises(ValueError, match="suffix.*Received: path="):
        write_image(tmp_path / f"out.{suffix}", photo())


def test_profiles_that_a_format_cannot_hold(tmp_path):
    gray = Photo(photo().pixels, gray=True, icc_profile=b"profile")
    with pytest.raises(ValueError, match="gray images.*Received: path="):
        write_image(tmp_path / "out.webp", gray)
    clear = np.zeros((2, 2), "uint16")
    deep = Photo(gray.pixels, clear, 16, True, b"profile")
    with pytest.raises(ValueError, match="gray images.*Received: path="):
        write_image(tmp_path / "out.tif", deep)
    profile = srgb_profile() + bytes(2**20)
    large = dataclasses.replace(photo(), icc_profile=profile)
    with pytest.raises(ValueError, match="too long.*TIFF files can.*Received: path="):
        write_image(tmp_path / "out.png", large)
    assert not list(tmp_path.iterdir())
    write_image(tmp_path / "out.tif", large)
    assert read_image(tmp_path / "out.tif").icc_profile == profile


@pytest.mark.parametrize(
    "suffix, side",
    [("jpg", 65500), ("webp", 16383), ("avif", 32768), ("gif", 65535), ("tga", 65535)],
)
def test_largest_side_of_a_format(tmp_path, suffix, side):
    path = tmp_path / f"out.{suffix}"
    with pytest.raises(ValueError, match=f"more than {side} pixels.*Received: path="):
        check_format(path, Photo(np.zeros((1, side + 1, 3), "uint8")))
    write_image(path, Photo(np.zeros((side, 1, 3), "uint8")))
    assert read_image(path).values.shape[:2] == (side, 1)


@pytest.mark.parametrize("name, most", [("exif", 65533), ("xmp", 65504)])
def test_longest_metadata_of_a_jpeg(tmp_path, name, most):
    block = b"Exif\0\0" + bytes(most - 6)
    write_image(
        tmp_path / "out.jpg", dataclasses.replace(photo(), **{name: block[:most]})
    )
    with pytest.raises(ValueError, match=f"{name.upper()} is too long.*Received: path"):
        check_format(
            tmp_path / "out.jpg", dataclasses.replace(photo(), **{name: block + b"0"})
        )


def test_sixteen_bits_become_eight_in_other_formats(tmp_path):
    write_image(tmp_path / "out.jpg", photo(depth=16))
    with Image.open(tmp_path / "out.jpg") as image:
        assert image.getpixel((0, 0)) == (128, 128, 128)


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    target = tmp_path / "out.png"
    target.write_bytes(b"old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_image(target, photo())
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_that_is_missing_is_named(tmp_path):
    target = tmp_path / "none" / "out.png"
    with pytest.raises(FileNotFoundError) as caught:
        write_image(target, photo())
    assert caught.value.filename == str(target)


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_written_files_have_ordinary_permissions(tmp_path):
    write_image(tmp_path / "out.png", photo())
    (tmp_path / "plain").write_bytes(b"")
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert len(modes) == 1


def test_a_name_that_is_too_long_and_an_empty_pil_image():
    with pytest.raises(ImageFileError, match="too long"):
        read_image(300 * "x")
    with pytest.raises(ValueError, match=r"Received: image.size=\(0, 5\)"):
        photos_of(Image.new("RGB", (0, 5)))
