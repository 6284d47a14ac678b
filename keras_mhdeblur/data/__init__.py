"""Data: image files, folders of pairs, and blur synthesis."""

from keras_mhdeblur.data.alignment import align_for_scoring
from keras_mhdeblur.data.benchmarks import (
    Benchmark,
    benchmark,
)
from keras_mhdeblur.data.folders import (
    list_images,
    list_pairs,
    paired_files,
    paired_folder,
    sharp_folder,
    synthesized_folder,
)
from keras_mhdeblur.data.frames import blur_from_frames, open_frames
from keras_mhdeblur.data.motion_blur import MotionBlur
from keras_mhdeblur.data.pairs import pairs_from_frames, pairs_from_photo
from keras_mhdeblur.data.patches import Patches
from keras_mhdeblur.data.pipeline import keep_gpus_free
from keras_mhdeblur.data.prepared import prepare, prepared_folder, prepared_size
from keras_mhdeblur.data.synthesis import synthesize_motion_blur
from keras_mhdeblur.photos import ImageFileError, read_image, write_image

keep_gpus_free()

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
