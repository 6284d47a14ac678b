"""Photos in and out: files and arrays to float pixels, and back without loss."""

import contextlib
import dataclasses
import io
import math
import os
import re
import uuid
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, PngImagePlugin, UnidentifiedImageError

from keras_mhdeblur.photos import streaming as large_files
from keras_mhdeblur.photos.exif import orientation_and_exif
from keras_mhdeblur.photos.png_tiff import (
    BITS,
    PHOTOMETRIC,
    WHITE_IS_ZERO,
    ancillary_chunks,
    png_of_one_pixel,
    read_sixteen_bits,
    stored_mode,
    write_png,
    write_tiff,
)
from keras_mhdeblur.utils.disk_arrays import DiskFullError

# Of photos. Others are never opened: Pillow gives EPS to another program, for one.
FORMATS = (
    *("JPEG", "MPO", "PNG", "TIFF", "WEBP", "AVIF", "HEIF", "JPEG2000"),
    *("BMP", "GIF", "PPM", "TGA"),
)
HEIC_BRANDS = (b"ftypheic", b"ftypheix", b"ftypmif1")
ANIMATED_FORMATS = ("AVIF", "GIF", "PNG", "WEBP")
ALPHA_FORMATS = ("PNG", "TIFF", "WEBP", "AVIF", "HEIF", "JPEG2000", "TGA")
LARGEST_SIDES = {
    **{"JPEG": 65500, "MPO": 65500, "WEBP": 16383, "AVIF": 32768},
    **{"GIF": 65535, "TGA": 65535},
}
# Bytes that a marker of these has room for, of EXIF and of XMP.
_MARKERS = {"JPEG": (65533, 65504), "MPO": (65533, 65504)}

# The repetitions are bounded, or a hostile file could keep the search busy for hours.
XMP_ORIENTATION = re.compile(
    rb"""(tiff:Orientation\s{0,9}(?:=\s{0,9}["']|>)\s{0,9})[0-9]{1,9}"""
)
# Floats of a resized or decoded image overshoot [0, 1] by rounding, not by more.
RANGE_TOLERANCE = 1e-4
# Times the size of the pixels that Pillow and the copies of what it gives take.
_DECODING = 4


class ImageFileError(ValueError):
    """A file that cannot be read as an image.

    Attributes:
        path: the file.
        reason: what is wrong with it, one line.
    """

    def __init__(self, path, reason):
        self.path = Path(path)
        self.reason = reason
        super().__init__(f"Cannot read the image: {reason}. Received: path={path}")


@dataclasses.dataclass
class Photo:
    """An image and what has to survive its restoration.

    Attributes:
        values: (H, W, 3) RGB or (H, W, 1) gray, upright: uint8, uint16, or float in
            [0, 1].
        alpha: (H, W) as stored, never computed with, or None.
        depth: bits per channel of the file, 8 or 16.
        gray: whether the file has one colour channel; of three all are equal then.
        icc_profile: ICC profile of the pixels, bytes or None.
        exif: EXIF block without the orientation, bytes or None.
        xmp: XMP packet, its orientation upright, bytes or None.
        notes: what of the file is not kept, a line each.
        linear: whether the values are linear light, as raw converters write it,
            and not sRGB.
        png_chunks: chunks of a PNG file, for another one, on its colours and pixel
            density, bytes.
    """

    values: np.ndarray
    alpha: np.ndarray | None = None
    depth: int = 8
    gray: bool = False
    icc_profile: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    notes: tuple[str, ...] = ()
    linear: bool = False
    png_chunks: bytes = b""

    @property
    def pixels(self):
        """sRGB, float32 (H, W, 3) in [0, 1]; made anew each time."""
        return self.crop(slice(None), slice(None))

    def crop(self, rows, columns):
        """As `pixels`, of the given slices of rows and columns."""
        values = _unit(self.values[rows, columns])
        if self.linear:
            values = linear_to_srgb(values)
        return np.ascontiguousarray(np.broadcast_to(values, (*values.shape[:2], 3)))

    def values_of(self, pixels):
        """Floats such as `crop` gives, clipped, as the photo has its values."""
        if self.linear:
            pixels = srgb_to_linear(np.clip(pixels, 0, 1))
        return from_float(pixels, self.values.dtype)

    def with_values(self, values):
        """The same photo with other `values`."""
        return dataclasses.replace(self, values=values)

    def to_array(self):
        """The image as a file holds it.

        Returns:
            uint8 or uint16 by `depth`: (H, W) gray, (H, W, 2) gray and alpha,
            (H, W, 3) or (H, W, 4).
        """
        array = self.stored(slice(None))
        return array[..., 0] if array.shape[-1] == 1 else array

    def stored(self, rows):
        """As `to_array`, of a slice of rows, and always (h, W, C)."""
        array = self.values[rows]
        array = array[..., :1] if self.gray else array
        dtype = np.dtype("uint16" if self.depth == 16 else "uint8")
        if array.dtype != dtype:
            array = from_float(_unit(array), dtype)
        if self.alpha is not None:
            array = np.concatenate([array, self.alpha[rows][..., None]], axis=-1)
        return array


