import pytest

from keras_mhdeblur.networks import Restormer


def test_parameter_count():
    network = Restormer()
    assert network.count_params() == 26_134_420
    assert network.with_folded_heads([0.25] * 4).count_params() == 26_126_644


def test_levels_must_match():
    with pytest.raises(ValueError, match=r"Received: num_blocks=\(1, 1\), attention"):
        Restormer(4, (1, 1), 1, (1,))
    with pytest.raises(ValueError, match=r"Received: num_blocks=\(\), attention"):
        Restormer(4, (), 1, ())


def test_width_must_be_even():
    with pytest.raises(ValueError, match="Received: width=7$"):
        Restormer(7, (1, 1), 1, (1, 1))
