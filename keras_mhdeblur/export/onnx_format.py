"""A `Deblurrer` as an ONNX file."""

from keras_mhdeblur.export.exporter import ExportError, export_file
from keras_mhdeblur.export.graphs import INPUT_NAME, OWN
from keras_mhdeblur.export.parity import EXACT, Report
from keras_mhdeblur.export.tracing import trace
from keras_mhdeblur.utils.types import (
    AnyDeblurrer,
    ImageLike,
    LocalStatistics,
    Output,
    PathLike,
    Size,
)

OPSET = 15


def to_onnx(
    model: AnyDeblurrer,
    path: PathLike,
    output: Output = "selected",
    *,
    tlc_train_size: LocalStatistics = OWN,
    size: Size | None = None,
    photo: ImageLike | None = None,
) -> Report:
    """Writes an ONNX file, runs it in ONNX Runtime and compares it with Keras.

    Its operators are those of opset 15. The input is `images` (B, H, W, 3), float32
    in [0, 1], the outputs are those of `output_graph` by name; unknown sizes are
    called batch, height and width.

    Args:
        model: `Deblurrer`.
        path: path of the file, ending in .onnx.
        output, tlc_train_size, size, photo: as in `to_litert`.

    Returns:
        `Report` of the comparison, which is written to `path + ".json"` too.

    Raises:
        ExportError: the network cannot be converted.
        ImportError: onnx, onnxruntime or tf2onnx is missing.
        OSError: the file cannot be written.
        ValueError: an argument is out of its range.
    """
    return export_file(
        model,
        path,
        output,
        tlc_train_size=tlc_train_size,
        size=size,
        photo=photo,
        format="onnx",
        suffix=".onnx",
        packages=["onnx", "tf2onnx", "onnxruntime"],
        install='"keras-mhdeblur[onnx]"',
        convert=_convert,
        load=load_onnx,
        weights="float32",
        bound=EXACT,
    )


def load_onnx(path):
    """Function from images (B, H, W, C) to a dict of the outputs of a file."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda images: dict(zip(names, session.run(None, {INPUT_NAME: images})))


def _convert(graph, path):
    import onnx
    import tf2onnx

    function = trace(graph)
    proto, _ = tf2onnx.convert.from_function(
        function, function.input_signature, opset=OPSET
    )
    for value in (*proto.graph.input, *proto.graph.output):
        _name_sizes(value, graph.input_shape)
    try:
        onnx.checker.check_model(proto, full_check=True)
    except Exception as error:
        raise ExportError(f"The network makes no valid ONNX: {error}") from error
    onnx.save_model(proto, path)


def _name_sizes(value, shape):
    """Names the unknown sizes of an input or output, which are those of the images."""
    dims = value.type.tensor_type.shape.dim
    # Outputs are images, stacks of them at axis 1, or maps without channels.
    axes = (0, 2, 3) if len(dims) == 5 else (0, 1, 2)
    for axis, name, known in zip(axes, ("batch", "height", "width"), shape):
        if known is None:
            dims[axis].dim_param = name
