import numpy as np
import pytest
from keras import ops

from keras_mhdeblur.data import seeded


def uniform(seeds, count, stream=0):
    return np.array(seeded.uniform(np.array(seeds, "int32"), count, stream))


def test_numbers_of_a_sample_do_not_depend_on_the_batch_or_the_count():
    together = uniform([3, 4, 5], 100)
    np.testing.assert_array_equal(uniform([5, 9], 40)[0], together[2, :40])
    np.testing.assert_array_equal(uniform([4], 100), together[1:2])
    np.testing.assert_array_equal(
        seeded.normal(np.array([5]), 10, 2),
        seeded.normal(np.array([1, 5]), 10, 2)[1:],
    )


@pytest.mark.parametrize(
    "seeds", [[7, 8], (7, 8), np.array([7, 8], "int64"), ops.convert_to_tensor([7, 8])]
)
def test_seeds_may_be_integers_arrays_or_tensors(seeds):
    np.testing.assert_array_equal(seeded.uniform(seeds, 5), uniform([7, 8], 5))


@pytest.mark.parametrize("stream", [0, 7])
@pytest.mark.parametrize("seed", [0, -1, 2**31 - 1])
def test_uniform_numbers_are_uniform(seed, stream):
    numbers = uniform([seed], 100_000, stream)[0]
    assert numbers.dtype == "float32"
    assert 0 <= numbers.min() < 1e-4 and 1 - 1e-4 < numbers.max() < 1
    assert abs(numbers.mean() - 1 / 2) < 4 * np.sqrt(1 / 12 / 1e5)
    assert abs(numbers.var() - 1 / 12) < 4 * np.sqrt(1 / 180 / 1e5)
    counts = np.histogram(numbers, 16, (0, 1))[0]
    chi_square = np.sum((counts - 6250) ** 2) / 6250
    assert (
        3.5 < chi_square < 39
    )  # 15 degrees of freedom: 0.1 % lie outside on each side


def test_first_numbers_of_consecutive_seeds_are_uniform():
    # What a data set's samples get: seeds 0, 1, 2, ..., few numbers of each.
    numbers = uniform(np.arange(100_000), 2)
    for column in numbers.T:
        counts = np.histogram(column, 16, (0, 1))[0]
        assert 3.5 < np.sum((counts - 6250) ** 2) / 6250 < 39
    assert abs(np.corrcoef(numbers.T)[0, 1]) < 4 / np.sqrt(1e5)
    assert abs(np.corrcoef(numbers[1:, 0], numbers[:-1, 0])[0, 1]) < 4 / np.sqrt(1e5)


def test_seeds_streams_and_successive_numbers_are_uncorrelated():
    rows = np.concatenate(
        [
            uniform([0, 1, 2, 1000], 100_000),
            uniform([0, 1], 100_000, stream=1),
            uniform([0], 100_000, stream=2),
            np.roll(uniform([0], 100_000), 1, axis=1),
        ]
    )
    correlations = np.corrcoef(rows) - np.eye(len(rows))
    assert np.abs(correlations).max() < 4 / np.sqrt(1e5)


def test_normal_numbers_have_the_moments_of_a_normal_distribution():
    x = np.array(seeded.normal(np.array([11]), 100_000, stream=1), "float64")[0]
    assert np.all(np.isfinite(x)) and np.abs(x).max() > 3.5
    for power, moment, spread in [(1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)]:
        assert abs(np.mean(x**power) - moment) < 4 * np.sqrt(spread / 1e5)
    # The value at one standard deviation, which the moments do not fix.
    share = np.mean(np.abs(x) < 1)
    assert abs(share - 0.682689) < 4 * np.sqrt(0.6827 * 0.3173 / 1e5)
