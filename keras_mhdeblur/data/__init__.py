"""Data: image files, folders of pairs, and blur synthesis."""

import importlib
from typing import TYPE_CHECKING

from keras_mhdeblur.data.alignment import align_for_scoring
from keras_mhdeblur.data.motion_blur import MotionBlur
from keras_mhdeblur.data.synthesis import synthesize_motion_blur
from keras_mhdeblur.photos import ImageFileError, read_image, write_image

if TYPE_CHECKING:
    from keras_mhdeblur.data.benchmarks import Benchmark, benchmark
    from keras_mhdeblur.data.folders import (
        list_images,
        list_pairs,
        paired_files,
        paired_folder,
        sharp_folder,
        synthesized_folder,
    )
    from keras_mhdeblur.data.frames import blur_from_frames, open_frames
    from keras_mhdeblur.data.pairs import pairs_from_frames, pairs_from_photo
    from keras_mhdeblur.data.patches import Patches
    from keras_mhdeblur.data.prepared import prepare, prepared_folder, prepared_size

# Names to the modules that have them. They need TensorFlow, which a training on another
# backend that blurs in its own step does without.
_LAZY = {
    "Benchmark": "benchmarks",
    "Patches": "patches",
    "benchmark": "benchmarks",
    "blur_from_frames": "frames",
    "list_images": "folders",
    "list_pairs": "folders",
    "open_frames": "frames",
    "paired_files": "folders",
    "paired_folder": "folders",
    "pairs_from_frames": "pairs",
    "pairs_from_photo": "pairs",
    "prepare": "prepared",
    "prepared_folder": "prepared",
    "prepared_size": "prepared",
    "sharp_folder": "folders",
    "synthesized_folder": "folders",
}

__all__ = [
    "Benchmark",
    "ImageFileError",
    "MotionBlur",
    "Patches",
    "align_for_scoring",
    "benchmark",
    "blur_from_frames",
    "list_images",
    "list_pairs",
    "open_frames",
    "paired_files",
    "paired_folder",
    "pairs_from_frames",
    "pairs_from_photo",
    "prepare",
    "prepared_folder",
    "prepared_size",
    "read_image",
    "sharp_folder",
    "synthesize_motion_blur",
    "synthesized_folder",
    "write_image",
]


def __getattr__(name):
    if name in _LAZY:
        module = importlib.import_module(f"{__name__}.{_LAZY[name]}")
        return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return __all__
