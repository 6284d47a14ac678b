"""Damaged and hostile files end in the documented errors, and in bounded time.

MHDEBLUR_FUZZ=100 tries 100 times as many files, and others every time.
"""

import copy
import hashlib
import io
import json
import os
import re
import struct
import zlib
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from keras_mhdeblur import Deblurrer, cli, from_preset, inference
from keras_mhdeblur.cli.photo_paths import find_photos
from keras_mhdeblur.convert import from_torch_checkpoint
from keras_mhdeblur.convert.checkpoint_files import read_state_dict
from keras_mhdeblur.convert.pickled_tensors import CheckpointError
from keras_mhdeblur.engines.litert_model import LiteRTModel
from keras_mhdeblur.networks import NAFNet
from keras_mhdeblur.photos import (
    ImageFileError,
    pixel_limit,
    read_image,
    write_image,
)
from keras_mhdeblur.photos.png_tiff import write_png, write_tiff
from keras_mhdeblur.presets import PresetError, update_metadata
from keras_mhdeblur.presets.files import checksum
from keras_mhdeblur.presets.litert import litert_from_preset

FACTOR = int(os.environ.get("MHDEBLUR_FUZZ", 1))
CHECKPOINTS = Path(__file__).parent / "resources" / "checkpoints"
NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


WRONG_VALUES = (
    *(None, True, -1, 0, 3, 10**6, 10**30, 1.5, float("nan"), "", "x", "\x1b[2J"),
    *([], {}, [[]], [1] * 30, [None], {"a": 1}, {"class_name": "Lambda"}),
)
NEW_KEYS = ("x", "name", "dtype", "class_name", "registered_name", "build_config")


