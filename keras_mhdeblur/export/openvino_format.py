"""A `Deblurrer` as an OpenVINO model."""

import tempfile

from keras_mhdeblur.export.exporter import ExportError, export_file
from keras_mhdeblur.export.graphs import OWN
from keras_mhdeblur.export.parity import EXACT, Report
from keras_mhdeblur.export.tracing import write_saved_model
from keras_mhdeblur.utils.types import (
    AnyDeblurrer,
    ImageLike,
    LocalStatistics,
    Output,
    PathLike,
    Size,
)


def to_openvino(
    model: AnyDeblurrer,
    path: PathLike,
    output: Output = "selected",
    *,
    tlc_train_size: LocalStatistics = OWN,
    size: Size | None = None,
    photo: ImageLike | None = None,
) -> Report:
    """Writes an OpenVINO model, runs it and compares it with Keras.

    The model is two files, NAME.xml and NAME.bin. The input is `images` (B, H, W, 3),
    float32 in [0, 1], the outputs are those of `output_graph` by name.

    OpenVINO computes in bfloat16 by default on CPUs that have AMX. The comparison asks
    for float32, with the hint `{"INFERENCE_PRECISION_HINT": "f32"}` of
    `Core.compile_model`; without it, images differ by about 45 dB from Keras'.

    Args:
        model: `Deblurrer`.
        path: path of the .xml file.
        output, tlc_train_size, photo: as in `to_litert`.
        size: None, or (H, W) to which the images are fixed; B stays free.

    Returns:
        `Report` of the comparison, which is written to `path + ".json"` too.

    Raises:
        ExportError: the network cannot be converted.
        ImportError: openvino is missing.
        OSError: a file cannot be written.
        ValueError: an argument is out of its range.
    """
    return export_file(
        model,
        path,
        output,
        tlc_train_size=tlc_train_size,
        size=size,
        photo=photo,
        format="openvino",
        suffix=".xml",
        packages=["openvino"],
        install='"keras-mhdeblur[openvino]"',
        convert=_convert,
        load=load_openvino,
        # With one image of known size, the CPU plugin (2026.4) computes MPRNet from
        # memory that was never written, where the image is padded.
        fix_batch=False,
        weights="float32",
        bound=EXACT,
    )


def load_openvino(path):
    """Function from images (B, H, W, C) to a dict of the outputs of a model."""
    import openvino

    compiled = openvino.Core().compile_model(
        path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    names = [output.get_any_name() for output in compiled.outputs]

    def run(images):
        outputs = compiled(images)
        return {name: outputs[name] for name in names}

    return run


def _convert(graph, path):
    import openvino

    with tempfile.TemporaryDirectory() as scratch:
        write_saved_model(graph, scratch)
        try:
            converted = openvino.Core().read_model(scratch)
        except RuntimeError as error:
            raise ExportError(
                f"OpenVINO cannot convert the network: {error}"
            ) from error
        openvino.save_model(converted, path, compress_to_fp16=False)
