"""Types of public arguments."""

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import numpy as np

PathLike = str | os.PathLike[str]
# (blurry path, sharp path) of each pair, for example a `data.Benchmark`.
FilePairs = Iterable[tuple[PathLike, PathLike]]
# Batches (blurry, sharp), arrays or tensors (B, H, W, C): a `tf.data.Dataset`, too.
Batches = Iterable[Any]
# A `Deblurrer`, where a module must not import it.
AnyDeblurrer = Any
# A tensor of the backend or a symbolic one of Keras, or an array.
Tensor = Any
# What makes (blurry, sharp) of (patches, seeds): a `data.MotionBlur`.
Synthesis = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
# A Keras loss, or what `keras.losses.get` makes one of; `losses` has some.
LossLike = Any
# An image as `restore` takes it: a path, an array, a PIL image or a `Photo`.
ImageLike = PathLike | np.ndarray | Any
# The `select` of `restore`, see there.
Select = (
    Literal["mean", "medoid", "single", "adaptive"]
    | int
    | Sequence[int]
    | Sequence[float]
    | np.ndarray
    | Callable[[np.ndarray], Any]
)
# Size of the training crops in pixels, None for global statistics, or the model's own.
LocalStatistics = Literal["model"] | int | tuple[int, int] | None
# The same for a model itself.
CropSize = int | Sequence[int] | None
Engine = Literal["auto", "keras", "litert"]
Progress = bool | Callable[[int, int], Any]
# The `output` of an export, see `export.output_graph`.
Output = str | int | Sequence[int] | Sequence[float]
Size = tuple[int, int]
# The sections of a recipe, see `training.recipes`.
Recipe = dict[str, Any]
# The response curve of a camera: its exponent, or functions to linear light and back.
Gamma = float | Literal["srgb"] | tuple[Callable, Callable]
