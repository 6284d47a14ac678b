import numpy as np
import pytest

from keras_mhdeblur.convert import load_torch_state_dict
from keras_mhdeblur.networks import NAFNet


@pytest.mark.parametrize(
    "width, four_heads, one_head",
    [
        (32, 17_114_508, 17_111_907),
        pytest.param(64, 67_894_028, 67_888_835, marks=pytest.mark.slow),
    ],
)
def test_parameter_count(width, four_heads, one_head):
    network = NAFNet(width=width)
    assert network.count_params() == four_heads
    assert network.with_folded_heads([0.25] * 4).count_params() == one_head


@pytest.mark.parametrize("change", ["missing", "surplus", "misshapen"])
def test_state_dict_that_does_not_fit(official, change):
    file, network = official("nafnet_mh_k3")
    state, before = file.state(), network.get_weights()
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
    for weight, old in zip(network.get_weights(), before):
        np.testing.assert_array_equal(weight, old)


def test_block_counts_must_match():
    with pytest.raises(ValueError, match=r"Received: encoder_blocks=\(1, 1\)"):
        NAFNet(4, (1, 1), 1, (1,))
