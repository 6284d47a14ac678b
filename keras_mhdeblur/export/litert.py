"""A `Deblurrer` as a LiteRT (TensorFlow Lite) file."""

import os
import re
import tempfile
from collections.abc import Iterable
from typing import Literal

import numpy as np
import tensorflow as tf

from keras_mhdeblur.engines.litert_model import cores
from keras_mhdeblur.export.exporter import ExportError, export_file
from keras_mhdeblur.export.graphs import INPUT_NAME, OWN, check_size, image_selection
from keras_mhdeblur.export.parity import EXACT, Bound, Report, crop_or_mirror, pixels_of
from keras_mhdeblur.export.tracing import write_saved_model
from keras_mhdeblur.hypotheses.selection import Adaptive
from keras_mhdeblur.layers.static_shapes import static_shapes
from keras_mhdeblur.utils.types import (
    AnyDeblurrer,
    ImageLike,
    LocalStatistics,
    Output,
    PathLike,
    Size,
)

BOUNDS = {
    "float32": EXACT,
    "float16": Bound(psnr=60),
    "int8": Bound(psnr=35),
    "full_int8": Bound(psnr=25),
}
# Of any size as well, images are calibrated with at most so many pixels a side.
CALIBRATION_SIZE = 256


def to_litert(
    model: AnyDeblurrer,
    path: PathLike,
    output: Output = "selected",
    *,
    tlc_train_size: LocalStatistics = OWN,
    size: Size | None = None,
    weights: Literal["float32", "float16", "int8", "full_int8"] = "float32",
    representative_data: Iterable[ImageLike] | None = None,
    photo: ImageLike | None = None,
) -> Report:
    """Writes a LiteRT file, runs it and compares it with Keras.

    It holds LiteRT's own operators only. Its signature "serving_default" takes
    `images` (B, H, W, 3), float32 in [0, 1], and gives the outputs of
    `output_graph` by name. Without `size` any height, width and number of images
    will do: the interpreter's `get_signature_runner` resizes it to them.

    Args:
        model: `Deblurrer`.
        path: path of the file, ending in .tflite.
        output: "selected", "mean", "single", "adaptive", (i, j), i, "heads",
            "hypotheses" or "all", see `output_graph`.
        tlc_train_size: size of the training crops for TLC, None for global
            statistics, "model" for the model's own, see `output_graph`.
        size: None, or (H, W) to which the input is fixed, with a batch of one, as
            some accelerators need it.
        weights: how weights are stored and what computes.
            "float32": as they are.
            "float16": half the size; computed in float32.
            "int8": about a third of the size; convolutions compute with integers whose
            ranges are taken from each image (dynamic range quantization).
            "full_int8": activations are integers too, with ranges taken from
            `representative_data`; input and output stay float32, as do operators
            that LiteRT has no integers for. A deblurrer loses much by it. Where the
            model selects "adaptive", "selected" is the mean: energies from 1e-8 to 1
            do not fit into 8 bits.
        representative_data: for "full_int8": blurry images of the kind to be
            restored, some dozens: paths, or arrays as `restore` takes them.
        photo: the photo to compare with, a path or an array; one comes with the
            package.

    Returns:
        `Report` of the comparison, which is written to `path + ".json"` too.

    Raises:
        ExportError: the network needs an operator that LiteRT has not.
        ImportError: ai-edge-litert is missing.
        OSError: the file cannot be written.
        ValueError: an argument is out of its range.

    Example:

    ```python
    print(to_litert(model, "deblur.tflite", weights="float16"))
    ```
    """
    if weights not in BOUNDS:
        raise ValueError(
            f"`weights` must be one of {', '.join(BOUNDS)}. "
            f"Received: weights={weights!r}"
        )
    if (weights == "full_int8") != (representative_data is not None):
        raise ValueError(
            '`representative_data` must be given for weights="full_int8", and for no '
            f"other. Received: weights={weights!r}, "
            f"representative_data={representative_data!r}"
        )
    if weights == "full_int8" and _is_adaptive(model, output):
        if output != "selected":
            raise ValueError(
                '`output` must be without the adaptive mean for weights="full_int8", '
                'which has no place for its statistics: "mean" or "hypotheses", say. '
                f"Received: output={output!r}"
            )
        output = "mean"
    check_size(size)
    samples = _samples(representative_data, size)
    return export_file(
        model,
        path,
        output,
        tlc_train_size=tlc_train_size,
        size=size,
        photo=photo,
        format="litert",
        suffix=".tflite",
        packages=["ai_edge_litert"],
        install="ai-edge-litert",
        convert=lambda graph, file: file.write_bytes(_convert(graph, weights, samples)),
        load=load_litert,
        weights=weights,
        bound=BOUNDS[weights],
    )


def _is_adaptive(model, output):
    return isinstance(image_selection(model, output), Adaptive)


def load_litert(path):
    """Function from images (B, H, W, C) to a dict of the outputs of a file."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=cores())
    return interpreter.get_signature_runner("serving_default")


def _convert(graph, weights, samples):
    with tempfile.TemporaryDirectory() as scratch:
        with static_shapes():
            write_saved_model(graph, scratch)
        converter = tf.lite.TFLiteConverter.from_saved_model(scratch)
        spec = converter.target_spec
        spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if weights != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if weights == "float16":
            spec.supported_types = [tf.float16]
        if weights == "full_int8":
            spec.supported_ops.append(tf.lite.OpsSet.TFLITE_BUILTINS_INT8)
            converter.representative_dataset = lambda: samples
        try:
            return converter.convert()
        except Exception as error:  # of a class that is not public
            raise ExportError(_reason(str(error))) from error


def _reason(message):
    """Why the converter failed, in a sentence, from its message of many pages."""
    missing = re.search(r"^(?:TF Select|Custom) ops: (.*)$", message, re.MULTILINE)
    if missing is None:
        return f"LiteRT's converter failed: {message.strip().splitlines()[0]}"
    layer = re.search(r'fused\["\w+:", "([^"@]+)', message)
    where = f" (first in {layer[1]})" if layer else ""
    return (
        f"LiteRT has no operator of its own for {missing[1]}{where} in the form the "
        "network uses it. Features whose number of channels is unknown are a common "
        "reason: state it with `keras.ops.reshape`."
    )


def _samples(representative_data, size):
    """Input of the calibration, from `representative_data`."""
    if representative_data is None:
        return None
    if isinstance(representative_data, (str, os.PathLike)):
        raise ValueError(
            "`representative_data` must be several images, not one path. "
            f"Received: representative_data={representative_data!r}"
        )
    images = []
    for image in representative_data:
        pixels = pixels_of(image, "representative_data")
        height, width = size or np.minimum(pixels.shape[:2], CALIBRATION_SIZE)
        images.append({INPUT_NAME: crop_or_mirror(pixels, height, width)[None]})
    if not images:
        raise ValueError(
            "`representative_data` must hold images. "
            f"Received: representative_data={representative_data!r}"
        )
    return images
