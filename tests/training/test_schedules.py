import keras
import numpy as np
import pytest

from keras_mhdeblur.training.schedules import WarmupHoldCosine


def rates(schedule, steps):
    return [float(schedule(step)) for step in steps]


def test_warmup_hold_and_cosine():
    schedule = WarmupHoldCosine(
        1e-3, total_steps=100, warmup_steps=10, decay_steps=40, final=1e-5
    )
    found = rates(schedule, [0, 4, 9, 10, 59, 60, 80, 100, 1000])
    middle = (1e-3 + 1e-5) / 2
    expected = [1e-4, 5e-4, 1e-3, 1e-3, 1e-3, 1e-3, middle, 1e-5, 1e-5]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    quarter = 1e-5 + (1e-3 - 1e-5) * 0.5 * (1 + np.cos(np.pi / 4))
    np.testing.assert_allclose(rates(schedule, [70]), quarter, rtol=1e-5)


def test_by_default_the_cosine_is_that_of_nafnet():
    schedule = WarmupHoldCosine(1e-3, total_steps=400_000)
    steps = np.array([0, 1, 123_456, 399_999, 400_000])
    expected = 1e-7 + (1e-3 - 1e-7) * (1 + np.cos(np.pi * steps / 400_000)) / 2
    np.testing.assert_allclose(rates(schedule, steps), expected, rtol=1e-4, atol=1e-10)
    assert WarmupHoldCosine(1.0, 50, warmup_steps=20).decay_steps == 30


def test_no_decay():
    schedule = WarmupHoldCosine(0.5, 10, decay_steps=0)
    np.testing.assert_allclose(rates(schedule, [0, 5, 9]), 0.5)


def test_config_round_trip():
    schedule = WarmupHoldCosine(2e-3, 50, warmup_steps=3, decay_steps=20, final=1e-6)
    copy = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(schedule)
    )
    assert type(copy) is WarmupHoldCosine
    assert copy.get_config() == schedule.get_config()
    assert rates(copy, range(0, 60, 7)) == rates(schedule, range(0, 60, 7))


def test_the_optimizer_follows_it():
    optimizer = keras.optimizers.SGD(WarmupHoldCosine(1.0, 8, warmup_steps=2, final=0))
    variable = keras.Variable(0.0)
    values = [0.0]
    for _ in range(4):
        optimizer.apply([keras.ops.ones(())], [variable])
        values.append(float(variable))
    expected = [0.5, 1.0, 1.0, 0.5 * (1 + np.cos(np.pi / 6))]
    np.testing.assert_allclose(-np.diff(values), expected, rtol=1e-5)


def test_parts_longer_than_the_whole():
    with pytest.raises(ValueError, match="Received: total_steps=10, warmup_steps=4"):
        WarmupHoldCosine(1e-3, 10, warmup_steps=4, decay_steps=7)
