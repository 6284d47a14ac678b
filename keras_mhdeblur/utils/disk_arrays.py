"""Arrays larger than memory: in temporary files, and some rows at a time."""

import errno
import math
import mmap
import os
import shutil
import tempfile

import numpy as np

# Rows of an image that are worked on at a time, so that what is made of them is small.
ROWS = 64


def bands(height):
    """Slices of `ROWS` rows each, from top to bottom; the last one may have fewer."""
    for start in range(0, height, ROWS):
        yield slice(start, min(start + ROWS, height))


class DiskFullError(OSError):
    """The temporary folder has no room."""


def empty(shape, dtype, disk):
    """Makes an array of any contents.

    Args:
        shape: tuple of positive numbers.
        dtype: of the array.
        disk: whether it lies in a file of the temporary folder (TMPDIR), mapped into
            memory, which goes with the array; otherwise it is an ordinary one.

    Returns:
        Array.

    Raises:
        DiskFullError: if there is no room for it.
    """
    if not disk:
        return np.empty(shape, dtype)
    with tempfile.TemporaryFile() as file:
        _reserve(file, math.prod(shape) * np.dtype(dtype).itemsize)
        return np.ndarray(shape, dtype, mmap.mmap(file.fileno(), 0))


def _reserve(file, size):
    """Gives a file its size, and its place on the disk where the system can.

    Writing to a mapped file that finds no place kills the process.
    """
    folder = tempfile.gettempdir()
    full = DiskFullError(
        f"The temporary folder, which TMPDIR names, has no room for {size / 1e6:.0f} "
        f"MB. Received: folder={folder}"
    )
    if size > shutil.disk_usage(folder).free:
        raise full
    file.truncate(size)
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            # Otherwise it is a file system that knows no reservation.
            if error.errno == errno.ENOSPC:
                raise full from error


def on_disk(array):
    """True for an array, or a view of one, that was made with `disk`."""
    while isinstance(array, np.ndarray):
        array = array.base
    return isinstance(array, mmap.mmap)


class Budget:
    """Makes arrays in memory as long as they fit, and on disk then.

    Args:
        size: bytes for all of them; arrays that are gone are not given back.
    """

    def __init__(self, size):
        self._left = size

    def empty(self, shape, dtype):
        """As the function `empty`."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        disk = size > self._left
        if not disk:
            self._left -= size
        return empty(shape, dtype, disk)
