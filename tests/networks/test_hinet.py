import numpy as np
import pytest

from keras_mhdeblur import losses
from keras_mhdeblur.layers import HeadCombination
from keras_mhdeblur.networks import HINet


@pytest.mark.parametrize(
    "num_heads, parameters",
    [pytest.param(1, 88_668_806, marks=pytest.mark.slow), (4, 88_684_376)],
)
def test_parameter_count(num_heads, parameters):
    assert HINet(num_heads=num_heads).count_params() == parameters


def test_one_level_is_too_few():
    with pytest.raises(ValueError, match="Received: depth=1"):
        HINet(depth=1)


def test_stage_losses_of_pairs_add_up_each_with_its_own_winner(golden):
    file = golden("losses")
    stages, label = [file["pred"], file["pred_stage1"]], file["target"]
    expected, winners = 0, []
    for stack in stages:
        errors = np.array(HeadCombination()(stack)) - label[:, None]
        mse = np.mean(errors.astype("float64") ** 2, axis=(2, 3, 4))
        expected += 0.5 * 10 * np.log10(mse.min(axis=1)).mean()
        winners.append(mse.argmin(axis=1))
    assert (winners[0] != winners[1]).all() and len(set(winners[0])) > 1
    found = losses.HypothesisLoss(losses.PSNRLoss(0.5))(label, stages)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
