"""PNG and TIFF files with all their bits and metadata, which Pillow keeps in part."""

import io
import struct
import sys
import zlib

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

# Tags of TIFF and EXIF, and values of theirs.
WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
OFFSETS, SAMPLES, ROWS, LENGTHS, PLANES = 273, 277, 278, 279, 284
PREDICTOR, EXTRA, XMP, PROFILE = 317, 338, 700, 34675
EXIF, GPS, INTEROPERABILITY = 0x8769, 0x8825, 0xA005
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB = 0, 1, 2
DEFLATE, DIFFERENCES, PLAIN_ALPHA, SEPARATE_PLANES = 8, 2, 2, 2
# Rows that are encoded at a time, so that a large image takes little more memory.
_ROWS = 256


def read_sixteen_bits(image, file):
    """The pixels of an opened file, where Pillow would cut 16 bits to 8.

    Pillow's decoders undo compression and filters of any depth; only their last step
    keeps one byte of two. Told the other byte order it keeps the other byte.

    Args:
        image: PIL image of any file, not loaded yet; only of PNG and TIFF something is
            gained.
        file: the binary file that it was opened from.

    Returns:
        uint16 (H, W, 2) gray and alpha, (H, W, 3) or (H, W, 4), alpha not
        premultiplied; `image` is loaded then. None, and it is not, if Pillow keeps
        all bits, or cannot be made to.
    """
    mode = _stored_mode(image)
    if image.format == "PNG" and mode == "LA;16B":
        # As many bits as a pixel of RGBA has.
        return _load(image, "RGBA").view(">u2").astype("uint16")
    channels, _, order = mode.partition(";16")
    if channels not in ("RGB", "RGBX", "RGBA", "RGBa") or order not in ("B", "L"):
        return None
    stored = channels.replace("a", "A")
    high = _load(image, f"{stored};16{order}")
    other = Image.open(file, formats=[image.format])
    low = _load(other, f"{stored};16{'L' if order == 'B' else 'B'}")
    array = high.astype("uint16") << 8 | low
    if channels == "RGBa":
        share = array[..., :3] / np.maximum(array[..., 3:], 1)
        array[..., :3] = np.rint(65535 * np.minimum(share, 1))
    return array


def _stored_mode(image):
    """How a file stores its pixels, in Pillow's words: "RGB;16L"; "" if unclear."""
    if image.format not in ("PNG", "TIFF") or not image.tile:
        return ""
    args = image.tile[0].args
    mode = args if isinstance(args, str) else args[0]
    if image.format == "PNG":
        return mode
    native = "L" if sys.byteorder == "little" else "B"
    if image.tag_v2.get(PLANES) != SEPARATE_PLANES:
        return mode.replace(";16N", f";16{native}")
    # Pillow takes uncompressed planes of 16 bits for ones of 8.
    if image.tile[0].codec_name == "raw" and set(image.tag_v2.get(BITS, ())) == {16}:
        return f"{image.mode};16{'L' if image.tag_v2.prefix == b'II' else 'B'}"
    return ""


def _load(image, mode):
    """Pixels of an image, decoded as if its file stored them in that mode."""
    tiles = []
    for tile in image.tile:
        if isinstance(tile.args, str):
            args = mode
        elif len(tile.args[0]) == 1:  # a plane: "R"
            args = (tile.args[0] + mode[mode.index(";") :], *tile.args[1:])
        else:
            args = (mode, *tile.args[1:])
        tiles.append(tile._replace(args=args))
    image.tile = tiles
    image.load()
    return np.asarray(image)


def encode_png(array, icc_profile=None, exif=None, xmp=None):
    """PNG file of an image.

    Args:
        array: uint8 or uint16 (H, W, C), C of 1 to 4.
        icc_profile, exif, xmp: as in `images.Photo`.

    Returns:
        Bytes.
    """
    height, width, channels = array.shape
    bits = 8 * array.itemsize
    colours = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, bits, colours, 0, 0, 0)
    file = [b"\x89PNG\r\n\x1a\n", _chunk(b"IHDR", header)]
    if icc_profile is not None:
        file.append(_chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(icc_profile)))
    if exif is not None:
        file.append(_chunk(b"eXIf", exif.removeprefix(b"Exif\0\0")))
    if xmp is not None:
        file.append(_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp))
    compressor = zlib.compressobj()
    for rows in _filtered(array):
        file.append(_chunk(b"IDAT", compressor.compress(rows)))
    file.append(_chunk(b"IDAT", compressor.flush()))
    return b"".join([*file, _chunk(b"IEND", b"")])


def _filtered(array):
    """Some rows at a time of an image, as PNG's filter 2 stores them.

    Every row begins with the filter's number, and has its differences from the row
    above.
    """
    above = np.zeros(array[:1].nbytes, "uint8")
    for start in range(0, len(array), _ROWS):
        rows = array[start : start + _ROWS]
        rows = np.ascontiguousarray(rows, array.dtype.newbyteorder(">"))
        rows = rows.reshape(len(rows), -1).view("uint8")
        filtered = np.full((len(rows), rows.shape[1] + 1), 2, "uint8")
        np.subtract(rows[0], above, out=filtered[0, 1:])
        np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
        above = rows[-1]
        yield filtered


def _chunk(kind, data):
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def encode_tiff(array, icc_profile=None, exif=None, xmp=None):
    """TIFF file of an image, compressed; gray and alpha of 16 bits as RGBA.

    Args:
        array: uint8 or uint16 (H, W, C), C of 1 to 4.
        icc_profile, exif, xmp: as in `images.Photo`.

    Returns:
        Bytes.
    """
    if array.shape[-1] == 2 and array.dtype == np.uint16:  # few programs read it
        array = array[..., [0, 0, 0, 1]]
    height, width, channels = array.shape
    compressor, data = zlib.compressobj(), []
    for start in range(0, height, _ROWS):
        rows = array[start : start + _ROWS]
        rows = np.diff(rows, axis=1, prepend=array.dtype.type(0))
        rows = rows.astype(array.dtype.newbyteorder("<"))
        data.append(compressor.compress(rows.tobytes()))
    data = b"".join([*data, compressor.flush()])
    tags = ImageFileDirectory_v2(b"II*\0\0\0\0\0")
    if exif is not None:
        _add_exif(tags, exif)
    tags[WIDTH], tags[HEIGHT] = width, height
    tags[BITS], tags[SAMPLES] = (8 * array.itemsize,) * channels, channels
    tags[COMPRESSION], tags[PREDICTOR] = DEFLATE, DIFFERENCES
    tags[PHOTOMETRIC] = BLACK_IS_ZERO if channels <= 2 else RGB
    # `save` counts the offsets from the end of the tags.
    tags[OFFSETS], tags[LENGTHS], tags[ROWS] = 0, len(data), height
    if channels in (2, 4):
        tags[EXTRA] = PLAIN_ALPHA
    if icc_profile is not None:
        tags[PROFILE] = icc_profile
    if xmp is not None:
        tags[XMP] = xmp
    file = io.BytesIO()
    tags.save(file)
    return file.getvalue() + data


def _add_exif(tags, block):
    exif = Image.Exif()
    exif.load(block)
    for tag, value in exif.items():
        if tag in (EXIF, GPS):
            value = dict(exif.get_ifd(tag))
            if INTEROPERABILITY in value:
                value[INTEROPERABILITY] = exif.get_ifd(INTEROPERABILITY)
        tags[tag] = value