def fuzz(examples):
    return settings(
        max_examples=FACTOR * examples,
        deadline=timedelta(seconds=10),
        phases=[Phase.generate],  # shrinking what fails could take hours
        derandomize=FACTOR == 1,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@st.composite
def damaged(draw, files):
    """(Name, contents) of one of the files, changed in up to five places."""
    name = draw(st.sampled_from(sorted(files)))
    data = bytearray(files[name])
    for _ in range(draw(st.integers(1, 5))):
        start = draw(st.integers(0, max(len(data) - 1, 0)))
        change = draw(st.sampled_from(("bytes", "number", "cut", "remove", "repeat")))
        if change == "bytes":
            new = draw(st.binary(min_size=1, max_size=4))
            data[start : start + len(new)] = new
        elif change == "number":
            size = draw(st.sampled_from((1, 2, 4)))
            order = draw(st.sampled_from(("big", "little")))
            number = draw(st.sampled_from(NUMBERS)) % 256**size
            data[start : start + size] = number.to_bytes(size, order)
        elif change == "cut":
            del data[start:]
        else:
            length = draw(st.integers(1, 64))
            part = data[start : start + length]
            data[start : start + length] = b"" if change == "remove" else 2 * part
    return name, bytes(data)


@st.composite
def changed(draw, content):
    """A copy of what a JSON file holds, changed in up to three places."""
    content = copy.deepcopy(content)
    for _ in range(draw(st.integers(1, 3))):
        containers = list(_containers(content))
        if not containers:
            break
        container = draw(st.sampled_from(containers))
        is_dict = isinstance(container, dict)
        places = list(container) if is_dict else range(len(container))
        place = draw(st.sampled_from(places))
        change = draw(st.sampled_from(("replace", "replace", "remove", "add")))
        value = copy.deepcopy(draw(st.sampled_from(WRONG_VALUES)))
        if change == "replace":
            container[place] = value
        elif change == "remove":
            del container[place]
        elif is_dict:
            container[draw(st.sampled_from(NEW_KEYS))] = value
        else:
            container.insert(place, value)
    return content


def _containers(value):
    """All dicts and lists in a value that are not empty."""
    if isinstance(value, (dict, list)) and value:
        yield value
        for item in value.values() if isinstance(value, dict) else value:
            yield from _containers(item)


# === Images ===


def image_files():
    """Small files of every format that is read, with all metadata."""
    rng = np.random.default_rng(0)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    exif.get_ifd(0x8769)[0x829A] = 0.125
    exif.get_ifd(0x8825)[1] = "N"
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    colours = Image.fromarray(rng.integers(0, 256, (9, 7, 3), "uint8"))
    options = {"exif": exif, "icc_profile": profile, "xmp": xmp}
    files = {}

    def add(name, image, image_format, **options):
        file = io.BytesIO()
        image.save(file, image_format, **options)
        files[name] = file.getvalue()

    for image_format in ("JPEG", "PNG", "TIFF", "WEBP", "AVIF"):
        add(image_format, colours, image_format, **options)
    for image_format in ("BMP", "GIF", "JPEG2000", "PPM", "TGA"):
        add(image_format, colours, image_format)
    add("CMYK", colours.convert("CMYK"), "JPEG", icc_profile=profile)
    add("palette", colours.convert("P"), "PNG", transparency=3)
    for mode in ("1", "I;16"):
        add(mode, colours.convert("L").convert(mode), "TIFF")
    add("float", Image.fromarray(rng.random((9, 7), "float32")), "TIFF")
    for name in ("png", "tiff"):
        deep = rng.integers(0, 65536, (9, 7, 4), "uint16")
        write = {"png": write_png, "tiff": write_tiff}[name]
        write(file := io.BytesIO(), deep, profile, exif.tobytes(), xmp)
        files[f"deep {name}"] = file.getvalue()
    add("density", colours, "PNG", dpi=(300, 300))
    for compression in ("tiff_lzw", "packbits", "jpeg"):
        add(compression, colours, "TIFF", compression=compression)
    pages = {"save_all": True, "append_images": [colours.rotate(180)]}
    for image_format in ("GIF", "PNG", "TIFF", "WEBP", "MPO"):
        add(f"{image_format} of two", colours, image_format, **pages)
    return files


def mend_png(data):
    """Puts right the checksums of a PNG's chunks, which would hide what is in them."""
    result, position = data[:8], 8
    while position + 12 <= len(data):
        (size,) = struct.unpack(">I", data[position : position + 4])
        body = data[position + 4 : position + 8 + size]
        result += data[position : position + 4] + body
        result += struct.pack(">I", zlib.crc32(body))
        position += 12 + size
    return result


IMAGES = image_files()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("files") / "file"


def test_the_images_are_valid(path):
    animated = {f"{name} of two" for name in ("GIF", "PNG", "WEBP")}
    for name, data in IMAGES.items():
        path.write_bytes(data)
        if name in animated:
            with pytest.raises(ImageFileError, match="animated"):
                read_image(path)
        else:
            assert read_image(path).pixels.size == 9 * 7 * 3, name


@fuzz(300)
@given(damaged(IMAGES), st.booleans(), st.sampled_from([None, 1e-6]))
def test_images(path, file, mended, memory_limit_mb):
    _, data = file
    if mended and data.startswith(b"\x89PNG"):
        data = mend_png(data)
    path.write_bytes(data)
    try:
        with pixel_limit(10**6):
            photo = read_image(path, memory_limit_mb)
    except ImageFileError as error:
        assert error.path == path and "\n" not in error.reason
        return
    height, width, _ = photo.pixels.shape
    assert photo.pixels.dtype == np.float32 and photo.pixels.shape[2] == 3
    assert photo.pixels.min() >= 0 and photo.pixels.max() <= 1
    assert photo.alpha is None or photo.alpha.shape == (height, width)
    # What came along, however damaged, can be written and read again.
    for suffix in (".png", ".tiff"):
        copied = path.with_suffix(suffix)
        write_image(copied, photo)
        np.testing.assert_array_equal(read_image(copied).to_array(), photo.to_array())


# === Presets ===


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    """Name -> contents of the files of a small preset."""
    network = NAFNet(
        width=2, encoder_blocks=(0,), middle_blocks=0, decoder_blocks=(0,), num_heads=2
    )
    folder = tmp_path_factory.mktemp("presets") / "tiny"
    Deblurrer(network).save_to_preset(folder, litert=True)
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture(scope="module")
def write_preset(preset, tmp_path_factory):
    """Writes the preset with other contents, for which the checksums are right."""
    folder = tmp_path_factory.mktemp("damaged") / "preset"
    folder.mkdir()

    def write(name, data):
        for file, original in preset.items():
            (folder / file).write_bytes(original)
        (folder / name).write_bytes(data)
        if name != "metadata.json":
            metadata = json.loads(preset["metadata.json"])
            metadata["files"][name] = {
                "sha256": checksum(folder / name),
                "bytes": len(data),
            }
            (folder / "metadata.json").write_text(json.dumps(metadata))
        return folder

    return write


def attempt(function, *arguments):
    try:
        return function(*arguments)
    except PresetError:
        return None


@fuzz(100)
@given(data=st.data())
def test_metadata(preset, write_preset, data):
    original = preset["metadata.json"]
    if data.draw(st.booleans()):
        content = json.dumps(data.draw(changed(json.loads(original)))).encode()
    else:
        _, content = data.draw(damaged({"metadata.json": original}))
    folder = write_preset("metadata.json", content)
    model = attempt(litert_from_preset, folder)
    if model is not None:
        image = np.zeros((5, 6, 3), "uint8")
        assert inference.restore(model, image).image.shape == (5, 6, 3)
    attempt(update_metadata, folder)


@pytest.mark.parametrize(
    "change",
    [
        {"files": {"config.json": {"sha256": "", "bytes": "752"}}},
        {"files": {"config.json": {"sha256": None, "bytes": 752}}},
        {"litert": None},
        {"litert": {"num_heads": 2}},
        {"fingerprint": None, "litert": []},
    ],
)
def test_wrong_metadata(preset, write_preset, change):
    metadata = json.loads(preset["metadata.json"]) | change
    folder = write_preset("metadata.json", json.dumps(metadata).encode())
    with pytest.raises(PresetError):
        litert_from_preset(folder)


@pytest.mark.parametrize(
    "change",
    [{"best_pair": 3}, {"best_pair": [0, 7]}, {"select": {}}, {"select": [5, 5]}],
)
def test_wrong_choice_in_a_configuration(preset, write_preset, change):
    config = json.loads(preset["config.json"])
    config["config"] |= change
    content = json.dumps(config).encode()
    folder = write_preset("config.json", content)
    metadata = json.loads(preset["metadata.json"])
    metadata["files"]["config.json"] = {
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
    }
    (folder / "metadata.json").write_text(json.dumps(metadata))
    for load in (litert_from_preset, from_preset):
        with pytest.raises(PresetError):
            load(folder)


@pytest.mark.parametrize(
    "fact, value",
    [("num_heads", 3.5), ("num_heads", 0), ("multiple", 10**5), ("bytes_per_pixel", 0)],
)
def test_wrong_facts_of_a_litert_file(preset, write_preset, fact, value):
    metadata = json.loads(preset["metadata.json"])
    metadata["litert"][fact] = value
    folder = write_preset("metadata.json", json.dumps(metadata).encode())
    with pytest.raises(PresetError, match="model.tflite"):
        litert_from_preset(folder)


def test_nested_json(write_preset):
    with pytest.raises(PresetError, match="damaged"):
        from_preset(write_preset("metadata.json", b"[" * 10**5))


@fuzz(30)
@given(data=st.data())
def test_configuration(preset, write_preset, data):
    config = data.draw(changed(json.loads(preset["config.json"])))
    folder = write_preset("config.json", json.dumps(config).encode())
    model = attempt(from_preset, folder)
    if model is not None:
        assert isinstance(model, Deblurrer)


@pytest.mark.parametrize("option", ["width", "middle_blocks"])
def test_endless_network(preset, write_preset, option):
    config = json.loads(preset["config.json"])
    config["config"]["network"]["config"][option] = 10**6
    folder = write_preset("config.json", json.dumps(config).encode())
    with pytest.raises(PresetError, match="far larger than the file"):
        from_preset(folder)


def test_configuration_without_a_network(preset, write_preset):
    config = json.loads(preset["config.json"])
    config["config"]["network"]["config"] = [None, "x"]
    folder = write_preset("config.json", json.dumps(config).encode())
    with pytest.raises(PresetError, match="not the configuration of a Deblurrer"):
        from_preset(folder)


@fuzz(30)
@given(data=st.data())
def test_weights(preset, write_preset, data):
    weights = {"model.weights.h5": preset["model.weights.h5"]}
    model = attempt(from_preset, write_preset(*data.draw(damaged(weights))))
    assert model is None or isinstance(model, Deblurrer)


# Never more: a file can ask LiteRT for any amount of memory.
@settings(fuzz(30), max_examples=30)
@given(data=st.data())
def test_litert_file(preset, write_preset, data):
    file = {"model.tflite": preset["model.tflite"]}
    model = attempt(litert_from_preset, write_preset(*data.draw(damaged(file))))
    assert model is None or isinstance(model, LiteRTModel)


# === Checkpoints ===


@fuzz(300)
@given(damaged({file.name: file.read_bytes() for file in CHECKPOINTS.glob("*.pth")}))
def test_checkpoints(path, file):
    path.write_bytes(file[1])
    try:
        read_state_dict(path)
    except CheckpointError as error:
        assert str(error).isprintable()


@fuzz(40)
@given(data=st.data())
def test_safetensors(golden, path, data):
    header, numbers = {}, b""
    for name, array in golden("nafnet_baseline").state().items():
        start = len(numbers)
        numbers += array.astype("float32").tobytes()
        header[name] = {
            "dtype": "F32",
            "shape": list(array.shape),
            "data_offsets": [start, len(numbers)],
        }
    header = data.draw(changed(header))
    for _ in range(data.draw(st.integers(0, 2))):
        name = data.draw(st.sampled_from(sorted(header)))
        number = data.draw(st.sampled_from(("0", "9", "1000000")))
        header[re.sub(r"\d+", number, name, count=1)] = header.pop(name)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + numbers)
    try:
        assert isinstance(from_torch_checkpoint(path), Deblurrer)
    except ValueError:  # CheckpointError is one
        pass


