"""Images as a short clip."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from keras_mhdeblur.utils.atomic import atomic_file
from keras_mhdeblur.utils.types import PathLike

SUFFIXES = (".gif", ".mp4")


def write_clip(path: PathLike, images: Sequence[np.ndarray], seconds: float) -> None:
    """Writes images that follow each other as a GIF, which repeats, or as an MP4.

    Args:
        path: path with the suffix .gif or .mp4; its folder must exist.
        images: uint8 (H, W, 3), of one size. An MP4 has even sizes: the last row and
            column may be cut off.
        seconds: how long each image is seen.

    Raises:
        ImportError: PyAV is missing, for .mp4.
        ValueError: the suffix is another one.
        OSError: the file cannot be written.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(
            f"`path` must end in {' or '.join(SUFFIXES)}. Received: path={str(path)!r}"
        )
    write = _write_gif if suffix == ".gif" else _write_mp4
    with atomic_file(path) as partial:
        write(partial, images, seconds)


def _write_gif(path, images, seconds):
    first, *others = (Image.fromarray(image) for image in images)
    first.save(
        path,
        format="GIF",
        save_all=True,
        append_images=others,
        duration=round(1000 * seconds),
        loop=0,
    )


def _write_mp4(path, images, seconds):
    try:
        import av
    except ImportError:
        raise ImportError(
            'MP4 needs PyAV: pip install "keras-mhdeblur[video]". '
            f"Received: path={str(path)!r}"
        ) from None
    height, width = (size - size % 2 for size in images[0].shape[:2])
    rate = 1 / Fraction(seconds).limit_denominator(1000)
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream(
            "libx264", rate, options={"crf": "18"}, height=height, width=width
        )
        stream.pix_fmt = "yuv420p"  # others are played by few programs
        for image in images:
            pixels = np.ascontiguousarray(image[:height, :width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        container.mux(stream.encode())
