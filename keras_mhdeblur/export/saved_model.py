"""A `Deblurrer` as a SavedModel for TensorFlow Serving."""

import os
from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

from keras_mhdeblur.export.graphs import INPUT_NAME, OWN, image_selection, output_graph
from keras_mhdeblur.export.image_files import restore_file, to_integer
from keras_mhdeblur.export.parity import EXACT, Report, compare, comparison_images
from keras_mhdeblur.export.tracing import check_traceable, trace
from keras_mhdeblur.export.warm_up import check_warm_up, write_warm_up
from keras_mhdeblur.hypotheses.selection import to_python
from keras_mhdeblur.utils.atomic import atomic_files
from keras_mhdeblur.utils.types import (
    AnyDeblurrer,
    ImageLike,
    LocalStatistics,
    Output,
    PathLike,
    Size,
)


def to_saved_model(
    model: AnyDeblurrer,
    path: PathLike,
    output: Output = "selected",
    *,
    tlc_train_size: LocalStatistics = OWN,
    version: int = 1,
    warm_up_sizes: Sequence[Size] = (),
    photo: ImageLike | None = None,
) -> Report:
    """Writes a SavedModel for TensorFlow Serving, runs it and compares it with Keras.

    `path` is the server's `model_base_path`, a folder of versions: the SavedModel is
    `path/version`. The server takes the highest version; none is ever replaced. The
    SavedModel needs TensorFlow only, neither Keras nor this package. Its signatures
    share the weights:

    - "serving_default": `images` (B, H, W, 3), float32 in [0, 1], to `image`, likewise.
    - "serving_uint8": `images` (B, H, W, 3), uint8, to `image`, likewise.
    - "serving_bytes": `image_bytes` (B,), image files, to `png_bytes` (B,), PNG files.
    - "hypotheses": `images` (B, H, W, 3), uint8, to `hypotheses` (B, K', H, W, 3),
      uint8, and `uncertainty` (B, H, W), float32, both as in `output_graph`.

    `image` and `png_bytes` are the image that `output` chooses, at the cost of a
    network with one head (of all heads for "adaptive"). Images are restored whole, not
    in tiles. Arrays of photos exceed what gRPC's clients receive by default, 4 MB;
    most files do not.

    "serving_bytes" takes JPEG, PNG, BMP and GIF (its first frame), images of
    different sizes in one request. A PNG's 16 bits, gray and alpha are kept; colour
    profile and EXIF are not. The EXIF orientation is not applied: the pixels stay as
    the file stores them. Anything else is an `InvalidArgumentError` (HTTP 400).

    Args:
        model: `Deblurrer` of RGB images.
        path: folder of the model's versions.
        output: "selected", "mean", "single", "adaptive", (i, j) or i, see
            `output_graph`.
        tlc_train_size: as in `output_graph`.
        version: the version's number, from 1.
        warm_up_sizes: sizes (height, width) of images that the server runs through
            every signature when it loads the model, so that no client waits for
            TensorFlow's first-time work. Needs the package tensorflow-serving-api.
        photo: the photo to compare with, a path or an array; one comes with the
            package.

    Returns:
        `Report` of the comparison of `serving_default`, which is written to
        `path/version.json` too.

    Raises:
        FileExistsError: there is such a version.
        ImportError: tensorflow-serving-api is missing.
        OSError: the files cannot be written.
        ValueError: an argument is out of its range.

    Example:

    ```python
    print(to_saved_model(model, "served/mhdeblur", version=2))
    ```
    """
    check_traceable(model)
    output = to_python(output)
    if image_selection(model, output) is None or output == "all":
        raise ValueError(
            '`output` must be one image: "selected", "mean", "single", "adaptive", '
            "(i, j) or i. "
            "All hypotheses have a signature of their own. "
            f"Received: output={output!r}"
        )
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ValueError(
            f"`version` must be a positive number. Received: version={version!r}"
        )
    folder = Path(os.path.abspath(path), str(version))
    if folder.exists():
        raise FileExistsError(
            f"{str(folder)!r} exists, and a server may be reading it. Give a higher "
            f"`version`, or delete the folder. Received: version={version}"
        )
    check_warm_up(warm_up_sizes)
    images = comparison_images(photo, None)
    served, signatures = _served(
        output_graph(model, output, tlc_train_size=tlc_train_size),
        output_graph(model, "all", tlc_train_size=tlc_train_size),
    )
    with atomic_files(folder.parent) as scratch:
        new = scratch / folder.name
        tf.saved_model.save(served, str(new), signatures)
        if warm_up_sizes:
            write_warm_up(new, warm_up_sizes)
        files = [file for file in new.rglob("*") if file.is_file()]
        report = compare(
            model,
            load_saved_model(new),
            images,
            path=folder,
            format="saved_model",
            output=output,
            tlc_train_size=tlc_train_size,
            size=None,
            weights="float32",
            num_bytes=sum(file.stat().st_size for file in files),
            bound=EXACT,
        )
        report.write(scratch)
    return report


def load_saved_model(folder):
    """Function from images (B, H, W, 3) to a dict of the outputs of a SavedModel."""
    loaded = tf.saved_model.load(str(folder))

    def run(images):
        outputs = loaded.signatures["serving_default"](images=tf.constant(images))
        return {name: value.numpy() for name, value in outputs.items()}

    return run


def _served(image_graph, hypotheses_graph):
    """A `tf.Module` of the weights of two graphs, and the signatures to save.

    Args:
        image_graph: `output_graph` of one image.
        hypotheses_graph: `output_graph` of all outputs.
    """
    # One function, which the file holds once for three signatures.
    restore = trace(image_graph)
    all_outputs = trace(hypotheses_graph)

    def restore_uint8(images):
        return {"image": to_integer(restore(_to_float(images))["image"], "uint8")}

    def restore_one_file(data):
        return restore_file(lambda image: restore(image[None])["image"][0], data)

    def restore_files(image_bytes):
        # One after the other: each takes all cores, and the memory of one image.
        results = tf.map_fn(
            restore_one_file,
            image_bytes,
            parallel_iterations=1,
            fn_output_signature=tf.string,
        )
        return {"png_bytes": results}

    def hypotheses(images):
        outputs = all_outputs(_to_float(images))
        return {
            "hypotheses": to_integer(outputs["hypotheses"], "uint8"),
            "uncertainty": outputs["uncertainty"],
        }

    served = tf.Module()
    graphs = (image_graph, hypotheses_graph)
    served.weights = [weight.value for graph in graphs for weight in graph.weights]
    images = tf.TensorSpec((None, None, None, 3), "uint8", INPUT_NAME)
    files = tf.TensorSpec((None,), "string", "image_bytes")
    signatures = {
        "serving_default": restore,
        "serving_uint8": tf.function(restore_uint8, [images], autograph=False),
        "serving_bytes": tf.function(restore_files, [files], autograph=False),
        "hypotheses": tf.function(hypotheses, [images], autograph=False),
    }
    return served, signatures


def _to_float(images):
    return tf.cast(images, "float32") / 255
