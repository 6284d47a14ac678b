"""Models for other runtimes: LiteRT, ONNX, OpenVINO and TensorFlow Serving."""

from keras_mhdeblur.export.exporter import ExportError
from keras_mhdeblur.export.formats import export_as
from keras_mhdeblur.export.graphs import output_graph
from keras_mhdeblur.export.litert import to_litert
from keras_mhdeblur.export.onnx_format import to_onnx
from keras_mhdeblur.export.openvino_format import to_openvino
from keras_mhdeblur.export.parity import Report
from keras_mhdeblur.export.saved_model import to_saved_model

__all__ = [
    "ExportError",
    "Report",
    "export_as",
    "output_graph",
    "to_litert",
    "to_onnx",
    "to_openvino",
    "to_saved_model",
]
