import numpy as np
import pytest

from keras_mhdeblur.experimental import winner_metrics
from keras_mhdeblur.layers import HeadCombination


def test_predicted_winners():
    # Errors, probabilities: right, right, wrong by 10 dB, wrong by 20 dB.
    errors = [[1e-3, 1e-1], [1e-2, 1e-3], [1e-2, 1e-1], [1e-1, 1e-3]]
    probabilities = [[0.9, 0.1], [0.1, 0.9], [0.3, 0.7], [0.7, 0.3]]
    expected = {
        winner_metrics.WinnerAccuracy(): 0.5,
        winner_metrics.MajorityAccuracy(): 0.5,
        winner_metrics.CalibrationError(): 0.5 * 0.1 + 0.5 * 0.7,
        winner_metrics.SelectionRegret(): (0 + 0 + 10 + 20) / 4,
    }
    errors, logits = np.array(errors), np.log(probabilities)
    for metric, value in expected.items():
        # As of blocks, and in two batches.
        metric.update_state(
            errors[:2].reshape(1, 2, 1, 2), logits[:2].reshape(1, 2, 1, 2)
        )
        metric.update_state(
            errors[2:].reshape(2, 1, 1, 2), logits[2:].reshape(2, 1, 1, 2)
        )
        np.testing.assert_allclose(metric.result(), value, rtol=1e-5)


@pytest.mark.parametrize("combine", [True, False, "axes"])
def test_errors_of_blocks_are_those_of_combined_images(combine):
    rng = np.random.default_rng(0)
    label = rng.random((2, 31, 45, 3), "float32")
    stack = rng.random((2, 4, 31, 45, 3), "float32")
    values = np.array(winner_metrics.block_mse(stack - label[:, None], combine))
    hypotheses = np.array(HeadCombination(combine)(stack))
    assert values.shape == (2, 2, 3, hypotheses.shape[1])
    squares = np.square(hypotheses - label[:, None])
    for row, column in np.ndindex(2, 3):
        inside = np.s_[:, :, 16 * row :, 16 * column :]
        block = squares[inside][:, :, :16, :16]
        expected = block.mean(axis=(2, 3, 4))
        np.testing.assert_allclose(values[:, row, column], expected, rtol=1e-5)


@pytest.mark.parametrize(
    "name",
    ["WinnerAccuracy", "MajorityAccuracy", "CalibrationError", "SelectionRegret"],
)
def test_result_before_the_first_update(name):
    metric = getattr(winner_metrics, name)()
    assert metric.result() == 0
    metric.reset_state()
    assert metric.result() == 0
