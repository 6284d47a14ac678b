"""Graphs whose sizes LiteRT knows before it runs them."""

import contextlib
import contextvars

_WANTED = contextvars.ContextVar("static_shapes", default=False)


@contextlib.contextmanager
def static_shapes():
    """Layers called inside take forms whose sizes LiteRT infers from the input's.

    Then it plans all memory when the input is resized. What follows an operator whose
    size depends on arithmetic with sizes has memory of its own instead, which is
    never shared: three times as much of it, and three times the seconds for the
    first image of a size. It infers through slices with constant ends, `arange` of
    a size, and gathers.
    """
    token = _WANTED.set(True)
    try:
        yield
    finally:
        _WANTED.reset(token)


def static_shapes_wanted():
    """Whether the call is inside `static_shapes`."""
    return _WANTED.get()
