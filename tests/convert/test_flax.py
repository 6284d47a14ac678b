"""Official Flax checkpoints of MAXIM: .npz files, Flax names, recognition."""

import pickle
import zipfile

import numpy as np
import pytest

from keras_mhdeblur import cli
from keras_mhdeblur.convert import (
    CheckpointError,
    from_checkpoint,
    load_official_weights,
    npz_files,
)
from keras_mhdeblur.convert.checkpoint_files import read_state_dict
from keras_mhdeblur.convert.recognition import UNKNOWN_TASK, recognize

STATE = {
    "stage_0_a/Conv_0/kernel": np.arange(24, dtype="float32").reshape(2, 3, 4, 1),
    "stage_0_a/Conv_0/bias": np.array([0.5, -1], "float32"),
}


def refusal(path, **options):
    with pytest.raises(CheckpointError) as caught:
        read_state_dict(path, **options)
    message = str(caught.value)
    assert message.isprintable()
    assert message.endswith(f". Received: path={str(path)!r}")
    return message


def assert_equal(state, expected):
    assert list(state) == list(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(state[name], array, strict=True)


def write(path, arrays, save=np.savez):
    with open(path, "wb") as file:
        save(file, **arrays)
    return path


def under(prefix, state=STATE):
    return {f"{prefix}{name}": array for name, array in state.items()}


# === Files ===


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize(
    ("prefix", "entry"),
    [("opt/target/", "opt/target"), ("params/", "params"), ("", None)],
)
def test_entries(tmp_path, save, prefix, entry):
    others = {
        "epoch": np.array(3),
        "opt/state/step": np.array(7),
        **under("opt/state/param_states/grad_ema/"),
    }
    arrays = {**(others if prefix == "opt/target/" else {}), **under(prefix)}
    state, found = read_state_dict(write(tmp_path / "a", arrays, save))
    assert_equal(state, STATE)
    assert found == entry
    assert not state["stage_0_a/Conv_0/kernel"].flags.writeable


def test_given_entry(tmp_path):
    path = write(tmp_path / "a", {**under("opt/target/"), **under("ema/best/")})
    for entry in ("ema/best", "ema.best"):
        assert_equal(read_state_dict(path, entry)[0], STATE)
    assert "no entry 'mine'; its entries: 'opt', 'ema'" in refusal(path, entry="mine")


@pytest.mark.parametrize("prefix", ["", "params."])
def test_safetensors(checkpoints, tmp_path, prefix):
    for separator in "./":
        state = {
            name.replace("/", separator): array for name, array in under(prefix).items()
        }
        path = checkpoints.write_safetensors(tmp_path / "a", state)
        assert_equal(read_state_dict(path)[0], STATE)


def test_other_networks_names_stay(tmp_path):
    state = {"intro.weight": np.ones(2, "float32"), "intro.bias": np.ones(1, "float32")}
    assert_equal(read_state_dict(write(tmp_path / "a", state))[0], state)


def test_one_name_twice(tmp_path):
    path = write(tmp_path / "a", {**STATE, "stage_0_a.Conv_0.bias": np.ones(2)})
    assert "two weights of one name" in refusal(path)


@pytest.mark.parametrize(
    "dtype", "float64 float16 int64 int32 int16 int8 uint8 bool".split()
)
def test_dtypes_and_orders(tmp_path, dtype):
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    state = {
        "a/kernel": array,
        "f/kernel": np.asfortranarray(array),
        "s": array[0, 0, 0],
    }
    state["e"] = np.zeros((0, 3), dtype)
    assert_equal(read_state_dict(write(tmp_path / "a", state))[0], state)


class Bait:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("place", ["params/a/kernel", "opt/state/step"])
def test_objects_are_refused(tmp_path, place):
    evil = np.array([Bait(tmp_path / "executed")], object)
    pickle.dumps(evil)
    path = write(tmp_path / "a", {**under("params/"), place: evil})
    assert "holds Python objects, which may run code. Nothing" in refusal(path)
    assert not (tmp_path / "executed").exists()


def test_archive_bombs(tmp_path, monkeypatch):
    zeros = {"a/kernel": np.zeros(10**6, "float32")}
    path = write(tmp_path / "a", zeros, np.savez_compressed)
    assert path.stat().st_size < 10**4
    assert "is refused: its arrays have 4000128 bytes" in refusal(path)
    monkeypatch.setattr(npz_files, "MAX_BYTES", 10**6)
    assert "is refused: its arrays have" in refusal(write(tmp_path / "b", zeros))


def npy(shape="(2,)", descr="'<f4'", data=bytes(8), fortran=False, version=1):
    header = f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}}}"
    header += " " * 9 + "\n"
    size = len(header).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + size + header.encode() + data


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (npy("(3,)"), "describes 'a/kernel' wrongly, or it is truncated"),
        (npy("(1,)"), "describes 'a/kernel' wrongly"),
        (npy("(-2, -1)"), "describes 'a/kernel' wrongly"),
        (npy("(2**40,)"), "damaged"),
        (npy(f"({2**40},)"), "describes 'a/kernel' wrongly"),
        (npy("(1, 1, 1, 1, 1, 1, 1, 1, 2)"), "describes 'a/kernel' wrongly"),
        (npy("2"), "damaged"),
        (npy(descr="'>f4'"), "big-endian"),
        (npy(descr="'<c8'", data=bytes(16)), "of dtype 'complex64', not read"),
        (npy(descr="'<U2'", data=bytes(16)), "of dtype 'str64', not read"),
        (npy(descr="[('a', '<f4')]"), "of dtype 'void32', not read"),
        (npy(descr="'|O'"), "holds Python objects"),
        (npy(descr="[('a', '|O')]", data=bytes(16)), "holds Python objects"),
        (npy(version=3), "is of a version not read"),
        (npy()[:20], "damaged"),
        (b"", "damaged"),
        (b"PK\x03\x04", "damaged"),
    ],
)
def test_damaged_arrays(tmp_path, data, expected):
    with zipfile.ZipFile(tmp_path / "a", "w") as archive:
        archive.writestr("a/kernel.npy", data)
    assert expected in refusal(tmp_path / "a")


