"""TensorFlow as the input pipeline of other backends."""

import keras
import tensorflow as tf


def keep_gpus_free():
    """Hides the GPUs from TensorFlow where another backend computes.

    TensorFlow would take all memory of every GPU that it sees. Where it has them
    already, nothing can be done any more.
    """
    if keras.backend.backend() == "tensorflow":
        return
    try:
        tf.config.set_visible_devices([], "GPU")
    except RuntimeError:
        pass