# === Folders ===


@pytest.fixture
def restore(preset, write_preset, tmp_path, capfd):
    """Restores what is in tmp_path / "in": (exit code, lines of the terminal)."""
    (tmp_path / "in").mkdir()

    def run(*arguments):
        folder = write_preset("README.md", preset["README.md"])
        command = [
            "restore",
            "--no-guard",
            tmp_path / "in",
            "--output",
            tmp_path / "out",
            "--preset",
        ]
        code = cli.main([str(item) for item in (*command, folder, *arguments)])
        return code, capfd.readouterr().err.splitlines()

    return run


def restored(tmp_path):
    return sorted(path.name for path in (tmp_path / "out").rglob("*.png"))


def picture(path):
    Image.new("RGB", (7, 5)).save(path, "PNG")


@pytest.mark.skipif(os.name == "nt", reason="POSIX file names")
def test_names_do_not_reach_the_terminal_raw(restore, tmp_path):
    picture(tmp_path / "in" / "good\n\x1b[31m\x9b.png")
    (tmp_path / "in" / "bad\r\x1b[2J\u202e.png").write_bytes(b"")
    try:
        picture(os.fsencode(tmp_path / "in") + b"/byte\xff.png")
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    code, lines = restore()
    assert code == 1 and len(restored(tmp_path)) == 2
    assert (tmp_path / "out" / "good\n\x1b[31m\x9b.png").exists()
    assert all(line.isprintable() for line in lines)
    text = "\n".join(lines)
    assert "good\\n\\x1b[31m\\x9b.png" in text and "byte\\udcff.png" in text
    assert "bad\\r\\x1b[2J\\u202e.png: it is empty (0 bytes)" in text


