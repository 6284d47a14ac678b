"""Named sets of pairs: the images that train, that choose, and that are reported."""

import collections
import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image, ImageDraw, ImageFont

from keras_mhdeblur.data.frames import blur_from_frames
from keras_mhdeblur.data.motion_blur import MotionBlur
from keras_mhdeblur.data.synthesis import synthesize_motion_blur
from keras_mhdeblur.photos import read_image
from keras_mhdeblur.utils.spelling import did_you_mean
from keras_mhdeblur.utils.types import PathLike

_BATCH_SIZE = 8
_SECTIONS = {"photos", "soft_photos", "synthesized", "pairs", "frames", "exposures"}
_SYNTHESIZED = {"kind", "seed", "sizes", "blur", "exposure", "photos"}
_PAIRS = {"kind", "blurry", "sharp", "size", "count", "seed", "chose"}
_FRAMES = {"kind", "folders", "lengths", "size", "count", "seed", "chose"}


@dataclasses.dataclass(frozen=True)
class Pair:
    """A blurry image and its label.

    Attributes:
        name: such as "shake/0012", numbered within the kind.
        kind: such as "shake".
        blurry, sharp: uint8 (H, W, 3).
        scene: the photo or folder that it is of; images of one scene are alike.
        chose: names of presets that this image trained or chose.
    """

    name: str
    kind: str
    blurry: np.ndarray
    sharp: np.ndarray
    scene: str
    chose: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Exposure:
    """A blurry image and all sharp frames of its exposure.

    Attributes:
        name, kind, scene: as of `Pair`.
        blurry: uint8 (H, W, 3).
        frames: uint8 (T, H, W, 3), in order of time.
    """

    name: str
    kind: str
    blurry: np.ndarray
    frames: np.ndarray
    scene: str