class _Stored:
    """The image as a file holds it, (H, W, C), made when rows of it are asked for."""

    def __init__(self, photo):
        first = photo.stored(slice(1))
        self.shape = (len(photo.values), *first.shape[1:])
        self.dtype = first.dtype
        self._photo = photo

    def __getitem__(self, rows):
        return self._photo.stored(rows)


def photos_of(image, memory_limit_mb=None, name="image"):
    """Photos of one image in any form, or of a batch of them.

    Args:
        image: path of an image file, PIL image, `Photo`, or array (H, W), (H, W, C) or
            (B, H, W, C) with C of 1, 3 (RGB) or 4 (RGB and alpha): uint8, uint16, or
            float in [0, 1].
        memory_limit_mb: as of `read_image`.
        name: name of the argument in error messages.

    Returns:
        (photos, array): list of `Photo`; the array that was given, or None.

    Raises:
        ImageFileError: if the file cannot be read.
        ValueError: if it is no such array.
    """
    if isinstance(image, (str, os.PathLike)):
        return [read_image(image, memory_limit_mb)], None
    if isinstance(image, Photo):
        return [image], None
    if isinstance(image, Image.Image):
        if 0 in image.size:
            raise ValueError(
                f"`{name}` must not be empty. Received: {name}.size={image.size}"
            )
        return [photo_from_pil(image)], None
    return _photos_of_array(image, name), np.asarray(image)


def _photos_of_array(image, name):
    """One `Photo` per image of an array (H, W), (H, W, C) or (B, H, W, C)."""
    values = checked_image(image, name)
    if values.ndim == 2:
        values = values[..., None]
    values = values.reshape(-1, *values.shape[-3:])
    depth = 16 if values.dtype == np.uint16 else 8
    alpha = None
    if values.shape[-1] == 4:
        alpha = values[..., 3]
        if alpha.dtype.kind == "f":
            alpha = from_float(alpha, "uint8")
        values = values[..., :3]
    return [
        Photo(
            one,
            alpha=None if alpha is None else alpha[index],
            depth=depth,
            gray=one.shape[-1] == 1,
        )
        for index, one in enumerate(values)
    ]


