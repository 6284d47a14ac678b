"""Comparison of an exported model, in its own runtime, with Keras."""

import dataclasses
import importlib.resources
import json
import math
import statistics
import time
import warnings
from pathlib import Path

import numpy as np

from keras_mhdeblur.engines.keras_engine import KerasEngine
from keras_mhdeblur.export.graphs import OWN, image_selection
from keras_mhdeblur.hypotheses.stacks import uncertainty
from keras_mhdeblur.photos import photos_of

# A crop of an average of eight frames of GOPRO_Large_all, Nah, Kim and Lee, CVPR 2017,
# CC BY 4.0. Models are not trained on it.
PHOTO = importlib.resources.files(__package__) / "photo.jpg"
# Pixels a side of what is compared, at most, of larger photos.
LARGEST = 512
# Of so many calls the median time counts.
RUNS = 3


@dataclasses.dataclass(frozen=True)
class Bound:
    """Bound of an export's difference from Keras, at every size and in every output.

    Attributes:
        max_difference: largest absolute difference of a value, or None.
        psnr: smallest PSNR in dB, of the range [0, 1], or None.
    """

    max_difference: float | None = None
    psnr: float | None = None

    def holds(self, difference):
        """True for a `Difference` within the bound; NaN is not."""
        if self.psnr is None:
            return difference.max <= self.max_difference
        return difference.psnr >= self.psnr

    def __str__(self):
        if self.psnr is None:
            return f"largest difference at most {self.max_difference:g}"
        return f"PSNR at least {self.psnr:g} dB"


# For what computes in float32.
EXACT = Bound(max_difference=1e-4)


