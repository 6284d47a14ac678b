import struct
import zlib

import pytest
from PIL import Image

from keras_mhdeblur.app.uploads import RefusedError, size_of


def bomb(path, side=20000):
    """A PNG file of a few kilobytes that says it has side x side pixels."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(10**6))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", pixels)
        + chunk(b"IEND", b"")
    )
    return path


def test_size(photo):
    assert size_of(photo, 1) == (192, 128)


@pytest.mark.parametrize("side, said", [(9000, "81 million"), (20000, "too many")])
def test_bombs_are_refused_by_their_header(tmp_path, side, said):
    path = bomb(tmp_path / "sky.png", side)
    with pytest.raises(RefusedError) as caught:
        size_of(path, 60)
    assert str(caught.value) == (
        f"sky.png: it has {said} pixels; this page takes up to 60 megapixels."
    )


def test_no_photo(text_file, tmp_path):
    with pytest.raises(RefusedError) as caught:
        size_of(text_file, 60)
    assert str(caught.value) == (
        "letter.jpg: it is not an image of a kind that can be read."
    )
    assert caught.value.reason == "it is not an image of a kind that can be read."
    empty = tmp_path / "empty.jpg"
    empty.touch()
    with pytest.raises(RefusedError, match="it is empty"):
        size_of(empty, 60)


def test_a_megapixel_is_a_million(tmp_path):
    Image.new("RGB", (1000, 1000)).save(tmp_path / "a.png")
    assert size_of(tmp_path / "a.png", 1) == (1000, 1000)
    Image.new("RGB", (1000, 1001)).save(tmp_path / "a.png")
    with pytest.raises(RefusedError, match="it has 1.01 million pixels"):
        size_of(tmp_path / "a.png", 1)
