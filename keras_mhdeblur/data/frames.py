"""Frames of a video: read one after the other, and averaged into a blurry image."""

import numbers
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_mhdeblur.data.folders import SUFFIXES
from keras_mhdeblur.photos import read_image
from keras_mhdeblur.photos.pixels import (
    from_float,
    linear_to_srgb,
    srgb_to_linear,
    to_float,
)
from keras_mhdeblur.utils.types import Gamma, PathLike


def blur_from_frames(
    frames: np.ndarray | Sequence[np.ndarray], gamma: Gamma = 2.2
) -> np.ndarray:
    """Averages sharp frames in linear light: the photo of a longer exposure.

    A camera maps linear light to pixel values by its response curve. Frames are mapped
    back, averaged, and the average is mapped again (Nah, Kim and Lee, CVPR 2017,
    equation 2). The curves in use:

    - `gamma=2.2`: GoPro's folders `blur_gamma`.
    - `gamma=1`: pixel values are averaged as they are; GoPro's folders `blur`.
    - `gamma="srgb"`: IEC 61966-2-1, linear near black.

    Args:
        frames: (T, H, W, C) or a sequence of T images (H, W, C); uint8, uint16, or
            float in [0, 1].
        gamma: exponent, "srgb", or a pair of functions of NumPy arrays (to linear,
            from linear) that map [0, 1] to [0, 1].

    Returns:
        float32 (H, W, C) in [0, 1], not rounded.

    Raises:
        ValueError: there are no frames, they differ in shape or are no images, or
            `gamma` is none of the above.
    """
    to_linear, from_linear = _response(gamma)
    total: Any = None
    count, tables = 0, {}
    for frame in frames:
        frame = np.asarray(frame)
        if frame.ndim != 3 or (total is not None and frame.shape != total.shape):
            others = f" after others of shape {total.shape}" if count else ""
            raise ValueError(
                "`frames` must be images (H, W, C) of one shape. Received: frames with "
                f"one of shape {frame.shape}{others}"
            )
        if frame.dtype in (np.uint8, np.uint16):
            if frame.dtype not in tables:
                levels = np.iinfo(frame.dtype).max
                table = to_linear(np.arange(levels + 1) / levels)
                tables[frame.dtype] = np.asarray(table, "float32")
            light = tables[frame.dtype][frame]
        else:
            light = np.asarray(to_linear(to_float(frame, "frames")), "float32")
        total = light if total is None else total + light
        count += 1
    if count == 0:
        raise ValueError("`frames` must hold at least one image. Received: frames=[]")
    return np.clip(from_linear(total / np.float32(count)), 0, 1).astype("float32")


def label_index(num_frames):
    """The frame of a window that is its label: the middle one, counted from 0.

    Of an even number it is the later of the two in the middle.
    """
    return num_frames // 2


def check_gamma(gamma):
    """Raises ValueError unless `gamma` is one that `blur_from_frames` takes."""
    _response(gamma)


def open_frames(source: PathLike) -> tuple[Iterator[np.ndarray], float | None]:
    """Opens a video, or a folder of images, as a stream of frames.

    One frame after the other is decoded; none are kept. Videos need PyAV
    (`pip install "keras-mhdeblur[video]"`) and are turned upright as their metadata
    say. The images of a folder, not those of its subfolders, come in the order of the
    numbers in their names (2.png before 10.png).

    Args:
        source: path of a video file, or of a folder of PNG, JPEG or BMP images.

    Returns:
        (frames, fps): an iterator of uint8 (H, W, 3), and frames per second or None.

    Raises:
        ValueError: there is no such file or folder, no image in the folder, no video
            in the file; also while iterating, if a frame cannot be decoded or has
            another size than the first.
        ImportError: the source is a file and PyAV is not installed.
    """
    source = Path(source)
    if source.is_dir():
        files = _frame_files(source)
        if not files:
            raise ValueError(
                f"The folder holds no frames ({', '.join(SUFFIXES)}). "
                f"Received: source={str(source)!r}"
            )
        return _of_one_size(_read_files(files), source), None
    if not source.is_file():
        raise ValueError(
            f"There is no such file or folder. Received: source={str(source)!r}"
        )
    container = _open_video(source)
    rate = container.streams.video[0].average_rate
    frames = _of_one_size(_decode_video(container, source), source)
    return frames, None if not rate else float(rate)


def _response(gamma):
    if isinstance(gamma, str) and gamma == "srgb":
        return srgb_to_linear, linear_to_srgb
    if isinstance(gamma, (tuple, list)) and len(gamma) == 2:
        if all(callable(function) for function in gamma):
            return gamma
    elif isinstance(gamma, numbers.Real) and 0 < gamma < float("inf"):
        return lambda x: x**gamma, lambda x: x ** (1 / gamma)
    raise ValueError(
        "`gamma` must be a positive number, 'srgb', or two functions. "
        f"Received: gamma={gamma!r}"
    )


def _frame_files(folder):
    def numbers_as_numbers(path):
        parts = re.split(r"(\d+)", path.name)
        return [int(p) if p.isdecimal() else p.lower() for p in parts]

    files = (
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    )
    return sorted(files, key=numbers_as_numbers)


def _read_files(files):
    for file in files:
        yield file.name, from_float(read_image(file).pixels, "uint8")


def _open_video(path):
    try:
        import av
    except ImportError:
        raise ImportError(
            'Reading videos needs PyAV: pip install "keras-mhdeblur[video]". '
            f"Received: source={str(path)!r}"
        ) from None
    try:
        container = av.open(str(path))
    except (av.FFmpegError, OSError) as error:
        raise ValueError(
            f"The file is not a video that can be decoded ({_reason(error)}). "
            f"Received: source={str(path)!r}"
        ) from None
    if not container.streams.video:
        container.close()
        raise ValueError(
            f"The file holds no video stream. Received: source={str(path)!r}"
        )
    return container


def _decode_video(container, path):
    import av

    with container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        count = 0
        try:
            for frame in container.decode(stream):
                # PyAV tells the turn that puts the picture upright, counterclockwise.
                turns = round(frame.rotation / 90) % 4
                pixels = np.rot90(frame.to_ndarray(format="rgb24"), turns)
                yield f"frame {count}", pixels
                count += 1
        except av.FFmpegError as error:
            raise ValueError(
                f"The video cannot be decoded after frame {count} ({_reason(error)}). "
                f"Received: source={str(path)!r}"
            ) from None


def _reason(error):
    return getattr(error, "strerror", None) or str(error)


def _of_one_size(named_frames, source):
    shape = None
    for name, frame in named_frames:
        shape = shape or frame.shape
        if frame.shape != shape:
            sizes = ["{1}x{0}".format(*s) for s in (frame.shape, shape)]
            raise ValueError(
                f"The frames have different sizes: {name} has {sizes[0]}, the first "
                f"{sizes[1]}. Received: source={str(source)!r}"
            )
        yield frame
