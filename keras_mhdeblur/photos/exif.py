"""EXIF of photos, kept as it is where Pillow would lose a part of it."""

import contextlib
import struct
import warnings

from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

ORIENTATION = 0x0112
_EXIF, _GPS, _INTEROPERABILITY = 0x8769, 0x8825, 0xA005
# Directories that lie in the first one (None), and in others.
_NESTED = {None: (_EXIF, _GPS), _EXIF: (_INTEROPERABILITY,)}
# Beside the orientation tags that say how a TIFF stores its pixels, which would lie
# about any other file, and Photoshop's layers (37724), which show the photo as it was.
_DROPPED = {
    *(ORIENTATION, *range(254, 260), 262, 266, 273, *range(277, 280), 284, 317, 320),
    *(*range(322, 326), 330, 338, 339, 347, 700, 34377, 34675, 37724),
}
_PREFIX = b"Exif\0\0"


class _Text(str):
    """Text as Pillow reads it: a character a byte, and not what `encode` is asked."""

    def encode(self, *_):
        return super().encode("latin-1", "replace")


def orientation_and_exif(image):
    """EXIF orientation (1 to 8) of a PIL image and its EXIF block without it."""
    # Damaged metadata is no reason to refuse the picture, nor to leave it lying.
    try:
        exif = image.getexif()
        orientation = exif.get(ORIENTATION, 1)
    except Exception:
        return 1, None
    try:
        return orientation, _cut(image.info["exif"])
    except Exception:  # a TIFF, which has no such block, or one that is damaged
        pass
    kept = Image.Exif()
    kept.endian = exif.endian  # that of the maker's notes, too
    kept.update(kept_tags(exif))
    return orientation, kept.tobytes() if len(kept) else None


def _cut(block):
    """An EXIF block without what is dropped, and without a preview.

    Values stay where they are, so that all offsets hold, those in the maker's notes
    too, and text is in the encoding that it was in.
    """
    data = bytearray(block.removeprefix(_PREFIX).removeprefix(_PREFIX))
    order = {b"II*\0": "<", b"MM\0*": ">"}[bytes(data[:4])]
    (start,) = struct.unpack_from(f"{order}I", data, 4)
    if start < 8:
        raise ValueError("the first directory lies in the header")
    (count,) = struct.unpack_from(f"{order}H", data, start)
    first, end = start + 2, start + 2 + 12 * count
    entries = struct.iter_unpack(f"{order}H10s", data[first:end])
    kept = [entry for entry in entries if entry[0] not in _DROPPED]
    directory = struct.pack(f"{order}H", len(kept))
    for entry in kept:
        directory += struct.pack(f"{order}H10s", *entry)
    # No offset of a next directory, the preview's, and nothing else of the old one.
    directory = (directory + bytes(4)).ljust(end - start, b"\0")
    data[start : start + len(directory)] = directory
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Image.Exif().load(bytes(data))
    return _PREFIX + bytes(data) if kept else None


def kept_tags(exif):
    """The tags of a PIL `Exif` that are kept and can be written, as nested dicts."""

    def tags_of(tags, group=None):
        result = {}
        for tag in set(tags) - _DROPPED:
            # One that is damaged must not take the others along.
            with contextlib.suppress(Exception):
                value = tags[tag]
                if tag in _NESTED.get(group, ()):
                    value = tags_of(exif.get_ifd(tag), tag)
                elif isinstance(value, str):
                    value = _Text(value)
                directory = ImageFileDirectory_v2(group=group)
                directory[tag] = value
                directory.tobytes()
                result[tag] = value
        return result

    return tags_of(exif)
