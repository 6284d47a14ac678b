"""Requests that TensorFlow Serving runs when it loads a model."""

import tensorflow as tf

FOLDER, FILE = "assets.extra", "tf_serving_warmup_requests"


def check_warm_up(sizes):
    """Checks that `write_warm_up` will be able to write.

    Args:
        sizes: list of (height, width), may be empty.

    Raises:
        ImportError: if TensorFlow Serving's protocol is missing.
        ValueError: if there are other things than sizes.
    """
    if not all(
        isinstance(size, (list, tuple))
        and len(size) == 2
        and all(isinstance(pixels, int) and pixels > 0 for pixels in size)
        for size in sizes
    ):
        raise ValueError(
            "`warm_up_sizes` must be a list of (height, width), positive numbers. "
            f"Received: warm_up_sizes={sizes!r}"
        )
    if sizes:
        _import_protocol()


def write_warm_up(folder, sizes):
    """Writes the requests of a SavedModel that `to_saved_model` makes.

    One for every signature and size. The images are gray, which a request holds as
    one number.

    Args:
        folder: the SavedModel's folder.
        sizes: list of (height, width).
    """
    protocol = _import_protocol()
    extra = folder / FOLDER
    extra.mkdir()
    with tf.io.TFRecordWriter(str(extra / FILE)) as writer:
        for size in sizes:
            for signature, name, tensor in _requests(*size):
                log = protocol.PredictionLog()
                request = log.predict_log.request
                request.model_spec.signature_name = signature
                request.inputs[name].CopyFrom(tensor)
                writer.write(log.SerializeToString())


def _import_protocol():
    try:
        from tensorflow_serving.apis import prediction_log_pb2
    except ImportError as error:
        raise ImportError(
            "`warm_up_sizes` needs TensorFlow Serving's protocol: "
            "pip install --no-deps tensorflow-serving-api"
        ) from error
    return prediction_log_pb2


def _requests(height, width):
    """Signature, input's name and input of a request for every signature."""
    shape = (1, height, width, 3)
    integers = _uniform(128, "uint8", shape)
    file = tf.io.encode_png(tf.fill(shape[1:], tf.constant(128, "uint8"))).numpy()
    return [
        ("serving_default", "images", _uniform(0.5, "float32", shape)),
        ("serving_uint8", "images", integers),
        ("serving_bytes", "image_bytes", tf.make_tensor_proto([file])),
        ("hypotheses", "images", integers),
    ]


def _uniform(value, dtype, shape):
    return tf.make_tensor_proto(value, dtype, shape, allow_broadcast=True)
