"""Protocols of scores: the settings that published figures differ in."""

import dataclasses
import functools
import math
from collections.abc import Callable

import numpy as np

from keras_mhdeblur import metrics
from keras_mhdeblur.data import align_for_scoring
from keras_mhdeblur.data.benchmarks import BENCHMARKS, check_choice
from keras_mhdeblur.deblurrer import Deblurrer
from keras_mhdeblur.engines.keras_engine import KerasEngine
from keras_mhdeblur.engines.tiling import head_images
from keras_mhdeblur.inference.engine_choice import choose_engine
from keras_mhdeblur.networks.registry import families, family_of
from keras_mhdeblur.utils.types import LocalStatistics

# Memory for tiles, about that of `restore` by default.
_TILE_BYTES = 1.9e9
# Key of each SSIM variant (`metrics.ssim`) in scores.
SSIM_KEYS = {"per_channel": "ssim", "3d": "ssim_3d", "luma": "ssim_luma"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Protocol:
    """Settings for running a model and comparing its images with the label.

    Images are RGB and always clipped to [0, 1], as in every official code.

    Args:
        name: name, for the records.
        tlc_train_size: "model": as the model has it. Otherwise the size in pixels of
            the training crops for TLC (see `NAFNet.with_local_statistics`), or None
            for global statistics.
        crop_size: None to run whole images, or the side in pixels of square crops that
            cover the image, evenly spaced with the least overlap, and are averaged
            where they overlap.
        pad_multiple: None for the network's own padding, or a number: before the
            network, images are reflected at the bottom and the right up to multiples
            of it.
        round_to_8_bits: whether images are rounded to 256 levels, as in files.
        crop_border: pixels left out of the comparison at each border.
        align: whether an image is first moved onto its label and only the pixels that
            it then covers are scored, as RealBlur's authors do
            (`data.align_for_scoring`).
        ssim: variants of `metrics.ssim` to compute.
        as_restored: whether images are run as `restore` runs them, in its tiles, with
            its engine and its guard; `crop_size` and `pad_multiple` then are None.
    """

    name: str
    tlc_train_size: LocalStatistics = "model"
    crop_size: int | None = None
    pad_multiple: int | None = None
    round_to_8_bits: bool = True
    crop_border: int = 0
    align: bool = False
    ssim: tuple = ("per_channel", "3d", "luma")
    as_restored: bool = False

    def __post_init__(self):
        for name in ("crop_size", "pad_multiple"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(
                    f"`{name}` must be None or a positive number. "
                    f"Received: {name}={value!r}"
                )
            if value is not None and self.as_restored:
                raise ValueError(
                    f"`{name}` must be None with `as_restored`. "
                    f"Received: {name}={value!r}"
                )
        if self.crop_border < 0:
            raise ValueError(
                "`crop_border` must not be negative. "
                f"Received: crop_border={self.crop_border}"
            )
        if isinstance(self.ssim, str) or not set(self.ssim) <= SSIM_KEYS.keys():
            raise ValueError(
                f"`ssim` must be a tuple of names out of {', '.join(SSIM_KEYS)}. "
                f"Received: ssim={self.ssim!r}"
            )
        local = self.tlc_train_size
        if isinstance(local, str) and local != "model":
            raise ValueError(
                '`tlc_train_size` must be "model", None or a size in pixels. '
                f"Received: tlc_train_size={local!r}"
            )

    def of(self, model: Deblurrer) -> "Protocol":
        """This protocol with the model's `tlc_train_size` in place of "model"."""
        if self.tlc_train_size != "model":
            return self
        return dataclasses.replace(self, tlc_train_size=model.tlc_train_size)

    def head_function(self, model: Deblurrer) -> Callable[[np.ndarray], np.ndarray]:
        """Function from an image (H, W, C) to the head images (K, H, W, C)."""
        if self.as_restored:
            engine = choose_engine(model, "auto", self.tlc_train_size)
            return functools.partial(head_images, engine, memory=_TILE_BYTES)
        run = KerasEngine.of(model, self.tlc_train_size).heads

        def heads(image):
            height, width = image.shape[:2]
            if self.pad_multiple is not None:
                bottom, right = -height % self.pad_multiple, -width % self.pad_multiple
                image = np.pad(image, ((0, bottom), (0, right), (0, 0)), "reflect")
            if self.crop_size is None:
                stack = run(image)
            else:
                stack = _average_of_crops(run, image, self.crop_size)
            return stack[:, :height, :width]

        return heads

    def compared(self, image: np.ndarray) -> np.ndarray:
        """The part of an image (..., H, W, C) that is compared."""
        if self.crop_border:
            inside = slice(self.crop_border, -self.crop_border)
            image = image[..., inside, inside, :]
        image = np.clip(image, 0, 1)
        if self.round_to_8_bits:
            image = np.rint(255 * image) / 255
        return image.astype("float32")

    def scores(
        self, image: np.ndarray, sharp: np.ndarray, ssim: bool = True
    ) -> dict[str, float]:
        """Scores of an image (H, W, C) against its label.

        Args:
            image, sharp: float in [0, 1].
            ssim: whether to compute SSIM, too.

        Returns:
            Dictionary of "psnr" and of the keys of `SSIM_KEYS`.

        Raises:
            ImportError, ValueError: the images cannot be aligned.
        """
        image, sharp = self.compared(image), self.compared(sharp)
        mask = None
        if self.align:
            image, mask = align_for_scoring(image, sharp)
        scores = {"psnr": float(metrics.finite_psnr(sharp, image, mask))}
        for variant in self.ssim if ssim else ():
            value = metrics.ssim(sharp, image, variant=variant, mask=mask)
            scores[SSIM_KEYS[variant]] = float(value)
        return scores


PLAIN = Protocol(name="plain", as_restored=True)


def get_protocol(
    protocol: str | Protocol, model: Deblurrer, benchmark: str | None = None
) -> Protocol:
    """The protocol of a name.

    Args:
        protocol: "plain": images as `restore` gives them, as 8-bit files, with the
            model's own `tlc_train_size` and all variants of SSIM; aligned with their
            labels where the benchmark is RealBlur. "paper": as the official code of
            arXiv 2208.13029 ran this kind of network on this benchmark. A `Protocol`
            is returned as it is.
        model: `Deblurrer`.
        benchmark: name of the benchmark that the images are from, as in
            `data.benchmark`, if any.

    Returns:
        `Protocol`.

    Raises:
        ValueError: if there is no such protocol or no such benchmark.
    """
    if benchmark is not None:
        check_choice("benchmark", benchmark, BENCHMARKS)
    if isinstance(protocol, Protocol):
        return protocol
    if protocol == "plain":
        realblur = str(benchmark).startswith("realblur")
        return dataclasses.replace(PLAIN, align=True) if realblur else PLAIN
    if protocol != "paper":
        raise ValueError(
            '`protocol` must be "plain", "paper" or a Protocol. '
            f"Received: protocol={protocol!r}"
        )
    family = family_of(model.network)
    if family is None or not family.paper:
        names = sorted(known.name for known in families() if known.paper)
        raise ValueError(
            f"The paper's protocol is known for {', '.join(names)}. "
            f"Received: a model with a network of class {type(model.network).__name__}"
        )
    if benchmark not in family.paper:
        raise ValueError(
            "The paper's code differs from benchmark to benchmark: `benchmark` must be "
            f"one of {', '.join(family.paper)}. Received: benchmark={benchmark!r}"
        )
    # Its test configurations differ, so that the rows of the paper's Table 1 are not
    # comparable with each other. SSIM is of the 3-D kind everywhere.
    return Protocol(name="paper", ssim=("3d",), **family.paper[benchmark])


def _average_of_crops(run, image, size):
    """Head images (K, H, W, C), averaged over overlapping crops of an image."""
    total, counts = 0, np.zeros((*image.shape[:2], 1), "float32")
    for top in _crop_starts(image.shape[0], size):
        for left in _crop_starts(image.shape[1], size):
            rows, columns = slice(top, top + size), slice(left, left + size)
            heads = run(image[rows, columns])
            if counts.max() == 0:
                total = np.zeros((len(heads), *image.shape), "float32")
            total[:, rows, columns] += heads
            counts[rows, columns] += 1
    return total / counts


def _crop_starts(length, size):
    """Starts of the fewest crops that cover an axis, evenly spaced, ending with it."""
    if length <= size:
        return [0]
    count = math.ceil(length / size)
    step = math.ceil((length - size) / (count - 1))
    return [min(index * step, length - size) for index in range(count)]