@pytest.mark.parametrize(
    ("compression", "names"),
    [
        (zipfile.ZIP_BZIP2, ["a/kernel.npy"]),
        (zipfile.ZIP_STORED, ["a/kernel.npy", "run.py"]),
    ],
)
def test_other_archives(tmp_path, compression, names):
    with zipfile.ZipFile(tmp_path / "a", "w", compression) as archive:
        for name in names:
            archive.writestr(name, npy())
    assert "no archive as numpy.savez writes it" in refusal(tmp_path / "a")


def test_checksum_and_truncation(tmp_path):
    data = write(tmp_path / "a", STATE).read_bytes()
    numbers = STATE["stage_0_a/Conv_0/kernel"].tobytes()
    (tmp_path / "a").write_bytes(data.replace(numbers, numbers[:-1] + b"\x7f"))
    assert "damaged" in refusal(tmp_path / "a")
    for size in range(4, len(data), 61):
        (tmp_path / "a").write_bytes(data[:size])
        refusal(tmp_path / "a")


# === Recognition ===

GMLP = "SplitHeadMultiAxisGmlpLayer_"
MIXING = f"{GMLP}0/GridGmlpLayer/GridGatingUnit/Dense_0/kernel"
SQUEEZE = "channel_attention_block_10/channel_attention/Conv_0/kernel"


def shapes_of(
    width=32,
    stages=3,
    levels=3,
    groups=2,
    bottlenecks=2,
    sides=(16, 16, 8),
    bottleneck_side=8,
    channels=3,
    scales=False,
):
    """What tells the arguments, of a network with three levels or another number."""
    shapes = {
        "stage_0_input_conv_0/kernel": (3, 3, 3, width),
        "UpSampleRatio_0/a": (1,),
    }
    for level in range(levels):
        block, wide = f"stage_0_encoder_block_{level}", width << level
        side = sides[min(level, 2)]
        shapes[f"{block}/{MIXING}"] = (side**2, side**2)
        shapes[f"{block}/channel_attention_block_10/conv1/kernel"] = (3, 3, wide, wide)
        shapes[f"{block}/{SQUEEZE}"] = (1, 1, wide, wide // 4)
        for group in range(groups):
            shapes[f"{block}/{GMLP}{group}/LayerNorm_in/scale"] = (wide,)
    for index in range(bottlenecks):
        block = f"stage_0_global_block_{index}"
        shapes[f"{block}/{MIXING}"] = (bottleneck_side**2, bottleneck_side**2)
    for stage in range(1, stages):
        shapes[f"stage_{stage}_input_conv_0/bias"] = (width,)
    for level in range(3 if scales else 1):
        name = f"stage_{stages - 1}_output_conv_{level}/kernel"
        shapes[name] = (3, 3, width << level, channels)
    return shapes


def state_of(shapes):
    return {name: np.empty(shape, "i1") for name, shape in shapes.items()}


@pytest.mark.parametrize("stages", [1, 2, 3])
@pytest.mark.parametrize(("width", "letter"), [(32, "S"), (64, "M")])
@pytest.mark.parametrize("scales", [False, True])
def test_official_variants(width, letter, stages, scales):
    state = state_of(shapes_of(width, stages, scales=scales))
    found = recognize(state)
    assert found.architecture == "MAXIM"
    assert found.variant == f"MAXIM {letter}-{stages}"
    assert found.arguments == {
        "width": width,
        "stages": stages,
        "num_groups": 2,
        "num_bottlenecks": 2,
        "sides": (16, 16, 8),
        "bottleneck_side": 8,
        "reduction": 4,
        "num_heads": 1,
        "image_channels": 3,
        "scale_outputs": scales,
    }
    assert found.assumed == {"combine_heads": False}
    assert found.task == UNKNOWN_TASK and found.license is None
    found = recognize(state, "maxim", "@upscalerjs/maxim-dehazing-indoor@1.0.0")
    assert (found.task, found.license) == ("dehazing (indoor)", "Apache-2.0")


def test_other_sizes():
    shapes = shapes_of(
        12, 1, groups=3, bottlenecks=1, sides=(8, 4, 2), bottleneck_side=1, channels=12
    )
    found = recognize(state_of(shapes))
    assert found.variant == "MAXIM"
    arguments = found.arguments
    assert (arguments["num_groups"], arguments["num_bottlenecks"]) == (3, 1)
    assert (arguments["sides"], arguments["bottleneck_side"]) == ((8, 4, 2), 1)
    assert arguments["num_heads"] == 4 and found.assumed == {"combine_heads": True}


@pytest.mark.parametrize("levels", [1, 2, 4])
def test_other_numbers_of_levels(levels):
    with pytest.raises(ValueError, match=f"must have 3 levels, .* of {levels} levels"):
        recognize(state_of(shapes_of(levels=levels)))


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("stage_0_input_conv_0/kernel", None, "missing: stage_0_input_conv_0/kernel"),
        ("stage_0_input_conv_0/kernel", (3, 32), "misshapen: stage_0_input_conv_0/ker"),
        (f"stage_0_encoder_block_0/{SQUEEZE}", (1, 1, 9, 0), "misshapen: "),
        (
            f"stage_0_encoder_block_1/{MIXING}",
            None,
            "block_1/.* must mix the tokens of",
        ),
        (f"stage_0_encoder_block_1/{MIXING}", (256, 64), r"shape=\(256, 64\)"),
        (
            f"stage_0_encoder_block_1/{MIXING}",
            (10, 10),
            "must mix the tokens of square",
        ),
        (f"stage_0_encoder_block_1/{MIXING}", (), "must mix the tokens of squares"),
        (f"stage_0_global_block_0/{MIXING}", (0, 0), "must mix the tokens of squares"),
        ("stage_2_output_conv_0/kernel", None, "must make images of 3 channels"),
        (
            "stage_2_output_conv_0/kernel",
            (3, 3, 32, 4),
            "must make images of 3 channels",
        ),
        ("stage_0_input_conv_0/kernel", (3, 3, 3, 4096), "misshapen: .*conv1/kernel"),
    ],
)
def test_wrong_sizes(name, shape, expected):
    shapes = {**shapes_of(), name: shape}
    state = state_of(
        {name: shape for name, shape in shapes.items() if shape is not None}
    )
    with pytest.raises(ValueError, match=expected):
        recognize(state)