def read_image(path, memory_limit_mb=None):
    """Reads a photo: JPEG, PNG, TIFF, WebP, AVIF, JPEG 2000, BMP, GIF, PPM or TGA.

    The contents count, not the suffix. The EXIF orientation is applied, palettes and
    CMYK become RGB (CMYK through the file's ICC profile if it has one), a TIFF of
    several pages gives the first. 16 bits are kept of PNG and TIFF files, and of gray
    ones of other formats. HEIC files are read after the package pillow-heif has
    registered itself with Pillow.

    Args:
        path: path of the file.
        memory_limit_mb: memory in MB that reading may take. Larger JPEG, PNG and TIFF
            files are read in parts, into a file of the temporary folder (TMPDIR), if
            pyvips is installed and they are of a common kind: no palette, CMYK,
            premultiplied alpha or separate planes. None: no limit.

    Returns:
        `Photo`.

    Raises:
        ImageFileError: if the file is missing, empty, a folder or device, truncated,
            corrupt, animated or no photo, or has more pixels than `pixel_limit` (by
            default Pillow's, 179 million).
        scratch.DiskFullError: if the temporary folder has no room.
    """
    path = Path(path)
    # `os.path` and not `Path`, whose tests raise where a folder is closed.
    if os.path.isdir(path):
        raise ImageFileError(path, "it is a folder")
    if os.path.exists(path) and not os.path.isfile(path):
        # Reading could wait for ever, or never end.
        raise ImageFileError(path, "it is no ordinary file")
    try:
        file = open(path, "rb")
    except FileNotFoundError:
        link = "it is a link to a file that does not exist"
        reason = link if path.is_symlink() else "there is no such file"
        raise ImageFileError(path, reason) from None
    except OSError as error:
        raise ImageFileError(path, error.strerror or str(error)) from None
    with file:
        if not os.fstat(file.fileno()).st_size:
            raise ImageFileError(path, "it is empty (0 bytes)")
        try:
            with warnings.catch_warnings():
                # Of large photos, which are what this is for (Pillow's hard limit
                # remains), and of damaged metadata.
                warnings.simplefilter("ignore")
                return _read_photo(file, memory_limit_mb)
        except UnidentifiedImageError:
            reason = "it is not an image of a kind that can be read"
            file.seek(4)
            if file.read(8) in HEIC_BRANDS:
                reason = "HEIC cannot be read; convert it to JPEG or PNG"
        except _AnimatedError:
            reason = "it is animated; only still pictures are restored"
        except Image.DecompressionBombError as error:
            detail = str(error).rstrip(".")
            reason = f"it has too many pixels: {detail}; --max-megapixels allows more"
        except (MemoryError, DiskFullError):
            raise
        except Exception as error:
            # Decoders raise nearly anything on broken data (OSError, SyntaxError,
            # struct.error, IndexError, ...).
            detail = " ".join(str(error).split()) or type(error).__name__
            reason = f"it is broken ({detail})"
    raise ImageFileError(path, reason)


class _AnimatedError(Exception):
    pass


def _read_photo(file, memory_limit_mb):
    Image.init()
    formats = [name for name in FORMATS if name in Image.OPEN]
    with Image.open(file, formats=formats) as image:
        several = getattr(image, "is_animated", False)
        if several and image.format in ANIMATED_FORMATS:
            raise _AnimatedError
        photo, notes = None, ()
        if memory_limit_mb is not None:
            photo, notes = _read_in_parts(image, file, memory_limit_mb)
        if photo is None:
            photo = photo_from_pil(image, read_sixteen_bits(image, file))
        notes += photo.notes
        if image.format == "TIFF":
            if several:
                notes += ("only the first page is restored",)
            if photo.depth == 8 and 16 in image.tag_v2.get(BITS, ()):
                notes += ("8 of its 16 bits are kept",)
        chunks = ancillary_chunks(file) if image.format == "PNG" else b""
    return dataclasses.replace(photo, notes=notes, png_chunks=chunks)


def _read_in_parts(image, file, memory_limit_mb):
    """(photo, notes): a `Photo` on disk, or None if it is to be read into memory."""
    stored = large_files.stored_shape(image)
    if stored is None:
        return None, ()
    shape, dtype = stored
    if _DECODING * math.prod(shape) * dtype.itemsize <= 1e6 * memory_limit_mb:
        return None, ()
    try:
        array = large_files.read_pixels(file.name, image.format, shape, dtype)
    except ImportError:
        install = '`pip install "keras-mhdeblur[large]"`'
        return None, (f"was read into memory as a whole; {install} reads in parts",)
    if image.format != "PNG":
        return _photo(image, array), ()
    # Some metadata may follow the pixels.
    with Image.open(png_of_one_pixel(file), formats=["PNG"]) as small:
        small.load()
        return _photo(small, array), ()