class ImageSet:
    """A set of pairs that a file describes: photos, kinds of blur, seeds, real pairs.

    The file is YAML with the entries

    - `photos`: paths of sharp photos below the folder of the data. `soft_photos`:
      further ones, which are named only, as they are not sharp at their full size.
    - `synthesized`: a list of kinds of blur. `kind`: its name. `seed`: an integer.
      `sizes`: a dictionary from the side of the square crops to their number; the side
      may be `whole`, for whole photos. `blur`: the arguments of `data.MotionBlur`.
      `exposure`: (least, most) share of the light, for dark pictures; 1 by default.
      `photos: text`: pictures of text in place of the photos.
    - `pairs`: a list of folders with files of equal names, `kind`, `blurry` and
      `sharp`. With `size`, `count` crops of each, at places that `seed` draws.
    - `frames`: a list of runs of sharp frames, `kind` and `folders`. `count` crops of
      `size` are averages of consecutive frames, as many as one of `lengths`; the label
      is the middle one.

    - `exposures`: a list of entries as of `synthesized` or of `frames`, whose frames
      are all kept.

    `chose` of pairs and frames names the presets that they trained or chose.

    Args:
        path: path of the file.
        data: folder of the data, for the paths in the file.

    Raises:
        ValueError: an entry of the file is unknown or missing.
    """

    def __init__(self, path: PathLike, data: PathLike):
        self.data = Path(data)
        description = yaml.safe_load(Path(path).read_text("utf-8"))
        _check_names(description, _SECTIONS, path)
        self.photos: list[str] = description.get("photos", [])
        self.synthesized: list[dict] = description.get("synthesized", [])
        self.real_pairs: list[dict] = description.get("pairs", [])
        self.frames: list[dict] = description.get("frames", [])
        self.of_exposures: list[dict] = description.get("exposures", [])
        for entries, known in (
            (self.synthesized, _SYNTHESIZED),
            (self.real_pairs, _PAIRS),
            (self.frames, _FRAMES),
            (self.of_exposures, _SYNTHESIZED | _FRAMES),
        ):
            for entry in entries:
                _check_names(entry, known, path)

    @property
    def kinds(self) -> list[str]:
        """Names of the kinds of pairs, in the order of the file."""
        entries = [*self.synthesized, *self.real_pairs, *self.frames]
        return list(dict.fromkeys(entry["kind"] for entry in entries))

    def __len__(self):
        """Number of pairs."""
        return (
            sum(sum(entry["sizes"].values()) for entry in self.synthesized)
            + sum(
                len(list((self.data / entry["blurry"]).iterdir()))
                * entry.get("count", 1)
                for entry in self.real_pairs
            )
            + sum(entry["count"] for entry in self.frames)
        )

    def pairs(self, kind: str | None = None) -> Iterator[Pair]:
        """Yields the pairs, always the same ones.

        Args:
            kind: one of `kinds`; None for all.

        Raises:
            ValueError: there is no such kind.
        """
        if kind is not None and kind not in self.kinds:
            raise ValueError(
                f"`kind` must be one of {', '.join(self.kinds)}"
                f"{did_you_mean(str(kind), self.kinds)}. Received: kind={kind!r}"
            )
        numbers: collections.Counter[str] = collections.Counter()
        for entries, made in (
            (self.synthesized, self._simulated),
            (self.real_pairs, self._cropped),
            (self.frames, self._averaged),
        ):
            for entry in entries:
                if kind not in (None, entry["kind"]):
                    continue
                chose = tuple(entry.get("chose", ()))
                for blurry, sharp, scene in made(entry):
                    numbers[entry["kind"]] += 1
                    name = f"{entry['kind']}/{numbers[entry['kind']]:04}"
                    yield Pair(name, entry["kind"], blurry, sharp, scene, chose)

    def exposures(self) -> Iterator[Exposure]:
        """Yields the exposures, always the same ones."""
        for entry in self.of_exposures:
            kind = entry["kind"]
            averages = "folders" in entry
            made = self._runs(entry) if averages else self._simulated(entry, True)
            for number, (blurry, frames, scene) in enumerate(made, 1):
                yield Exposure(f"{kind}/{number:04}", kind, blurry, frames, scene)

    def _simulated(self, entry, with_frames=False):
        """Yields blurry images, labels or all frames, and scenes."""
        blur = MotionBlur(**entry.get("blur", {}))
        if blur.num_targets > 1:
            raise ValueError(
                "A set takes one label, or all frames: `num_targets` of `blur` must be "
                f"1. Received: num_targets={blur.num_targets}"
            )
        index = 0
        for size, count in entry["sizes"].items():
            side = None if size == "whole" else size + 2 * blur.margin
            step = _BATCH_SIZE if side else 1
            for start in range(0, count, step):
                seeds = entry["seed"] + index + np.arange(min(step, count - start))
                patches, scenes = zip(
                    *(self._patch(entry, seed, side) for seed in seeds)
                )
                images = synthesize_motion_blur(
                    np.stack(patches),
                    seeds,
                    blur,
                    margin=blur.margin,
                    return_frames=with_frames,
                )
                blurry, *_, sharp = map(_as_bytes, images)
                yield from zip(blurry, sharp, scenes)
                index += len(seeds)

    def _patch(self, entry, seed, size):
        """A sharp float32 patch, and the name of its scene.

        The patch is (size, size, 3), or a whole photo without a size.
        """
        random = np.random.default_rng(seed)
        if entry.get("photos") == "text":
            patch, scene = text_picture(random, size), f"text {seed}"
        else:
            scene = self.photos[seed % len(self.photos)]
            pixels = _photo(self.data / scene)
            patch = pixels[_window(pixels.shape, size, random)] if size else pixels
        patch = patch.astype("float32") / 255
        exposure = random.uniform(*entry.get("exposure", (1.0, 1.0)))
        return patch * np.float32(exposure ** (1 / 2.2)), scene

    def _cropped(self, entry):
        random = np.random.default_rng(entry.get("seed"))
        folders = [self.data / entry[part] for part in ("blurry", "sharp")]
        names = sorted(path.name for path in folders[0].iterdir())
        for name in names:
            images = [_photo(folder / name) for folder in folders]
            for _ in range(entry.get("count", 1)):
                place = ...
                if "size" in entry:
                    place = _window(images[0].shape, entry["size"], random)
                yield *(image[place] for image in images), entry["blurry"]

    def _averaged(self, entry):
        for blurry, frames, scene in self._runs(entry):
            yield blurry, frames[len(frames) // 2], scene

    def _runs(self, entry):
        """Yields averages of consecutive frames, the frames, and the scene."""
        random = np.random.default_rng(entry["seed"])
        paths = [
            path
            for folder in entry["folders"]
            for path in sorted((self.data / folder).iterdir())
        ]
        frames = [_photo(path) for path in paths]
        for _ in range(entry["count"]):
            length = int(random.choice(entry["lengths"]))
            start = int(random.integers(0, len(frames) - length + 1))
            place = _window(frames[0].shape, entry["size"], random)
            taken = np.stack([frame[place] for frame in frames[start : start + length]])
            yield _as_bytes(blur_from_frames(taken)), taken, entry["folders"][0]


def text_picture(random: np.random.Generator, size: int) -> np.ndarray:
    """A picture of lines of random letters, uint8 (size, size, 3)."""
    paper, ink = random.integers(150, 256, 3), random.integers(0, 90, 3)
    if random.uniform() < 0.25:
        paper, ink = ink, paper
    picture = Image.new("RGB", (size, size), tuple(map(int, paper)))
    draw = ImageDraw.Draw(picture)
    letters = list("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
    top = int(random.integers(0, 20))
    while top < size:
        height = int(random.integers(10, 42))
        words = "".join(
            " " if random.uniform() < 0.16 else str(random.choice(letters))
            for _ in range(2 * size // height + 4)
        )
        font = ImageFont.load_default(height)
        draw.text(
            (int(random.integers(-20, 20)), top), words, tuple(map(int, ink)), font
        )
        top += int(height * random.uniform(1.2, 1.8))
    return np.asarray(picture)


@functools.lru_cache(16)
def _photo(path: Path) -> np.ndarray:
    return read_image(path).to_array()[..., :3]


def _as_bytes(image: Any) -> np.ndarray:
    return np.clip(np.round(255 * np.asarray(image)), 0, 255).astype("uint8")


def _window(shape, size, random):
    """Slices of a crop at a random place."""
    if min(shape[:2]) < size:
        raise ValueError(
            f"`sizes` must fit into every photo, with the blur's margin. Received: a "
            f"crop of {size} pixels of an image of shape {shape}"
        )
    starts = [int(random.integers(0, side - size + 1)) for side in shape[:2]]
    return tuple(slice(start, start + size) for start in starts)


def _check_names(entries, known, path):
    for name in entries:
        if name not in known:
            raise ValueError(
                f"{path}: entries must be {', '.join(sorted(known))}"
                f"{did_you_mean(str(name), known)}. Received: {name}"
            )
