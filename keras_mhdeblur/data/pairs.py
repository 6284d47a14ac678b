"""Pairs of blurry and sharp images on disk, made of videos or of sharp photos.

Layout, as `paired_folder` reads it: OUTPUT/blur/NAME.png, OUTPUT/sharp/NAME.png. How
the pairs of a source were made is in OUTPUT/metadata/SOURCE.json.
"""

import itertools
import json
import math
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from keras_mhdeblur.data.frames import (
    blur_from_frames,
    check_gamma,
    label_index,
    open_frames,
)
from keras_mhdeblur.data.motion_blur import MotionBlur
from keras_mhdeblur.data.synthesis import synthesize_motion_blur
from keras_mhdeblur.photos import Photo, read_image, write_image
from keras_mhdeblur.photos.pixels import from_float
from keras_mhdeblur.utils.atomic import atomic_file
from keras_mhdeblur.utils.types import Gamma, PathLike

# Distance of colour histograms from which on two frames are of two shots. Neighbours
# within a shot of GoPro (240 per second) reach 0.06, of REDS 0.09; different scenes of
# REDS differ by 0.37, and 999 of 1000 random pairs of photos (BSDS500) by over 0.35.
CUT_DISTANCE = 0.3


def pairs_from_frames(
    source: PathLike,
    output: PathLike,
    num_frames: int | tuple[int, int] = (7, 13),
    *,
    stride: int | None = None,
    gamma: Gamma = 2.2,
    keep_frames: bool = False,
    max_pairs: int | None = None,
    name: str | None = None,
    seed: int = 0,
    on_pair: Callable[[dict[str, Any]], Any] | None = None,
) -> dict[str, Any]:
    """Makes pairs of a video as the GoPro data set was made: frames are averaged.

    A window of consecutive frames gives `blur/NAME.png`, their average in linear light
    (`blur_from_frames`), and `sharp/NAME.png`, frame `num_frames // 2` of it, counted
    from 0: the middle one, or the later of the two in the middle. NAME is `name` and
    the number of the window's first frame.

    The video needs sharp frames at a high rate (GoPro: 240 per second): where things
    move by more than two or three pixels per frame, the average shows copies, not blur.
    A frame equal to the one before is left out. No window spans a cut, which is found
    by the histograms of neighbouring frames. At most a window's frames are in memory.

    Args:
        source: video file, or folder of frames; see `open_frames`.
        output: folder, made if needed; several sources may share it.
        num_frames: frames per window: a number, or (least, most), drawn for each
            window from `seed`. What is left before a cut or the end is used if it
            is at least `least`.
        stride: frames from a window's first to the next one's; None: a window begins
            where the one before ends.
        gamma: response curve, as in `blur_from_frames`.
        keep_frames: also write all frames, `frames/NAME/00.png` and so on.
        max_pairs: stop after that many pairs.
        name: start of the pairs' names; by default that of the source.
        seed: integer.
        on_pair: function called with the entry of each pair that has been written.

    Returns:
        What is also written to `metadata/<name>.json`: a dictionary of the settings
        and "fps" (None if unknown), "repeated" (equal frames left out), "cuts", and
        "pairs", a list of dictionaries with "name", "frames" (numbers of the averaged
        frames, from 0) and "label" (number of the sharp one).

    Raises:
        ValueError: an argument is wrong, the source cannot be read or has too few
            frames. Pairs that were finished by then remain, without metadata.
        ImportError: the source is a video and PyAV is not installed.
    """
    least, most = _check_num_frames(num_frames)
    check_gamma(gamma)
    for key, value in (("stride", stride), ("max_pairs", max_pairs)):
        if value is not None and value < 1:
            raise ValueError(
                f"`{key}` must be at least 1 or None. Received: {key}={value}"
            )
    frames, fps = open_frames(source)
    name = _source_name(source) if name is None else name
    numbered = _ShotNumbering(frames)
    entries = []
    for window in itertools.islice(
        _windows(numbered, least, most, stride, seed), max_pairs
    ):
        numbers, images = zip(*window)
        middle = label_index(len(images))
        entry = {
            "name": f"{name}_{numbers[0]:06d}",
            "frames": list(numbers),
            "label": numbers[middle],
        }
        if keep_frames:
            for k, image in enumerate(images):
                _write(image, output, "frames", entry["name"], f"{k:02d}.png")
        _write_pair(
            blur_from_frames(images, gamma), images[middle], output, entry["name"]
        )
        entries.append(entry)
        if on_pair is not None:
            on_pair(entry)
    if not entries:
        raise ValueError(
            f"`source` has no {least} consecutive frames of one shot that differ: it "
            f"has {numbered.count}, {numbered.repeated} equal to the one before, and "
            f"{numbered.cuts} cuts. Received: source={str(source)!r}, "
            f"num_frames={num_frames}"
        )
    metadata = {
        "source": Path(source).resolve().name,
        "fps": fps,
        "gamma": gamma,
        "num_frames": [least, most],
        "stride": stride,
        "seed": seed,
        "repeated": numbered.repeated,
        "cuts": numbered.cuts,
        "pairs": entries,
    }
    _write_metadata(metadata, output, name)
    return metadata