@contextlib.contextmanager
def pixel_limit(pixels):
    """Sets how many pixels an image file may have, while the context lasts.

    Small files can unfold to images that fill the memory. The limit is Pillow's, and
    so is the process'.

    Args:
        pixels: a number.
    """
    before = Image.MAX_IMAGE_PIXELS
    # Pillow refuses from twice this number on.
    Image.MAX_IMAGE_PIXELS = pixels // 2
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def write_image(path, photo):
    """Writes a photo in the format of the path's suffix.

    PNG and TIFF keep everything: 16 bits, alpha, gray, ICC profile, EXIF and XMP; PNG
    also what describes the colours in a PNG without a profile. Other formats are
    written with 8 bits, JPEG and WebP with quality 95. A file appears whole or not at
    all.

    Args:
        path: path of the file; its folder must exist.
        photo: `Photo`.

    Raises:
        ValueError: if the suffix is no image format or the format cannot hold the
            image (alpha in a JPEG).
        OSError: if there is no such folder, no room, and the like.
    """
    path = Path(path)
    image_format = check_format(path, photo)
    metadata = {"icc_profile": photo.icc_profile, "exif": photo.exif, "xmp": photo.xmp}
    if image_format == "PNG":
        with _atomic_file(path) as file:
            write_png(file, _Stored(photo), **metadata, png_chunks=photo.png_chunks)
        return
    if image_format == "TIFF":
        with _atomic_file(path) as file:
            write_tiff(file, _Stored(photo), **metadata)
        return
    try:
        data = _encode_with_pillow(image_format, photo, metadata)
    except (OSError, ValueError) as error:
        raise _cannot_hold(image_format, error, path) from error
    write_atomically(path, data)


def format_of_name(path):
    """The format of a path's suffix, as Pillow calls it; None if none is written."""
    image_format = Image.registered_extensions().get(Path(path).suffix.lower())
    possible = image_format in FORMATS and image_format in Image.SAVE
    return image_format if possible else None


def check_format(path, photo):
    """Compares a photo with the format of a path's suffix, before `write_image`.

    Args:
        path: path of the file.
        photo: `Photo`.

    Returns:
        The format, as Pillow calls it.

    Raises:
        ValueError: if the suffix is not of an image format for photos, or the format
            cannot hold the alpha channel, the size or the metadata.
    """
    image_format = format_of_name(path)
    if image_format is None:
        raise ValueError(
            "`path` must end in the suffix of an image format that can be written, "
            f"for example .png. Received: path={path}"
        )
    clear = photo.alpha is not None
    side = LARGEST_SIDES.get(image_format, math.inf)
    exif, xmp = _MARKERS.get(image_format, (math.inf, math.inf))
    as_rgb = image_format in ("AVIF", "WEBP") or (
        image_format == "TIFF" and clear and photo.depth == 16
    )
    profile = photo.icc_profile or b""
    # Pillow, and so this library, would not read it.
    long = image_format == "PNG" and len(profile) > PngImagePlugin.MAX_TEXT_CHUNK
    for reason, applies in {
        "it has an alpha channel": clear and image_format not in ALPHA_FORMATS,
        f"a side has more than {side} pixels": max(photo.values.shape[:2]) > side,
        "its EXIF is too long": len(photo.exif or b"") > exif,
        "its XMP is too long": len(photo.xmp or b"") > xmp,
        "its colour profile is of gray images": photo.gray and profile and as_rgb,
        "its colour profile is too long": long,
    }.items():
        if applies:
            raise _cannot_hold(image_format, reason, path)
    return image_format


def _cannot_hold(image_format, reason, path):
    other = "TIFF" if image_format == "PNG" else "PNG"
    return ValueError(
        f"{image_format} files cannot hold this image ({reason}); {other} files can. "
        f"Received: path={path}"
    )


def _encode_with_pillow(image_format, photo, metadata):
    if photo.depth == 16:
        alpha = photo.alpha
        alpha = None if alpha is None else from_float(alpha / 65535.0, "uint8")
        photo = dataclasses.replace(photo, depth=8, alpha=alpha)
    options = {name: value for name, value in metadata.items() if value is not None}
    if image_format == "JPEG":
        options.update(quality=95, subsampling=0)
    if image_format == "WEBP":
        options.update(quality=95, exact=True)  # colours below alpha 0 too
    file = io.BytesIO()
    Image.fromarray(photo.to_array()).save(file, format=image_format, **options)
    return file.getvalue()