@pytest.mark.skipif(os.name == "nt", reason="symbolic links")
def test_links_out_of_a_folder_are_named_and_not_followed(restore, tmp_path):
    (tmp_path / "else").mkdir()
    picture(tmp_path / "else" / "secret.png")
    picture(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "file.png").symlink_to(tmp_path / "else" / "secret.png")
    (tmp_path / "in" / "folder").symlink_to(tmp_path / "else")
    (tmp_path / "in" / "nothing.png").symlink_to("missing.png")
    (tmp_path / "in" / "text.txt").symlink_to("/etc/hostname")
    code, lines = restore("--recursive")
    assert code == 1 and restored(tmp_path) == ["a.png"]
    failed = [line for line in lines if line.startswith("  failed")]
    assert [line.split(":")[0].rpartition("/")[2] for line in failed] == [
        "file.png",
        "folder",
        "nothing.png",
    ]
    assert "link out of the folder" in failed[0] and "does not exist" in failed[2]


@pytest.mark.skipif(os.name == "nt", reason="symbolic links")
def test_links_in_circles(restore, tmp_path):
    folder = tmp_path / "in" / "deep"
    folder.mkdir()
    picture(folder / "a.png")
    for name in ("loop", "other"):
        (folder / name).symlink_to(tmp_path / "in")
    (folder / "b.png").symlink_to("a.png")
    assert restore("--recursive")[0] == 0
    assert restored(tmp_path) == ["a.png"]
    photos, failures = find_photos([f"{tmp_path}/in/**/*.png"], recursive=False)
    assert [name for _, name in photos] == [Path("deep/a.png")] and not failures
    (folder / "c.png").symlink_to("d.png")
    (folder / "d.png").symlink_to("c.png")
    code, lines = restore("--recursive")
    assert code == 1 and "2 failed" in " ".join(lines)


