import collections
import pathlib
import pickle
import zipfile

import numpy as np
import pytest

from keras_mhdeblur.convert.checkpoint_files import read_state_dict
from keras_mhdeblur.convert.pickled_tensors import CheckpointError

FILES = pathlib.Path(__file__).parents[1] / "resources" / "checkpoints"
FORMATS = ("zip", "legacy")
STATE = {
    "a.weight": np.arange(24, dtype="float32").reshape(2, 3, 4, 1),
    "a.bias": np.array([0.5, -1], "float32"),
}


def refusal(path, **options):
    """The one line that says why a file is not read."""
    with pytest.raises(CheckpointError) as caught:
        read_state_dict(path, **options)
    message = str(caught.value)
    assert message.isprintable()
    assert message.endswith(f". Received: path={str(path)!r}")
    assert len(message) < 400 + len(str(path))
    return message


def assert_equal(state, expected):
    assert list(state) == list(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(state[name], array, strict=True)


@pytest.mark.parametrize("name", FORMATS)
def test_files_of_torch(name):
    """Written by torch 2.13, in both formats, with all that a training leaves."""
    state, entry = read_state_dict(FILES / f"{name}.pth")
    assert entry == "state_dict"
    whole = np.arange(12, dtype="float32").reshape(3, 4)
    dtypes = "float64 float16 bfloat16 int64 int32 int16 int8 uint8 bool"
    expected = {
        "whole": whole,
        "transposed": whole.T,
        "part": whole[1:, 1:3],
        "step": whole[:, ::2],
        "slope.0": np.array([0.25], "float32"),
        "slope.1": np.array([0.25], "float32"),
        "scalar": np.array(7, "float32"),
        "empty": np.zeros((0, 3), "float32"),
        **{dtype: np.array([0, 1, 2]) for dtype in dtypes.split()},
    }
    for dtype in dtypes.split():
        expected[dtype] = expected[dtype].astype(dtype.replace("bfloat16", "float32"))
    assert_equal(state, expected)
    assert not state["whole"].flags.writeable
    assert np.shares_memory(state["whole"], state["part"])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64"])
def test_written_files(checkpoints, tmp_path, dtype):
    state = {name: array.astype(dtype) for name, array in STATE.items()}
    path = checkpoints.write_zip(tmp_path / "a", {"params": state})
    assert_equal(read_state_dict(path)[0], state)
    path = checkpoints.write_safetensors(tmp_path / "b", state)
    assert_equal(read_state_dict(path)[0], state)
    if dtype == "float32":
        path = checkpoints.write_legacy(tmp_path / "c", {"params": state})
        assert_equal(read_state_dict(path)[0], state)


def test_bfloat16_safetensors(checkpoints, tmp_path):
    values = np.array([1, -2.5, 3e38], "float32")
    upper = (values.view("uint32") >> 16).astype("uint16").view("float16")
    path = checkpoints.write_safetensors(
        tmp_path / "a", {"w": upper}, w={"dtype": "BF16"}
    )
    np.testing.assert_allclose(read_state_dict(path)[0]["w"], values, rtol=2**-7)


def test_entries(checkpoints, tmp_path):
    other = {"b": np.ones(2, "float32")}

    def read(content, **options):
        return read_state_dict(
            checkpoints.write_zip(tmp_path / "a", content), **options
        )

    state, entry = read({"epoch": 1, "params": other, "params_ema": STATE})
    assert (list(state), entry) == (list(STATE), "params_ema")
    state, entry = read({"params": other, "params_ema": STATE}, entry="params")
    assert (list(state), entry) == (["b"], "params")
    assert read({"mine": other}, entry="mine")[1] == "mine"
    assert read({"model": other, "epoch": 3})[1] == "model"
    state, entry = read({f"module.{name}": array for name, array in STATE.items()})
    assert (list(state), entry) == (list(STATE), None)
    # Not of all names: then it is a part of the network.
    assert list(read({"module.b": other["b"], "c": other["b"]})[0]) == ["module.b", "c"]


@pytest.mark.parametrize(
    ("content", "entry", "expected"),
    [
        ({"mine": STATE, "epoch": 3}, None, "its entries: 'mine', 'epoch'"),
        ({"params": STATE}, "ema", "no entry 'ema'; its entries: 'params'"),
        ({"params": {"a": 3}}, None, "'params' is no dictionary of tensors"),
        ({"params": {}}, None, "'params' is no dictionary of tensors"),
        ({"params": {"\x1b[2J": STATE["a.bias"]}}, None, "no dictionary of tensors"),
        ([STATE], None, "holds no dictionary"),
    ],
)
def test_no_weights(checkpoints, tmp_path, content, entry, expected):
    path = checkpoints.write_zip(tmp_path / "a", content)
    assert expected in refusal(path, entry=entry)


def payloads(checkpoints, bait):
    """Pickles that would run `bait`, in all ways that pickles know."""
    command = f"import os; os.mkdir({bait.arguments[0]!r})"
    argument = checkpoints.pickled(bait.arguments[0])[2:-1]
    module, name = bait.module.encode(), bait.name.encode()
    opcodes = checkpoints.Opcodes
    return {
        "reduce": bait,
        "eval": checkpoints.Call("builtins", "exec", (command,)),
        "python 2": checkpoints.Call("__builtin__", "exec", (command,)),
        "inst": opcodes(b"(" + argument + b"i" + module + b"\n" + name + b"\n"),
        "obj": opcodes(b"(c" + module + b"\n" + name + b"\n" + argument + b"o"),
        "stack global": opcodes(
            checkpoints.pickled(bait.module)[2:-1]
            + checkpoints.pickled(bait.name)[2:-1]
            + b"\x93"
            + argument
            + b"\x85R"
        ),
        # The arguments of a class that is allowed.
        "default factory": checkpoints.Call(
            "collections",
            "defaultdict",
            (opcodes(b"c" + module + b"\n" + name + b"\n"),),
        ),
    }


WAYS = (
    *("reduce", "eval", "python 2", "inst", "obj", "stack global"),
    "default factory",
)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("place", ["whole", "weights", "optimizer", "key"])
@pytest.mark.parametrize("kind", FORMATS)
def test_nothing_is_executed(checkpoints, tmp_path, bait, way, place, kind):
    bait, executed = bait
    payload = payloads(checkpoints, bait)[way]
    content = {
        "whole": payload,
        "weights": {"params": {**STATE, "evil": payload}},
        "optimizer": {"params": STATE, "optimizer": [payload]},
        "key": {"params": STATE, "optimizer": {payload: 1}},
    }[place]
    write = checkpoints.write_zip if kind == "zip" else checkpoints.write_legacy
    path = write(tmp_path / "evil.pth", content)
    assert "The checkpoint is refused: its pickle " in refusal(path)
    assert not executed()


@pytest.mark.parametrize("way", [way for way in WAYS if way != "default factory"])
def test_payloads_would_work(checkpoints, tmp_path, bait, way):
    bait, executed = bait
    data = checkpoints.pickled(payloads(checkpoints, bait)[way])
    refusal_path = tmp_path / "plain.pkl"
    refusal_path.write_bytes(data)
    assert "is refused" in refusal(refusal_path)
    assert not executed()
    pickle.loads(data)
    assert executed()


@pytest.mark.parametrize(
    "name",
    [
        *(
            "torch.load",
            "torch._utils._rebuild_qtensor",
            "torch.nn.modules.conv.Conv2d",
        ),
        *("builtins.getattr", "builtins.eval", "operator.attrgetter", "os.system"),
        *("models.archs.NAFNet_arch.NAFNet", "argparse.Namespace", "numpy.load"),
        *("collections.OrderedDict.__init__", "torch.FloatStorage.__reduce__"),
        *("_codecs.decode", "copyreg._reconstructor", "torch.storage._load_from_bytes"),
    ],
)
def test_other_names_are_refused(checkpoints, tmp_path, name):
    call = checkpoints.Call(*name.rsplit(".", 1))
    path = checkpoints.write_zip(tmp_path / "a", {"params": STATE, "more": call})
    message = refusal(path)
    assert repr(name) in message and "Nothing was executed" in message


def test_control_characters_do_not_reach_the_terminal(checkpoints, tmp_path):
    call = checkpoints.Call("\x1b[2J" * 100, "x")
    assert "\\x1b" in refusal(checkpoints.write_zip(tmp_path / "a", {"params": call}))


def test_attributes_of_names_are_not_set(checkpoints, tmp_path):
    build = checkpoints.Opcodes(
        b"ccollections\nOrderedDict\n}X\x01\x00\x00\x00aK\x01sb0N"
    )
    path = checkpoints.write_zip(tmp_path / "a", {"params": STATE, "more": build})
    assert_equal(read_state_dict(path)[0], STATE)
    assert not hasattr(collections.OrderedDict, "a")


@pytest.mark.parametrize("name", ["zip.pth", "legacy.pth", "safetensors"])
def test_truncated_file(checkpoints, tmp_path, name):
    if name == "safetensors":
        path = checkpoints.write_safetensors(tmp_path / name, STATE)
    else:
        path = FILES / name
    data = path.read_bytes()
    cut = tmp_path / "cut"
    for size in {*range(0, len(data), 61), len(data) - 1}:
        cut.write_bytes(data[:size])
        refusal(cut)


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [
        (0, (25,), (1,)),
        (1, (24,), (1,)),
        (0, (2, 13), (12, 1)),
        (0, (2**20, 2**20), (0, 0)),
        (-1, (2,), (1,)),
        (0, (2,), (-1,)),
        (0, (-2,), (1,)),
        (2**70, (1,), (1,)),
        (0, (2, 2), (1,)),
        (0, (1,) * 9, (1,) * 9),
        (0, (2.0,), (1,)),
        (True, (2,), (1,)),
        (0, [2], [1]),
        ("0", (2,), (1,)),
    ],
)
@pytest.mark.parametrize("kind", FORMATS)
def test_tensor_beyond_its_numbers(checkpoints, tmp_path, kind, offset, shape, strides):
    kind_name = checkpoints.Opcodes(b"ctorch\nFloatStorage\n")
    tensor = checkpoints.Call(
        "torch._utils",
        "_rebuild_tensor_v2",
        (
            checkpoints.Persistent("storage", kind_name, "0", "cpu", 24),
            *(offset, shape, strides, False, None),
        ),
    )
    content = {"more": STATE["a.weight"], "params": {"a": tensor}}
    write = checkpoints.write_zip if kind == "zip" else checkpoints.write_legacy
    assert "describes a tensor" in refusal(write(tmp_path / "a", content))


