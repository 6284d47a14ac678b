"""PNG and TIFF files with all their bits and metadata, which Pillow keeps in part.

tifffile is no help: it writes no EXIF, and reads LZW only with imagecodecs.
"""

import io
import struct
import sys
import warnings
import zlib

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from keras_mhdeblur.photos.exif import kept_tags
from keras_mhdeblur.utils import disk_arrays

# Tags of TIFF, and values of theirs.
WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
FILL_ORDER, OFFSETS, SAMPLES, ROWS, LENGTHS, PLANES = 266, 273, 277, 278, 279, 284
PREDICTOR, EXTRA, XMP, PROFILE = 317, 338, 700, 34675
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB = 0, 1, 2
DEFLATE, DIFFERENCES, PLAIN_ALPHA, SEPARATE_PLANES = 8, 2, 2, 2
# Beginnings of TIFF files whose offsets have 32 bits, and 64 bits.
_TIFF, _BIG_TIFF = b"II*\0" + bytes(4), b"II+\0\x08\0" + bytes(10)
_TIFF_LIMIT, _LONG8 = 2**32 - 1, 16
_PNG = b"\x89PNG\r\n\x1a\n"
# Chunks, and their sizes, on the colours of a PNG without a profile, and its density.
_ANCILLARY = {b"cICP": 4, b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"pHYs": 9}


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
    mode = stored_mode(image)
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


def stored_mode(image):
    """Storage of a file's pixels in Pillow's words, "RGB;16L"; "" if unclear."""
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


def png_of_one_pixel(file):
    """A PNG file like another one, its metadata included, but with one black pixel.

    Args:
        file: binary file, a PNG.

    Returns:
        Binary file in memory.
    """
    result, previous = io.BytesIO(), b""
    result.write(_PNG)
    for kind, size in _chunks_of(file):
        if kind != b"IDAT":
            data = file.read(size)
            if kind == b"IHDR":
                data = struct.pack(">II", 1, 1) + data[8:]
            result.write(_chunk(kind, data))
        elif previous != kind:
            # Zeros as many as a row can have: its filter, and eight bytes.
            result.write(_chunk(kind, zlib.compress(bytes(9))))
        previous = kind
    result.seek(0)
    return result


def ancillary_chunks(file):
    """The chunks of a PNG file on its colours and pixel density, bytes."""
    result = b""
    for kind, size in _chunks_of(file):
        if kind == b"IDAT":
            break
        if _ANCILLARY.get(kind) == size:
            result += _chunk(kind, file.read(size))
    return result


def _chunks_of(file):
    """(kind, size) of the chunks of a PNG file, whose position is at their data."""
    file.seek(len(_PNG))
    kind = b""
    while kind != b"IEND" and len(start := file.read(8)) == 8:
        size, kind = struct.unpack(">I4s", start)
        end = file.tell() + size + 4
        yield kind, size
        file.seek(end)


def write_png(file, array, icc_profile=None, exif=None, xmp=None, png_chunks=b""):
    """Writes an image as a PNG file, some rows at a time.

    Args:
        file: binary file.
        array: uint8 or uint16 (H, W, C), C of 1 to 4; or what has its `shape` and
            `dtype` and gives such arrays for slices of rows.
        icc_profile, exif, xmp, png_chunks: as in `Photo`.
    """
    height, width, channels = array.shape
    bits = 8 * array.dtype.itemsize
    colours = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, bits, colours, 0, 0, 0)
    file.write(_PNG + _chunk(b"IHDR", header) + png_chunks)
    if icc_profile is not None:
        profile = b"ICC Profile\0\0" + zlib.compress(icc_profile)
        file.write(_chunk(b"iCCP", profile))
    if exif is not None:
        file.write(_chunk(b"eXIf", exif.removeprefix(b"Exif\0\0")))
    if xmp is not None:
        file.write(_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp))
    compressor = zlib.compressobj()
    for rows in _filtered(array):
        file.write(_chunk(b"IDAT", compressor.compress(rows)))
    file.write(_chunk(b"IDAT", compressor.flush()) + _chunk(b"IEND", b""))


def _filtered(array):
    """Some rows at a time of an image, as PNG's filter 2 stores them.

    Every row begins with the filter's number, and has its differences from the row
    above.
    """
    above = 0
    for rows in disk_arrays.bands(array.shape[0]):
        rows = np.ascontiguousarray(array[rows], array.dtype.newbyteorder(">"))
        rows = rows.reshape(len(rows), -1).view("uint8")
        filtered = np.full((len(rows), rows.shape[1] + 1), 2, "uint8")
        np.subtract(rows[0], above, out=filtered[0, 1:])
        np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
        above = rows[-1]
        yield filtered


def _chunk(kind, data):
    """A chunk of a PNG file: length, kind (4 bytes), data and checksum."""
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def write_tiff(file, array, icc_profile=None, exif=None, xmp=None):
    """Writes an image as a compressed TIFF file; gray and alpha of 16 bits as RGBA.

    Args:
        file: binary file, new, that can be rewound; a BigTIFF from 4 GB on.
        array, icc_profile, exif, xmp: as of `write_png`.
    """
    dtype = array.dtype
    height, width, channels = array.shape
    # Few programs read gray and alpha of 16 bits.
    spread = channels == 2 and dtype == np.uint16
    channels = 4 if spread else channels
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damaged tags
        block = Image.Exif()
        block.load(exif or b"")
        exif_tags = kept_tags(block)

    def head(start, offsets, lengths):
        tags = ImageFileDirectory_v2(start)
        tags.update(exif_tags)
        tags[WIDTH], tags[HEIGHT] = width, height
        tags[BITS], tags[SAMPLES] = (8 * dtype.itemsize,) * channels, channels
        tags[COMPRESSION], tags[PREDICTOR] = DEFLATE, DIFFERENCES
        tags[PHOTOMETRIC] = BLACK_IS_ZERO if channels <= 2 else RGB
        tags[ROWS], tags[LENGTHS] = min(disk_arrays.ROWS, height), tuple(lengths)
        # `save` counts the offsets from the end of the tags.
        tags[OFFSETS] = tuple(offsets)
        if start == _BIG_TIFF:
            tags.tagtype[OFFSETS] = _LONG8
        if channels in (2, 4):
            tags[EXTRA] = PLAIN_ALPHA
        if icc_profile is not None:
            tags[PROFILE] = icc_profile
        if xmp is not None:
            tags[XMP] = xmp
        result = io.BytesIO()
        tags.save(result)
        return result.getvalue()

    # Where the strips begin, and how long they are, shows when they are written.
    unknown = [0] * len(list(disk_arrays.bands(height)))
    room = len(head(_BIG_TIFF, unknown, unknown))
    file.seek(room)
    lengths = []
    for rows in disk_arrays.bands(height):
        rows = array[rows][..., [0, 0, 0, 1]] if spread else array[rows]
        rows = np.diff(rows, axis=1, prepend=dtype.type(0))
        rows = np.ascontiguousarray(rows, dtype.newbyteorder("<"))
        data = zlib.compress(rows)
        lengths.append(file.write(data))
    start = _TIFF if room + sum(lengths) <= _TIFF_LIMIT else _BIG_TIFF
    gap = room - len(head(start, unknown, unknown))
    offsets = gap + np.cumsum([0, *lengths[:-1]])
    file.seek(0)
    file.write(head(start, offsets.tolist(), lengths))
