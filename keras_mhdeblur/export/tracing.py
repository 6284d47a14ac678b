"""An `output_graph` as a TensorFlow function, which converters start from."""

import keras
import tensorflow as tf

from keras_mhdeblur.engines.rgb import check_rgb
from keras_mhdeblur.export.graphs import INPUT_NAME


def trace(graph):
    """`tf.function` of an `output_graph`: images to a dict of named outputs."""
    spec = tf.TensorSpec(graph.input_shape, "float32", INPUT_NAME)

    @tf.function(input_signature=[spec], autograph=False)
    def function(images):
        return graph(images, training=False)

    return function


def write_saved_model(graph, folder):
    """Writes an `output_graph` as a SavedModel with one signature.

    Not with `keras.Model.export`, which traces the graph for eager use as well.
    """
    module = tf.Module()
    module.weights = [weight.value for weight in graph.weights]
    tf.saved_model.save(module, str(folder), {"serving_default": trace(graph)})


def check_traceable(model):
    """Raises a ValueError where a `Deblurrer` cannot become a float32 graph of RGB."""
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "Export needs Keras' TensorFlow backend: set KERAS_BACKEND=tensorflow; "
            "presets and weights are the same on all backends. "
            f"Received: keras.backend.backend()={keras.backend.backend()!r}"
        )
    check_rgb(model)
    for layer in model.network.layers:
        if layer.compute_dtype != "float32":
            raise ValueError(
                "`model` must compute in float32 to be exported: set "
                '`keras.config.set_dtype_policy("float32")` before it is built or '
                f"loaded. Received: layer {layer.name!r} with "
                f"compute_dtype={layer.compute_dtype!r}"
            )