@pytest.mark.parametrize(
    ("identifier", "expected"),
    [
        (("storage", "0", "cpu", 25), "has 96 bytes, not 100"),
        (("storage", "0", "cpu", 2**62), "has 96 bytes, not "),
        (("storage", "0", "cpu", -1), "describes its numbers wrongly"),
        (("storage", "../version", "cpu", 24), "lacks its part 'archive/data/../ver"),
        (("storage", 0, "cpu", 24), "describes its numbers wrongly"),
        (("module", "0", "cpu", 24), "describes its numbers wrongly"),
        (("storage", "0", "cpu", 24, ("0", 1, 2)), "describes its numbers wrongly"),
    ],
)
def test_lying_storage(checkpoints, tmp_path, identifier, expected):
    kind = checkpoints.Opcodes(b"ctorch\nFloatStorage\n")
    storage = checkpoints.Persistent(identifier[0], kind, *identifier[1:])
    tensor = checkpoints.Call(
        "torch._utils",
        "_rebuild_tensor_v2",
        (storage, 0, (1,), (1,), False, None),
    )
    data = {"data/0": STATE["a.weight"].tobytes()}
    path = checkpoints.write_zip(tmp_path / "a", {"params": {"a": tensor}}, extra=data)
    assert expected in refusal(path)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"compression": zipfile.ZIP_DEFLATED}, "no archive as torch.save writes it"),
        ({"extra": {"constants.pkl": b"\x80\x02N."}}, "TorchScript program"),
        ({"extra": {"byteorder": b"big"}}, "big-endian"),
        ({"extra": {"data.pkl": None}}, "holds no checkpoint"),
        ({"extra": {"more/data.pkl": b"\x80\x02N."}}, "holds no checkpoint"),
        ({"extra": {"data/0": None}}, "lacks its part 'archive/data/0'"),
    ],
)
def test_other_archives(checkpoints, tmp_path, options, expected):
    path = checkpoints.write_zip(tmp_path / "a", {"params": STATE}, **options)
    assert expected in refusal(path)