def write_atomically(path, data):
    """Writes bytes to a file such that a kill never leaves half of it.

    Args:
        path: path of the file; its folder must exist.
        data: bytes.
    """
    with _atomic_file(path) as file:
        file.write(data)


@contextlib.contextmanager
def _atomic_file(path):
    """A binary file to write, which gets its name when all is written."""
    path = Path(path)
    # Not of the file's name, which may be as long as names can be.
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        file = open(temporary, "wb")
    except OSError as error:
        error.filename = str(path)  # the name that was given
        raise
    try:
        with file:
            yield file
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def to_float(image, name="image"):
    """Converts an image array to float32 in [0, 1]; see `checked_image`."""
    return _unit(checked_image(image, name))


def checked_image(image, name="image"):
    """An image array whose type, shape and range are right.

    Args:
        image: (H, W), (H, W, C) or (B, H, W, C) with C of 1, 3 or 4: uint8 of
            0 to 255, uint16 of 0 to 65535, or float of 0 to 1.
        name: name of the argument in error messages.

    Returns:
        The array itself if it is of integers; otherwise float32, clipped to [0, 1].

    Raises:
        ValueError: on another type, rank, number of channels or dtype, on an empty
            image, NaN, infinity, or floats out of range.
    """
    if not hasattr(image, "__array__"):
        raise ValueError(
            f"`{name}` must be a path, a PIL image or an array. "
            f"Received: {name}={image!r}"
        )
    image = np.asarray(image)
    kind = f"array of shape {image.shape}, {image.dtype}"
    channels = 1 if image.ndim == 2 else image.shape[-1] if image.ndim else 0
    if image.ndim not in (2, 3, 4) or channels not in (1, 3, 4) or 0 in image.shape:
        raise ValueError(
            f"`{name}` must have shape (H, W), (H, W, C) or (B, H, W, C), C of 1, 3 or "
            f"4, and no empty dimension. Received: {name}={kind}"
        )
    if image.dtype in (np.uint8, np.uint16):
        return image
    if not np.issubdtype(image.dtype, np.floating):
        raise ValueError(
            f"`{name}` must be uint8, uint16 or float. Received: {name}={kind}"
        )
    low, high = float(image.min()), float(image.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError(
            f"`{name}` must not hold NaN or infinity. Received: {name}={kind} with "
            f"{np.count_nonzero(~np.isfinite(image))} such values"
        )
    if low < -RANGE_TOLERANCE or high > 1 + RANGE_TOLERANCE:
        raise ValueError(
            f"`{name}` of a float dtype must be in [0, 1] (integers of 0 to 255 are "
            f"given as uint8). Received: {name}={kind} of {low:g} to {high:g}"
        )
    return np.clip(image.astype("float32"), 0, 1)


def _unit(values):
    """Unsigned integers as float32 in [0, 1]; floats as float32."""
    if values.dtype.kind == "u":
        return values / np.float32(np.iinfo(values.dtype).max)
    return values.astype("float32", copy=False)


def from_float(pixels, dtype):
    """Converts floats to an image dtype, clipped to [0, 1] and rounded.

    Args:
        pixels: float array.
        dtype: uint8, uint16 or a float dtype.

    Returns:
        Array of that dtype and the same shape.
    """
    pixels = np.clip(pixels, 0, 1)
    if np.issubdtype(dtype, np.integer):
        pixels = np.rint(pixels * np.float32(np.iinfo(dtype).max))
    return pixels.astype(dtype)


def srgb_to_linear(x):
    """Light, in [0, 1], of sRGB values in [0, 1] (IEC 61966-2-1)."""
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(x):
    """sRGB values, in [0, 1], of light in [0, 1] (IEC 61966-2-1)."""
    return np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055)


