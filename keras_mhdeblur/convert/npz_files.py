"""Tensors of .npz files: zip archives of .npy files, as `numpy.savez` makes them."""

import math
import zipfile

from numpy.lib import format as npy

from keras_mhdeblur.convert.pickled_tensors import Storage, Tensor, check, quoted

# Three times the 67 million numbers of MAXIM M-3: weights and the optimizer's moments.
MAX_BYTES = 2**30
# Trained weights hardly shrink; what shrinks more is a small file that makes a large
# model.
_MAX_RATIO = 100
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def is_npz(archive):
    """True for a `ZipFile` of NumPy, False for one of `torch.save`."""
    names = archive.namelist()
    return any(name.endswith(".npy") for name in names) and not any(
        name.endswith("data.pkl") for name in names
    )


def open_npz(archive, size):
    """The tensors of a `ZipFile`, their numbers unread.

    Args:
        archive: the `ZipFile`.
        size: size of its file in bytes.

    Returns:
        (content, load): a dictionary of names to `Tensor`s, and a function from a
        `Storage` of one of them to its bytes.

    Raises:
        CheckpointError: the archive is larger than weights are, or holds Python
            objects.
        Exception: of any kind if it is damaged.
    """
    entries = [info for info in archive.infolist() if not info.is_dir()]
    total = sum(info.file_size for info in entries)
    check(
        total <= min(MAX_BYTES, _MAX_RATIO * size),
        f"The checkpoint is refused: its arrays have {total} bytes",
    )
    check(
        len({info.filename for info in entries}) == len(entries)
        and all(
            info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
            and info.filename.endswith(".npy")
            for info in entries
        ),
        "The checkpoint is refused: it is no archive as numpy.savez writes it",
    )
    content, places = {}, {}
    for info in entries:
        name = info.filename.removesuffix(".npy")
        with archive.open(info) as file:
            version = npy.read_magic(file)
            check(version in _HEADERS, f"{quoted(name)} is of a version not read")
            shape, fortran_order, dtype = _HEADERS[version](file)
            start = file.tell()
        check(
            not dtype.hasobject,
            f"The checkpoint is refused: {quoted(name)} holds Python objects, which "
            "may run code. Nothing was executed",
        )
        count = math.prod(shape)
        check(
            len(shape) <= 8
            and min(shape, default=0) >= 0
            and info.file_size - start == count * dtype.itemsize,
            f"The checkpoint describes {quoted(name)} wrongly, or it is truncated",
        )
        storage = Storage(name, dtype.name, count)
        content[name] = Tensor(storage, 0, shape, _strides(shape, fortran_order))
        places[name] = info, start, dtype

    def load(storage):
        info, start, dtype = places[storage.key]
        # Long doubles, complex numbers, texts, records.
        check(
            dtype.kind in "fiub" and dtype.itemsize <= 8,
            f"{quoted(storage.key)} is of dtype {quoted(dtype.name)}, not read",
        )
        check(
            dtype.newbyteorder("<") == dtype,
            "The checkpoint was written on a big-endian machine, which is not read",
        )
        return archive.read(info)[start:]

    return content, load


def _strides(shape, fortran_order):
    if fortran_order:
        return tuple(math.prod(shape[:axis]) for axis in range(len(shape)))
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
