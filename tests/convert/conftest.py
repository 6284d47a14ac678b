"""Writers of checkpoint files as torch.save makes them, without PyTorch."""

import io
import json
import os
import struct
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest

from keras_mhdeblur.networks import MAXIM
from keras_mhdeblur.networks.maxim.official_names import maxim_entries

STORAGES = {
    "float64": "DoubleStorage",
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "int64": "LongStorage",
}
SAFETENSORS = {"float64": "F64", "float32": "F32", "float16": "F16", "int64": "I64"}


class Call:
    """An object whose pickle asks for `module.name(*arguments)`."""

    def __init__(self, module, name, arguments=()):
        self.module, self.name, self.arguments = module, name, arguments


class Opcodes:
    """An object whose pickle is the given bytes."""

    def __init__(self, code):
        self.code = code


class Persistent:
    def __init__(self, *identifier):
        self.identifier = identifier


def pickled(content, storages=None):
    """Pickle of protocol 2; arrays become tensors, their numbers go to `storages`."""
    file = io.BytesIO()
    write = file.write

    def save(value):
        if isinstance(value, Opcodes):
            write(value.code)
        elif isinstance(value, Call):
            write(f"c{value.module}\n{value.name}\n".encode())
            save(tuple(value.arguments))
            write(b"R")
        elif isinstance(value, Persistent):
            save(value.identifier)
            write(b"Q")
        elif isinstance(value, np.ndarray):
            save(tensor(value))
        elif isinstance(value, dict):
            write(b"}(")
            for key, item in value.items():
                save(key)
                save(item)
            write(b"u")
        elif isinstance(value, (tuple, list)):
            write(b"(")
            for item in value:
                save(item)
            write(b"t" if isinstance(value, tuple) else b"l")
        elif isinstance(value, str):
            write(b"X" + struct.pack("<I", len(value.encode())) + value.encode())
        elif isinstance(value, bool) or value is None:
            write({True: b"\x88", False: b"\x89", None: b"N"}[value])
        elif isinstance(value, int):
            data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            write(b"\x8a" + bytes([len(data)]) + data)
        else:
            write(b"G" + struct.pack(">d", value))

    def tensor(array):
        kind = Opcodes(f"ctorch\n{STORAGES[array.dtype.name]}\n".encode())
        key = str(len(storages))
        storages[key] = array.tobytes()
        strides = [
            step // array.itemsize for step in np.ascontiguousarray(array).strides
        ]
        return Call(
            "torch._utils",
            "_rebuild_tensor_v2",
            (
                Persistent("storage", kind, key, "cuda:0", array.size),
                0,
                array.shape,
                tuple(strides),
                False,
                Call("collections", "OrderedDict"),
            ),
        )

    write(b"\x80\x02")
    save(content)
    write(b".")
    return file.getvalue()


def write_zip(path, content, *, extra=None, compression=zipfile.ZIP_STORED):
    storages = {}
    parts = {"data.pkl": pickled(content, storages), "byteorder": b"little"}
    parts |= {f"data/{key}": data for key, data in storages.items()}
    parts |= {"version": b"3\n", **(extra or {})}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in parts.items():
            if data is not None:
                archive.writestr(f"archive/{name}", data)
    return path


def write_legacy(path, content, *, little_endian=True):
    storages = {}
    pickles = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": little_endian}, content]
    data = b"".join(pickled(part, storages) for part in pickles)
    # Elements of the storages are counted; the tests write float32 here.
    data += pickled(sorted(storages))
    for key in sorted(storages):
        data += struct.pack("<q", len(storages[key]) // 4) + storages[key]
    path.write_bytes(data)
    return path


def write_safetensors(path, state, **changes):
    """`changes`: by name, entries of the header to replace."""
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, array in state.items():
        header[name] = {
            "dtype": SAFETENSORS[array.dtype.name],
            "shape": array.shape,
            "data_offsets": [len(data), len(data) + array.nbytes],
            **changes.get(name, {}),
        }
        data += array.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


@pytest.fixture(scope="session")
def tiny_maxim():
    """(MAXIM of random weights, these by their Flax names in Flax' layout)."""
    network = MAXIM(
        width=4,
        stages=1,
        num_groups=1,
        num_bottlenecks=1,
        sides=(4, 4, 2),
        bottleneck_side=2,
        num_heads=1,
    )
    rng = np.random.default_rng(0)
    state = {}
    for name, (variable, _) in maxim_entries(network).items():
        value = 0.2 * rng.standard_normal(variable.shape).astype("float32")
        variable.assign(value)
        transposed = "/ConvTranspose_0/kernel" in name
        state[name] = mirrored(value) if transposed else value
    return network, state


def mirrored(kernel):
    """A transposed convolution's kernel of Keras and TensorFlow in Flax' layout."""
    return kernel[::-1, ::-1].transpose(0, 1, 3, 2)


@pytest.fixture(scope="session")
def checkpoints():
    return SimpleNamespace(
        Call=Call,
        Opcodes=Opcodes,
        Persistent=Persistent,
        pickled=pickled,
        write_zip=write_zip,
        write_legacy=write_legacy,
        write_safetensors=write_safetensors,
    )


@pytest.fixture
def official_file(golden, checkpoints, tmp_path):
    """Writes a golden file's weights in the layout of the official training code."""

    def write(name, **changes):
        state = {**golden(name).state(), **changes}
        state = {key: array for key, array in state.items() if array is not None}
        if name.startswith("mprnet"):
            state = {f"module.{key}": array for key, array in state.items()}
            optimizer = {"state": {0: {"exp_avg": np.ones(3, "float32")}}}
            content = {"epoch": 3, "state_dict": state, "optimizer": optimizer}
            # MPRNet's published files are of the older format.
            return checkpoints.write_legacy(tmp_path / "mprnet.pth", content)
        content = {"model" if name == "xydeblur" else "params": state}
        return checkpoints.write_zip(tmp_path / f"{name}.pth", content)

    return write


@pytest.fixture
def bait(tmp_path):
    """(Pickle's call that makes a folder, whether it was made)."""
    folder = str(tmp_path / "executed")
    return Call(os.mkdir.__module__, "mkdir", (folder,)), lambda: os.path.exists(folder)