@dataclasses.dataclass(frozen=True)
class Difference:
    """Difference of an output's values from Keras'.

    Attributes:
        max: largest absolute difference.
        mean: mean absolute difference.
        psnr: PSNR in dB of the range [0, 1], at most 200.
    """

    max: float
    mean: float
    psnr: float

    @classmethod
    def of(cls, found, expected):
        """The difference of two arrays of one shape."""
        if found.shape != expected.shape:
            raise ValueError(
                f"An exported output must have the shape {expected.shape} of Keras'. "
                f"Received: shape={found.shape}"
            )
        difference = np.abs(np.subtract(found, expected, dtype="float64"))
        mse = np.square(difference).mean()
        psnr = -10 * np.log10(np.maximum(mse, 1e-20))
        return cls(float(difference.max()), float(difference.mean()), float(psnr))


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One image through the exported model and through Keras.

    Attributes:
        size: (H, W) of the image.
        differences: dict of the outputs' names to `Difference`s.
        ms: milliseconds of a call of the exported model.
        keras_ms: milliseconds of Keras for the same image.
    """

    size: tuple
    differences: dict
    ms: float
    keras_ms: float


@dataclasses.dataclass(frozen=True)
class Report:
    """Facts about an export, and its comparison with Keras.

    `str(report)` is a table for people.

    Attributes:
        path: the file or folder that was written.
        format: "litert", "onnx", "openvino" or "saved_model".
        output, tlc_train_size, size: as they were asked for, see `output_graph`.
        weights: how the weights are stored, see `to_litert`.
        num_bytes: size on disk.
        bound: `Bound` of the differences.
        comparisons: list of `Comparison`s, one per image.
    """

    path: Path
    format: str
    output: object
    tlc_train_size: object
    size: tuple | None
    weights: str
    num_bytes: int
    bound: Bound
    comparisons: list

    @property
    def passed(self) -> bool:
        """True if all differences are within the bound."""
        return all(
            self.bound.holds(difference)
            for comparison in self.comparisons
            for difference in comparison.differences.values()
        )

    def write(self, folder: Path) -> None:
        """Writes the report as a JSON file named after the exported one."""
        content = dataclasses.asdict(self)
        content["path"] = self.path.name
        content["passed"] = self.passed
        text = json.dumps(_without_nan(content), indent=2)
        (Path(folder) / f"{self.path.name}.json").write_text(text + "\n", "utf-8")

    def __str__(self):
        size = "any size" if self.size is None else "{}x{}".format(*self.size)
        output = self.output
        if not isinstance(output, str):
            output = "heads " + "+".join(map(str, np.atleast_1d(output)))
        lines = [
            f"{self.path.name}: {self.format}, {output}, {size}, "
            f"local statistics {self.tlc_train_size}, {self.weights}, "
            f"{self.num_bytes / 1e6:.2f} MB"
        ]
        for comparison in self.comparisons:
            where = "{}x{}".format(*comparison.size)
            for name, difference in comparison.differences.items():
                lines.append(
                    f"  {where:9} {name:11}  difference {difference.max:.1e} at most, "
                    f"{difference.mean:.1e} on average, PSNR {difference.psnr:.1f} dB"
                )
            times = f"{comparison.ms:.0f} ms, Keras {comparison.keras_ms:.0f} ms"
            lines.append(f"  {where:9} {times}")
        verdict = "within" if self.passed else "NOT within"
        return "\n".join([*lines, f"  {verdict} the bound: {self.bound}"])


def compare(model, run, images, *, output, tlc_train_size, **facts):
    """Runs an exported model and Keras on the same images; warns where they differ.

    Keras' results come from the head images (or the folded ones) that `restore`
    starts from, not from the graph that was exported.

    Args:
        model: `Deblurrer`.
        run: function of `images` (1, H, W, C) to a dict of named outputs.
        images: list of (H, W, C), from `comparison_images`.
        output, tlc_train_size: as in `output_graph`.
        facts: further arguments of `Report`.

    Returns:
        `Report`.
    """
    if isinstance(tlc_train_size, list):
        tlc_train_size = tuple(tlc_train_size)
    engine = KerasEngine.of(model, tlc_train_size)
    selection = image_selection(model, output)
    weights = None if selection is None else selection.weights
    folded = weights is not None and output != "all"
    keras_run = engine.fold(weights) if folded else engine.heads
    comparisons = []
    for image in images:
        found, ms = _timed(lambda image=image: run(images=image[None]))

        def expected(image=image, names=tuple(found)):
            heads = keras_run(image)
            if folded:
                return {"image": np.clip(heads[0], 0, 1)}
            return {
                name: _expected(name, heads, image, selection, model) for name in names
            }

        right, keras_ms = _timed(expected)
        differences = {
            name: Difference.of(found[name][0], right[name]) for name in right
        }
        comparisons.append(Comparison(image.shape[:2], differences, ms, keras_ms))
    if tlc_train_size == OWN:
        tlc_train_size = model.tlc_train_size
    report = Report(
        output=output,
        tlc_train_size=tlc_train_size,
        comparisons=comparisons,
        **facts,
    )
    if not report.passed:
        warnings.warn(f"The export differs from Keras:\n{report}", stacklevel=3)
    return report


def _expected(name, heads, image, selection, model):
    """An output by name of the head images (K, H, W, C) of a blurry image."""
    if name == "heads":
        return heads
    if name == "uncertainty":
        return uncertainty(heads, model.head_info.pairs)
    if name == "hypotheses":
        images = model.head_info.pairs.combined(heads)
    else:
        images = selection.image(heads, image)
    return np.clip(images, 0, 1)


def _timed(function):
    """Result of a function, and milliseconds of a call after the first."""
    result, times = function(), []
    for _ in range(RUNS):
        begin = time.perf_counter()
        function()
        times.append(1000 * (time.perf_counter() - begin))
    return result, statistics.median(times)


def comparison_images(photo, size):
    """Images that exports are compared on.

    Args:
        photo: path or array (H, W, 3) of a blurry photo, None for the package's own.
        size: (H, W) of the only image, or None: the middle of the photo, up to 512
            pixels a side, and an odd part of it.

    Returns:
        List of float32 (H, W, 3) in [0, 1].

    Raises:
        ImageFileError: the photo cannot be read.
        ValueError: it is no image.
    """
    pixels = pixels_of(PHOTO if photo is None else photo, "photo")
    if size is not None:
        return [crop_or_mirror(pixels, *size)]
    height, width = np.minimum(pixels.shape[:2], LARGEST)
    return [
        crop_or_mirror(pixels, height, width),
        crop_or_mirror(pixels, height * 2 // 3 | 1, width * 9 // 10 | 1),
    ]


def pixels_of(image, argument):
    """float32 (H, W, 3) in [0, 1] of one image as `restore` takes it."""
    photos, _ = photos_of(image, name=argument)
    if len(photos) > 1:
        raise ValueError(
            f"`{argument}` must not be a batch. Received: {len(photos)} images"
        )
    return photos[0].pixels


def crop_or_mirror(pixels, height, width):
    """The middle (height, width) of an image, mirrored where it is smaller."""
    for axis, size in enumerate((height, width)):
        missing = max(size - pixels.shape[axis], 0)
        padding = [(0, 0)] * 3
        padding[axis] = (missing // 2, missing - missing // 2)
        pixels = np.pad(pixels, padding, mode="symmetric")
        start = (pixels.shape[axis] - size) // 2
        pixels = pixels.take(range(start, start + size), axis)
    return pixels


def _without_nan(value):
    """JSON has no NaN and no infinity: None stands for them."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
