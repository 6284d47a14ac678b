import keras
import numpy as np
import pytest
from keras import ops

from keras_mhdeblur.convert import load_torch_state_dict
from keras_mhdeblur.layers import HeadCombination
from keras_mhdeblur.networks import NAFNet

GOLDEN_FILES = [
    "nafnet_baseline",
    "nafnet_baseline_37x51",
    "nafnet_baseline_local_37x51",
    "nafnet_mh_k3",
    "nafnet_mhc_k4",
    "nafnet_mhc_k4_37x51",
    "nafnet_mhc_k4_local",
    "nafnet_mhc_k4_local_37x51",
    "nafnet_mhc_k4_local_one_dim",
]


def official_network(file):
    kwargs = file.config["kwargs"]
    train_size = kwargs.get("train_size")
    network = NAFNet(
        width=kwargs["width"],
        encoder_blocks=kwargs["enc_blk_nums"],
        middle_blocks=kwargs["middle_blk_num"],
        decoder_blocks=kwargs["dec_blk_nums"],
        num_heads=kwargs.get("n_heads", 1),
    )
    load_torch_state_dict(network, file.state())
    return network.with_local_statistics(train_size[2:]) if train_size else network


def tiny(**kwargs):
    kwargs = {"num_heads": 2, **kwargs}
    network = NAFNet(4, (1, 1), 1, (1, 1), **kwargs)
    for weight in network.weights:  # beta and gamma start at zero
        weight.assign(0.3 * keras.random.normal(weight.shape, seed=len(weight.path)))
    return network


@pytest.mark.parametrize("name", GOLDEN_FILES)
@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_official_output(golden, name, mode):
    file = golden(name)
    network = official_network(file)
    assert network.count_params() == file.config["n_params"]
    if mode == "eager":
        stack = network(file["x"])
    else:
        stack = network.predict(file["x"], verbose=0)
    if file.config["kwargs"].get("combinate_heads"):
        stack = HeadCombination()(stack)
    expected = file["out/0"].reshape(stack.shape)
    tolerance = 10 * file.config["f32_vs_f64_maxabs"][0]
    np.testing.assert_allclose(stack, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    "width, num_heads, parameters",
    [
        (32, 1, 17_111_907),
        (32, 4, 17_114_508),
        (64, 1, 67_888_835),
        (64, 4, 67_894_028),
    ],
)
def test_parameter_count(width, num_heads, parameters):
    assert NAFNet(width=width, num_heads=num_heads).count_params() == parameters


@pytest.mark.parametrize("change", ["missing", "surplus", "misshapen"])
def test_state_dict_that_does_not_fit(golden, change):
    file = golden("nafnet_mh_k3")
    network, state = official_network(file), file.state()
    before = [np.array(w) for w in network.weights]
    if change == "missing":
        del state["intro.weight"]
    elif change == "surplus":
        state["outro.weight"] = state["intro.weight"]
    else:
        state["intro.weight"] = state["intro.weight"][:, :2]
    name = "outro.weight" if change == "surplus" else "intro.weight"
    state["ending.bias"] = state["ending.bias"] + 1
    with pytest.raises(ValueError, match=f"{change}: {name}"):
        load_torch_state_dict(network, state)
    for weight, old in zip(network.weights, before):
        np.testing.assert_array_equal(weight, old)


@pytest.mark.parametrize("size", [(1, 1), (3, 9), (16, 20)])
def test_any_size(size):
    network = tiny()
    image = np.random.default_rng(0).random((1, *size, 3), "float32")
    assert network(image).shape == (1, 2, *size, 3)


def test_local_statistics_share_weights_and_equal_global_ones_on_small_images():
    network = tiny()
    local = network.with_local_statistics(16)
    assert all(a is b for a, b in zip(network.weights, local.weights))
    assert local.local_statistics == 16
    small = np.random.default_rng(0).random((1, 16, 24, 3), "float32")
    large = np.random.default_rng(0).random((1, 16, 48, 3), "float32")
    np.testing.assert_allclose(local(small), network(small), atol=1e-5)
    assert np.abs(np.array(local(large)) - np.array(network(large))).max() > 1e-3
    np.testing.assert_array_equal(
        local.with_local_statistics(None)(large), network(large)
    )


def test_folded_heads_are_the_weighted_mean():
    network = tiny(num_heads=3)
    folded = network.with_folded_heads([0.5, 0.2, 0.3])
    image = np.random.default_rng(0).random((1, 13, 10, 3), "float32")
    expected = np.tensordot([0.5, 0.2, 0.3], np.array(network(image)), (0, 1))
    np.testing.assert_allclose(folded(image)[:, 0], expected, atol=1e-5)
    with pytest.raises(ValueError, match="Received: head_weights="):
        network.with_folded_heads([0.5, 0.5])


def test_config_round_trip():
    network = tiny(local_statistics=(16, 24), name="deblur")
    copy = NAFNet.from_config(network.get_config())
    assert copy.get_config() == network.get_config()
    assert copy.name == "deblur"


def test_block_counts_must_match():
    with pytest.raises(ValueError, match=r"Received: encoder_blocks=\(1, 1\)"):
        NAFNet(4, (1, 1), 1, (1,))


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_keeps_the_image(golden, policy):
    file = golden("nafnet_mhc_k4")
    keras.config.set_dtype_policy(policy)
    try:
        network = official_network(file)
        stack = network(file["x"])
    finally:
        keras.config.set_dtype_policy("float32")
    assert stack.dtype == "float32"
    difference = np.array(HeadCombination()(stack)) - file["out/0"]
    # The residual is about 0.5 and has 8 or 11 significant bits.
    assert np.abs(difference).max() < (0.1 if policy == "mixed_bfloat16" else 0.02)
    zero = file["x"] * 0 + 1 / 3
    for weight in network.get_layer("heads").weights:
        weight.assign(ops.zeros_like(weight))
    np.testing.assert_allclose(network(zero), 1 / 3, atol=1e-7)