def test_archive_bomb(checkpoints, tmp_path):
    """Compressed, a small file would hold a large one."""
    zeros = {"params": {"a": np.zeros(10**6, "float32")}}
    path = checkpoints.write_zip(
        tmp_path / "a", zeros, compression=zipfile.ZIP_DEFLATED
    )
    assert path.stat().st_size < 10**5
    assert "no archive as torch.save writes it" in refusal(path)


def test_checksum_of_an_archive(checkpoints, tmp_path):
    path = checkpoints.write_zip(tmp_path / "a", {"params": STATE})
    data = path.read_bytes()
    numbers = STATE["a.weight"].tobytes()
    path.write_bytes(data.replace(numbers, numbers[:-1] + b"\x7f"))
    assert "damaged" in refusal(path)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"data_offsets": [0, 100]}, "'a.weight' wrongly, or it is truncated"),
        ({"data_offsets": [-4, 92]}, "'a.weight' wrongly"),
        ({"data_offsets": [10**9, 10**9 + 96]}, "'a.weight' wrongly"),
        ({"shape": [10**9, 10**9, 10**9]}, "'a.weight' wrongly"),
        ({"shape": [-2, -12]}, "'a.weight' wrongly"),
        ({"shape": [24.0]}, "'a.weight' wrongly"),
        ({"dtype": "F8_E4M3"}, "'a.weight' is of dtype 'F8_E4M3'"),
        ({"dtype": None}, "'a.weight' is of dtype None"),
    ],
)
def test_lying_safetensors(checkpoints, tmp_path, change, expected):
    path = checkpoints.write_safetensors(tmp_path / "a", STATE, **{"a.weight": change})
    assert expected in refusal(path)


def test_overlapping_safetensors(checkpoints, tmp_path):
    array = np.zeros(10**5, "float32")
    shared = {"data_offsets": [0, array.nbytes]}
    path = checkpoints.write_safetensors(
        tmp_path / "a", {"a": array, "b": array}, b=shared
    )
    path.write_bytes(path.read_bytes()[: -array.nbytes])
    assert "overlap" in refusal(path)


def test_big_endian_legacy(checkpoints, tmp_path):
    path = checkpoints.write_legacy(
        tmp_path / "a", {"params": STATE}, little_endian=False
    )
    assert "big-endian" in refusal(path)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "neither a checkpoint"),
        (b"\x89PNG\r\n\x1a\n" * 9, "neither a checkpoint"),
        (b"\xff" * 7 + b"\x7f{", "truncated"),
        (pickle.dumps({"a": 1}), "a pickle, but no checkpoint of torch.save"),
    ],
)
def test_other_files(tmp_path, data, expected):
    path = tmp_path / "a"
    path.write_bytes(data)
    assert expected in refusal(path)


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_state_dict(tmp_path / "none.pth")
    assert "The folder holds no model of TensorFlow.js" in refusal(tmp_path)