# === Whole networks ===


def test_checkpoint(tiny_maxim, tmp_path):
    """Of float16, beside an optimizer's state."""
    network, state = tiny_maxim
    halves = {name: array.astype("float16") for name, array in state.items()}
    arrays = {**under("opt/target/", halves), **under("opt/state/m/", state)}
    model = from_checkpoint(write(tmp_path / "checkpoint.npz", arrays))
    for weight in model.weights:
        assert weight.dtype == "float32"
    x = np.random.default_rng(1).random((1, 32, 32, 3), "float32")
    result = model(x)
    load_official_weights(model, halves)
    np.testing.assert_array_equal(model(x), result)
    load_official_weights(model, state)
    np.testing.assert_array_equal(model(x), network(x))


def test_misfit(tiny_maxim):
    network, state = tiny_maxim
    changed = {**state, "stage_0_x/bias": np.zeros(3)}
    del changed["UpSampleRatio_3/Conv_0/kernel"]
    before = [np.asarray(weight.numpy()) for weight in network.weights]
    with pytest.raises(ValueError) as caught:
        load_official_weights(network, changed)
    assert str(caught.value).splitlines() == [
        "The checkpoint does not fit the MAXIM:",
        "  missing: UpSampleRatio_3/Conv_0/kernel",
        "  surplus: stage_0_x/bias",
    ]
    for weight, value in zip(network.weights, before):
        np.testing.assert_array_equal(weight.numpy(), value)


@pytest.mark.slow
@pytest.mark.parametrize(
    "part",
    ["stage_0_global_block_", f"encoder_block_0/{GMLP}"],
)
def test_many_names_make_no_large_network(tiny_maxim, tmp_path, part):
    state = dict(tiny_maxim[1])
    prefix = part if part.startswith("stage") else f"stage_0_{part}"
    state |= {f"{prefix}{i}/bias": np.zeros(1, "float32") for i in range(2, 40)}
    path = write(tmp_path / "a.npz", state)
    with pytest.raises(ValueError, match="makes no MAXIM: .* larger than the file"):
        from_checkpoint(path)


@pytest.mark.slow
def test_command(tiny_maxim, tmp_path, capfd):
    path = write(tmp_path / "a.npz", under("opt/target/", tiny_maxim[1]))
    state = len(tiny_maxim[1])
    arguments = ["convert", str(path), "-o", str(tmp_path / "p"), "--set", "stages=2"]
    assert cli.main(arguments) == 2
    out, err = capfd.readouterr()
    assert f"Checkpoint  a.npz: {state} weights in opt/target\n" in out
    assert "trained for: unknown (the file does not say)\n" in out
    assert "Licence" not in out
    assert "missing: " in err or "larger than the file" in err