def photo_from_pil(image, array=None):
    """Makes a `Photo` of a PIL image, its EXIF orientation applied.

    Args:
        image: PIL image of any mode.
        array: its pixels as stored, where Pillow does not hold all their bits.

    Returns:
        `Photo`.

    Raises:
        ValueError: if the values of a 32-bit gray image are out of range.
    """
    # Pillow scales such gray values, not the one that is transparent.
    scale = {"L;2": 85, "L;4": 17}.get(stored_mode(image))
    # First, for it turns a TIFF upright and drops the orientation.
    image.load()
    if scale and "transparency" in image.info:
        image.info["transparency"] *= scale
    notes = ()
    if array is None:
        plain, notes = _to_plain_mode(image)
        array = _array_of_plain_mode(plain)
        array = array if array.ndim == 3 else array[..., None]
    if array.dtype == np.uint16 and "transparency" in image.info:
        clear = array == np.asarray(image.info["transparency"])
        alpha = np.where(clear.all(axis=-1, keepdims=True), 0, 65535)
        array = np.concatenate([array, alpha.astype("uint16")], axis=-1)
    photo = _photo(image, array, notes)
    # What the decoders hold can go.
    alpha = None if photo.alpha is None else photo.alpha.copy()
    values = np.ascontiguousarray(photo.values)
    return dataclasses.replace(photo, values=values, alpha=alpha)


def _photo(image, array, notes=()):
    """`Photo` of pixels as stored, (H, W, C), and of an image's metadata."""
    orientation, exif = orientation_and_exif(image)
    array = _upright(array, orientation)
    gray = array.shape[-1] <= 2
    colours = 1 if gray else 3
    profile = image.info.get("icc_profile")
    # A profile of another colour space (of CMYK, of a palette's colours on gray)
    # would make the output invalid.
    if not profile or profile[16:20] != (b"GRAY" if gray else b"RGB "):
        profile = None
    return Photo(
        values=array[..., :colours],
        alpha=array[..., -1] if array.shape[-1] in (2, 4) else None,
        depth=8 if array.dtype == np.uint8 else 16,
        gray=gray,
        icc_profile=profile,
        exif=exif,
        xmp=_xmp(image),
        notes=notes,
    )


def _to_plain_mode(image):
    """The image in mode L, LA, RGB, RGBA or a deep gray mode; and notes."""
    mode = image.mode
    if mode.startswith("I") or mode == "F":
        return image, ()
    transparent = "transparency" in image.info
    if mode in ("1", "L", "LA", "La"):
        plain = "LA" if transparent or mode in ("LA", "La") else "L"
    elif mode in ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX"):
        plain = "RGBA" if transparent or mode in ("PA", "RGBA", "RGBa") else "RGB"
    else:
        return _to_rgb(image)
    return (image if mode == plain else image.convert(plain)), ()


def _to_rgb(image):
    """CMYK, LAB and the like as RGB, through the ICC profile if that is usable."""
    profile = image.info.get("icc_profile")
    if profile and image.mode == "CMYK":
        try:
            converted = ImageCms.profileToProfile(
                image,
                ImageCms.ImageCmsProfile(io.BytesIO(profile)),
                ImageCms.createProfile("sRGB"),
                outputMode="RGB",
            )
            return converted, ("CMYK is converted to RGB by its colour profile",)
        except (ImageCms.PyCMSError, OSError):
            pass
    note = f"{image.mode} is converted to RGB, without a colour profile"
    return image.convert("RGB"), (note,)


def _array_of_plain_mode(image):
    """uint8, uint16 or float32 array of an image in a plain mode."""
    array = np.asarray(image)
    if image.mode.startswith("I;16"):
        array = array.astype("uint16")
        # Pillow turns other negatives positive, but not these.
        tags = getattr(image, "tag_v2", {})
        return 65535 - array if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO else array
    limit = {"I": 65535, "F": 1}.get(image.mode)
    if limit is None:
        return array
    low, high = array.min(), array.max()
    if not (0 <= low and high <= limit):
        raise ValueError(
            f"gray values of 32 bits must be in 0 to {limit}, these are {low} to {high}"
        )
    return array.astype("uint16" if limit > 1 else "float32")


def _xmp(image):
    """XMP packet of an upright image: another orientation would turn it again."""
    xmp = image.info.get("xmp")
    if not isinstance(xmp, bytes) or not xmp:
        return None
    return XMP_ORIENTATION.sub(rb"\g<1>1", xmp)


def _upright(array, orientation):
    """Turns (H, W, C) the way an EXIF orientation says."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return array