@pytest.mark.skipif(os.name == "nt", reason="pipes")
def test_a_pipe_is_not_waited_for(restore, tmp_path):
    os.mkfifo(tmp_path / "in" / "a.png")
    picture(tmp_path / "in" / "b.png")
    code, lines = restore()
    assert code == 1 and restored(tmp_path) == ["b.png"]
    assert "a.png: it is no ordinary file" in lines[0]


def test_a_name_like_an_option(restore, capfd):
    with pytest.raises(SystemExit):
        restore("-\x1b[2J.png")
    assert "\x1b" not in capfd.readouterr().err


def test_longest_name(restore, tmp_path):
    name = 251 * "n" + ".png"
    picture(tmp_path / "in" / name)
    assert restore()[0] == 0 and restored(tmp_path) == [name]


def test_decoders_print_nothing(restore, tmp_path):
    data = bytearray(IMAGES["jpeg"])
    start = data.index(b"\xff\xda")
    data[start : start + 40] = bytes(40)
    (tmp_path / "in" / "a.tif").write_bytes(data)
    code, lines = restore()
    assert code == 1 and restored(tmp_path) == []
    # All lines are the command's own.
    others = [line for line in lines if "a.tif" not in line]
    assert all(line.startswith("Restored 0 of 1 photos") for line in others), lines


def test_programs_are_no_photos(restore, tmp_path):
    """Pillow would give EPS to Ghostscript."""
    (tmp_path / "in" / "a.jpg").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"
    )
    code, lines = restore()
    assert code == 1 and "a.jpg: it is not an image" in lines[0]
