import pytest

from keras_mhdeblur.networks import Restormer


@pytest.mark.parametrize("num_heads, parameters", [(1, 26_126_644), (4, 26_134_420)])
def test_parameter_count(num_heads, parameters):
    assert Restormer(num_heads=num_heads).count_params() == parameters


def test_levels_must_match():
    with pytest.raises(ValueError, match=r"Received: num_blocks=\(1, 1\), attention"):
        Restormer(4, (1, 1), 1, (1,))
