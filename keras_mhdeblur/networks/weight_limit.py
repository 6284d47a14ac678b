"""A limit to what a file may ask for: a small one can describe an endless network."""

import contextlib
import math

import keras


@contextlib.contextmanager
def weights_at_most(number, size):
    """Ends the building of a network that has more weights than a file can hold.

    On TensorFlow; other backends build whatever is asked for.

    Args:
        number: limit of the number of weights.
        size: limit of the number of values in all of them.

    Raises:
        ValueError: in the course of the building.
    """
    if keras.backend.backend() != "tensorflow":
        yield
        return
    import tensorflow as tf

    def create(next_creator, **kwargs):
        nonlocal number, size
        variable = next_creator(**kwargs)
        number -= 1
        size -= math.prod(variable.shape)
        if number < 0 or size < 0:
            raise ValueError("it would be far larger than the file.")
        return variable

    with tf.variable_creator_scope(create):
        yield
