"""Photos into files."""

import dataclasses
import io
from pathlib import Path

from PIL import Image, PngImagePlugin

from keras_mhdeblur.photos.formats import FORMATS
from keras_mhdeblur.photos.photo import Photo
from keras_mhdeblur.photos.pixels import from_float
from keras_mhdeblur.photos.png_tiff import write_png, write_tiff
from keras_mhdeblur.utils.atomic import atomic_file
from keras_mhdeblur.utils.types import PathLike


class _Stored:
    """The image as a file holds it, (H, W, C), made when rows of it are asked for."""

    def __init__(self, photo):
        first = photo.stored(slice(1))
        self.shape = (len(photo.values), *first.shape[1:])
        self.dtype = first.dtype
        self._photo = photo

    def __getitem__(self, rows):
        return self._photo.stored(rows)


def write_image(path: PathLike, photo: Photo) -> None:
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
    if image_format not in ("PNG", "TIFF"):
        try:
            data = _encode_with_pillow(image_format, photo, metadata)
        except (OSError, ValueError) as error:
            raise _cannot_hold(image_format, error, path) from error
    with atomic_file(path) as partial, open(partial, "wb") as file:
        if image_format == "PNG":
            write_png(file, _Stored(photo), **metadata, png_chunks=photo.png_chunks)
        elif image_format == "TIFF":
            write_tiff(file, _Stored(photo), **metadata)
        else:
            file.write(data)


def format_of_name(path: PathLike) -> str | None:
    """The format of a path's suffix, as Pillow calls it; None if none is written."""
    image_format = Image.registered_extensions().get(Path(path).suffix.lower())
    possible = image_format in FORMATS and image_format in Image.SAVE
    return image_format if possible else None


def check_format(path: PathLike, photo: Photo) -> str:
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
    limits = FORMATS[image_format]
    side = limits.largest_side
    clear = photo.alpha is not None
    spread = image_format == "TIFF" and clear and photo.depth == 16
    as_rgb = photo.gray and (spread or not limits.gray)
    profile = photo.icc_profile or b""
    # Pillow, and so this library, would not read it.
    long = image_format == "PNG" and len(profile) > PngImagePlugin.MAX_TEXT_CHUNK
    for reason, applies in {
        "it has an alpha channel": clear and not limits.alpha,
        f"a side has more than {side} pixels": max(photo.values.shape[:2]) > side,
        "its EXIF is too long": len(photo.exif or b"") > limits.longest_exif,
        "its XMP is too long": len(photo.xmp or b"") > limits.longest_xmp,
        "its colour profile is of gray images": as_rgb and profile,
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
