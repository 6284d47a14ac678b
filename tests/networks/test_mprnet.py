import re

import h5py
import numpy as np
import pytest

from keras_mhdeblur.convert import load_torch_state_dict
from keras_mhdeblur.convert.recognition import recognize
from keras_mhdeblur.layers import channel_attention
from keras_mhdeblur.networks import MPRNet
from keras_mhdeblur.networks.mprnet.official_names import mprnet_entries


@pytest.mark.parametrize(
    "num_heads, parameters",
    [pytest.param(1, 20_127_073, marks=pytest.mark.slow), (4, 20_140_897)],
)
def test_parameter_count(num_heads, parameters):
    network = MPRNet(num_heads=num_heads)
    assert network.count_params() == parameters
    slope = network.get_layer("slope").slope
    entries = mprnet_entries(network).values()
    assert sum(variable is slope for variable, _ in entries) == 55
    assert {id(variable) for variable, _ in entries} == set(map(id, network.weights))


def test_all_names_of_the_slope_must_have_one_value(official):
    file, network = official("mprnet_mhc_k4")
    state, before = file.state(), network.get_weights()
    name = "stage3_orsnet.orb2.body.0.body.1.weight"
    state["concat12.weight"] = state["concat12.weight"] + 1
    state[name] = state[name] + 1
    with pytest.raises(ValueError, match=f"unequal: {name} and .*body.1.weight"):
        load_torch_state_dict(network, state)
    del state[name]
    with pytest.raises(ValueError, match=f"missing: {name}"):
        load_torch_state_dict(network, state)
    for weight, old in zip(network.get_weights(), before):
        np.testing.assert_array_equal(weight, old)


def test_biases_are_where_the_official_code_has_them(official):
    """With `bias=True` some convolutions there still have none."""
    file, unbiased = official("mprnet_mhc_k4")
    state = file.state()
    last = rf"stage3_orsnet\.orb\d\.body\.{unbiased.num_cab}\.weight"
    without = re.compile(rf".*\.(down|up)\.1\.weight|{last}")
    names = [
        name
        for name, array in state.items()
        if array.ndim == 4 and not without.fullmatch(name)
    ]
    for name in names:
        bias = np.zeros(len(state[name]), "float32")
        state[f"{name.removesuffix('.weight')}.bias"] = bias
    recognised = recognize(state)
    assert recognised.arguments["use_bias"]
    network = MPRNet(**recognised.arguments)
    load_torch_state_dict(network, state)
    for found, expected in zip(network(file["x"]), unbiased(file["x"])):
        np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.fixture(scope="module")
def network():
    return MPRNet(4, 2, 2, 1, reduction=2, num_heads=2, tlc_train_size=(24, 32))


def test_local_windows_are_one_and_a_half_of_what_was_seen_in_training(
    network, images, monkeypatch
):
    original, seen = channel_attention.average_pool, []

    def recording(x, window_size):
        seen.append((x.shape, window_size))
        return original(x, window_size)

    monkeypatch.setattr(channel_attention, "average_pool", recording)
    network(images(1, 24, 32))
    # Without TLC the patches of stage 1 and 2 are images of the batch.
    whole, seen[:] = list(seen), []
    network.with_local_statistics(None)(images(1, 24, 32))
    assert {shape[0] for shape, _ in seen} == {1, 2, 4}
    assert len(seen) == len(whole) == 34
    for ((batch, *_), window), ((_, height, width, _), no_window) in zip(whole, seen):
        assert batch == 1 and no_window is None
        assert window == (3 * height // 2, 3 * width // 2)


@pytest.mark.slow
def test_saved_weights_hold_the_slope_once(network, tmp_path):
    slope = network.get_layer("slope").slope
    slope.assign([0.125])
    path, stored = tmp_path / "network.weights.h5", []

    def store(name, item):
        if isinstance(item, h5py.Dataset):
            stored.append(item[()])

    network.save_weights(path)
    with h5py.File(path) as file:
        file.visititems(store)
    assert sum(values.size for values in stored) == network.count_params()
    assert sum(np.array_equal(values, [0.125]) for values in stored) == 1
    copy = MPRNet.from_config({**network.get_config(), "tlc_train_size": None})
    copy.load_weights(path)
    for weight, expected in zip(copy.get_weights(), network.get_weights()):
        np.testing.assert_array_equal(weight, expected)
