"""The formats by name."""

import inspect
from collections.abc import Callable
from typing import Any

from keras_mhdeblur.export.litert import to_litert
from keras_mhdeblur.export.onnx_format import to_onnx
from keras_mhdeblur.export.openvino_format import to_openvino
from keras_mhdeblur.export.parity import Report
from keras_mhdeblur.export.saved_model import to_saved_model
from keras_mhdeblur.utils.spelling import did_you_mean
from keras_mhdeblur.utils.types import AnyDeblurrer, PathLike

FORMATS: dict[str, Callable[..., Report]] = {
    "litert": to_litert,
    "onnx": to_onnx,
    "openvino": to_openvino,
    "saved_model": to_saved_model,
}


def export_as(
    model: AnyDeblurrer, path: PathLike, format: str, **options: Any
) -> Report:
    """Exports a model to a format that is given by name.

    Args:
        model: `Deblurrer`.
        path: the file, or for "saved_model" the folder of versions.
        format: "litert", "onnx", "openvino" or "saved_model".
        options: further arguments of `to_litert`, `to_onnx`, `to_openvino` or
            `to_saved_model`.

    Returns:
        `Report` of the comparison with Keras.

    Raises:
        ValueError: there is no such format, or it has no such option.
    """
    if format not in FORMATS:
        raise ValueError(
            f"`format` must be one of {', '.join(FORMATS)}."
            f"{did_you_mean(format, FORMATS)} Received: format={format!r}"
        )
    known = set(inspect.signature(FORMATS[format]).parameters) - {"model", "path"}
    for name, value in options.items():
        if name not in known:
            raise ValueError(
                f"`{name}` is not an option of the format {format}."
                f"{did_you_mean(name, known)} Options: {', '.join(sorted(known))}. "
                f"Received: {name}={value!r}"
            )
    return FORMATS[format](model, path, **options)