def pairs_from_photo(
    path: PathLike,
    output: PathLike,
    count: int = 1,
    *,
    size: int | None = None,
    max_megapixels: float = 1.6,
    blur: MotionBlur | None = None,
    name: str | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Makes pairs of a sharp photo by `synthesize_motion_blur`.

    Args:
        path: image file that `read_image` reads.
        output: folder, made if needed; many photos may share it.
        count: pairs of this photo, each with its own camera path.
        size: side of square patches in pixels, each from its own place; None for the
            whole photo. The whole photo loses a border of `blur.margin` pixels, into
            which the camera's path may reach.
        max_megapixels: a larger photo is reduced to this first. Camera pictures are
            seldom sharp at the pixel; it also bounds the memory.
        blur: `MotionBlur`; by default `MotionBlur()`.
        name: start of the pairs' names; by default that of the file.
        seed: integer; together with `name` and the number of a pair it decides on the
            place and the path.

    Returns:
        What is also written to `metadata/<name>.json`: a dictionary of the settings
        and "pairs", a list of dictionaries with "name", "origin" (row and column of
        the pair's corner in the reduced photo) and "seed" (of
        `synthesize_motion_blur`).

    Raises:
        ImageFileError: the file cannot be read.
        ValueError: an argument is wrong, or the photo is too small.
    """
    for key, value in (("count", count), ("size", 1 if size is None else size)):
        if value < 1:
            raise ValueError(f"`{key}` must be at least 1. Received: {key}={value}")
    if not 0 < max_megapixels < float("inf"):
        raise ValueError(
            "`max_megapixels` must be positive. "
            f"Received: max_megapixels={max_megapixels}"
        )
    blur = MotionBlur() if blur is None else blur
    if blur.num_targets > 1:
        raise ValueError(
            "A pair has one sharp image: `blur.num_targets` must be 1. "
            f"Received: blur.num_targets={blur.num_targets}"
        )
    pixels = _reduced(from_float(read_image(path).pixels, "uint8"), max_megapixels)
    name = _source_name(path) if name is None else name
    margin = blur.margin
    height, width = pixels.shape[:2]
    needed = (size or 1) + 2 * margin
    if min(height, width) < needed:
        raise ValueError(
            f"The photo is too small: {width}x{height} pixels; patches and the border "
            f"around them need {needed}. Received: path={str(path)!r}, size={size}, "
            f"blur.max_path={blur.max_path}"
        )
    entries = []
    for k in range(count):
        rng = np.random.default_rng([seed, zlib.crc32(name.encode()), k])
        y, x, source = 0, 0, pixels
        if size is not None:
            y = int(rng.integers(height - needed + 1))
            x = int(rng.integers(width - needed + 1))
            source = pixels[y : y + needed, x : x + needed]
        blur_seed = int(rng.integers(2**31))
        blurry, sharp = synthesize_motion_blur(
            source[None].astype("float32") / 255,
            [blur_seed],
            blur,
            margin=margin,
        )
        entry = {
            "name": name if count == 1 else f"{name}_{k:0{len(str(count - 1))}d}",
            "origin": [y + margin, x + margin],
            "seed": blur_seed,
        }
        _write_pair(np.array(blurry)[0], np.array(sharp)[0], output, entry["name"])
        entries.append(entry)
    metadata = {
        "source": Path(path).name,
        "reduced_size": [height, width],
        "size": size,
        "max_megapixels": max_megapixels,
        **blur.get_config(),
        "seed": seed,
        "pairs": entries,
    }
    _write_metadata(metadata, output, name)
    return metadata


class _ShotNumbering:
    """Iterates over (number, frame, shot), without frames equal to the one before.

    Attributes:
        count: frames seen so far.
        repeated: those left out.
        cuts: shots begun after the first.
    """

    def __init__(self, frames):
        self.frames = frames
        self.count = self.repeated = self.cuts = 0

    def __iter__(self):
        before = histogram = None
        for number, frame in enumerate(self.frames):
            self.count += 1
            if before is not None and np.array_equal(frame, before):
                self.repeated += 1
                continue
            before, last = frame, histogram
            histogram = _color_histogram(frame)
            if last is not None and np.abs(histogram - last).sum() / 2 > CUT_DISTANCE:
                self.cuts += 1
            yield number, frame, self.cuts


def _windows(numbered, least, most, stride, seed):
    """Lists of (number, frame); what is read ahead is at most `most` frames."""
    for _, shot in itertools.groupby(numbered, key=lambda item: item[2]):
        window, skip = [], 0
        while True:
            skipped = sum(1 for _ in itertools.islice(shot, skip))
            missing = most - len(window)
            window += [item[:2] for item in itertools.islice(shot, missing)]
            if skipped < skip or len(window) < least:
                break
            # A function of the place, so that it does not depend on what came before.
            drawn = np.random.default_rng([seed, window[0][0]]).integers(
                least, most, endpoint=True
            )
            length = min(int(drawn), len(window))
            yield window[:length]
            step = stride or length
            window, skip = window[step:], max(step - len(window), 0)


def _color_histogram(frame):
    """Shares of the pixels in 8 x 8 x 8 classes of colour, of about 128 lines."""
    step = max(1, min(frame.shape[:2]) // 128)
    bins = (frame[::step, ::step] >> 5).astype("int32")
    index = bins[..., 0] * 64 + bins[..., 1] * 8 + bins[..., 2]
    return np.bincount(index.ravel(), minlength=512) / index.size


def _check_num_frames(num_frames):
    both = num_frames if isinstance(num_frames, (tuple, list)) else [num_frames] * 2
    if len(both) != 2 or not 2 <= both[0] <= both[1]:
        raise ValueError(
            "`num_frames` must be at least 2, or (least, most). "
            f"Received: num_frames={num_frames}"
        )
    return int(both[0]), int(both[1])


def _reduced(pixels, max_megapixels):
    height, width = pixels.shape[:2]
    scale = math.sqrt(max_megapixels * 1e6 / (height * width))
    if scale >= 1:
        return pixels
    size = max(1, round(scale * width)), max(1, round(scale * height))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))


def _source_name(source):
    return Path(source).resolve().stem


def _write_pair(blurry, sharp, output, name):
    _write(blurry, output, "blur", f"{name}.png")
    _write(sharp, output, "sharp", f"{name}.png")


def _write(pixels, output, *parts):
    path = Path(output, *parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    if pixels.dtype == np.uint8:
        pixels = pixels / np.float32(255)
    write_image(path, Photo(pixels))


def _write_metadata(metadata, output, name):
    path = Path(output, "metadata", f"{name}.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(metadata, indent=1, default=repr)
    with atomic_file(path) as partial:
        partial.write_text(text + "\n", "utf-8")
