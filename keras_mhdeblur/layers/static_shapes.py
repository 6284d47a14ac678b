"""Graphs whose sizes LiteRT knows before it runs them."""

import contextlib
import contextvars

from keras import ops

_WANTED = contextvars.ContextVar("static_shapes", default=False)


@contextlib.contextmanager
def static_shapes():
    """Layers called inside take forms whose sizes LiteRT infers from the input's.

    Then it plans all memory when the input is resized. What follows an operator whose
    size it cannot infer has memory of its own instead, which is never shared: three
    times as much of it, and three times the seconds for the first image of a size.

    It infers sizes that are read off a tensor, slices with constant ends, `arange` of
    a size, gathers, and shapes that are concatenated of sizes; but nothing from
    arithmetic with sizes, nor from sizes that are stacked, as Keras does it.
    """
    token = _WANTED.set(True)
    try:
        yield
    finally:
        _WANTED.reset(token)


def static_shapes_wanted():
    """True inside `static_shapes`."""
    return _WANTED.get()


def reshape(x, shape):
    """`ops.reshape`, in the form that is wanted."""
    if static_shapes_wanted():
        shape = ops.concatenate([ops.reshape(size, (1,)) for size in shape])
    return ops.reshape(x, shape)


def crop(x, image, axis, centered=False):
    """Crops two axes to the height and width of an image, (B, H, W, C).

    Args:
        x: tensor to crop.
        image: the image.
        axis: the first of the two axes.
        centered: whether to crop at both ends, as `PadCentered` pads, and not at the
            end only, as `PadToMultiple` does.
    """
    for offset, size in enumerate(ops.shape(image)[1:3]):
        before = (slice(None),) * (axis + offset)
        start = 0
        if centered:
            start = (ops.shape(x)[axis + offset] - size) // 2
        if static_shapes_wanted() and not isinstance(size, int):
            x = ops.take(x, ops.arange(size) + start, axis=axis + offset)
        else:
            x = x[(*before, slice(start, start + size))]
    return x
