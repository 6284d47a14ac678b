"""Schedules, samplers and noise, with answers that are known."""

import keras
import numpy as np
import pytest

from keras_mhdeblur.diffusion import NoiseSchedule, sample
from keras_mhdeblur.diffusion.noise_field import noise_field


def normal_noise(shape, seed=0):
    return lambda step: np.random.default_rng([seed, step]).standard_normal(shape)


# Schedules.


def test_schedule_is_the_product_of_what_the_steps_leave():
    schedule = NoiseSchedule(4, 0.1, 0.4)
    expected = [1, 0.9, 0.9 * 0.8, 0.9 * 0.8 * 0.7, 0.9 * 0.8 * 0.7 * 0.6]
    np.testing.assert_allclose(schedule.alpha_bars, expected, rtol=1e-12)
    assert schedule.alpha_bars.dtype == np.float64
    np.testing.assert_allclose(NoiseSchedule(1, 0.1, 0.4).alpha_bars, [1, 0.6])
    # Of the default one: log(1 - b) is -b - b^2 / 2 - ...
    betas = np.linspace(1e-6, 1e-2, 2000)
    exponent = -np.sum(betas + betas**2 / 2 + betas**3 / 3)
    np.testing.assert_allclose(
        np.log(NoiseSchedule().alpha_bars[-1]), exponent, rtol=1e-6
    )


def test_drawn_levels_are_uniform_between_neighbours():
    schedule = NoiseSchedule(2, 0.1, 0.9)
    levels = keras.ops.convert_to_numpy(schedule.draw(40_000, seed=0))
    edges = np.sqrt(schedule.alpha_bars)
    assert edges[2] <= levels.min() and levels.max() <= 1
    first = levels > edges[1]
    assert abs(first.mean() - 0.5) < 0.01
    for part, high, low in ((first, 1, edges[1]), (~first, edges[1], edges[2])):
        place = (levels[part] - low) / (high - low)
        assert abs(place.mean() - 1 / 2) < 0.01 and abs(place.var() - 1 / 12) < 0.002


def test_schedules_for_sampling_stay_in_the_training_s_range():
    schedule = NoiseSchedule()
    for steps, noise in ((1, 0.5), (10, 0.5), (20, 0.5), (2000, 0.01)):
        found = schedule.for_sampling(steps)
        assert (found.steps, found.beta_end) == (steps, noise)
        assert found.beta_start == schedule.beta_start
    found = schedule.for_sampling(500)
    ratio = found.alpha_bars[-1] / schedule.alpha_bars[-1]
    assert 1 <= ratio < 1.01 and 0.03 < found.beta_end < 0.05
    assert schedule.for_sampling(50, 0.2).beta_end == 0.2
    with pytest.raises(ValueError, match=r"to 0\.3\d+ with steps=50.*noise=0\.5$"):
        schedule.for_sampling(50, 0.5)
    with pytest.raises(ValueError, match=r"`noise` must.*Received: noise=-1$"):
        schedule.for_sampling(50, -1)


def test_schedules_are_saved():
    schedule = NoiseSchedule(5, 0.1, 0.2)
    config = keras.saving.serialize_keras_object(schedule)
    found = keras.saving.deserialize_keras_object(config)
    np.testing.assert_array_equal(found.alpha_bars, schedule.alpha_bars)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((0,), "`steps` must .* Received: steps=0$"),
        ((2.5,), "`steps` must .* Received: steps=2.5$"),
        ((9, 0.0), "`beta_start` must .* Received: beta_start=0.0$"),
        ((9, 0.1, 1.0), "`beta_end` must .* Received: beta_end=1.0$"),
        ((9, 0.1, 0.01), "`beta_end` must .* Received: beta_end=0.01$"),
    ],
)
def test_wrong_schedules_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        NoiseSchedule(*arguments)


# Samplers.


@pytest.mark.parametrize("eta", [1.0, 0.0])
@pytest.mark.parametrize("center", [0.0, 0.25])
def test_samples_of_a_known_posterior(eta, center):
    """The image is normal, and the denoiser the exact mean of the noise."""
    mean, deviation, count = 0.1 - center, 0.15, 5_000

    def denoise(z, level):
        variance = level**2 * deviation**2 + 1 - level**2
        return np.sqrt(1 - level**2) * (z - level * mean) / variance

    # So many steps that what is left of the discretization is below the noise.
    schedule = NoiseSchedule().for_sampling(4000)
    found = sample(denoise, schedule, normal_noise(count), center, eta)
    error = deviation / np.sqrt(count)
    assert abs(found.mean() - mean) < 4 * error
    assert abs(found.std() - deviation) < 4 * error / np.sqrt(2)


def test_ancestral_steps_are_those_of_algorithm_1():
    schedule = NoiseSchedule(6, 0.01, 0.3)
    noise = normal_noise((4, 5))

    def denoise(z, level):
        return 3 * np.sin(z) + level

    bars = schedule.alpha_bars
    z = noise(6)
    for t in range(6, 0, -1):
        alpha = bars[t] / bars[t - 1]
        z0 = (z - np.sqrt(1 - bars[t]) * denoise(z, np.sqrt(bars[t]))) / bars[t] ** 0.5
        z0 = np.clip(0.2 + z0, -1, 1) - 0.2
        mean = bars[t - 1] ** 0.5 * (1 - alpha) / (1 - bars[t]) * z0
        mean += alpha**0.5 * (1 - bars[t - 1]) / (1 - bars[t]) * z
        beta = (1 - bars[t - 1]) / (1 - bars[t]) * (1 - alpha)
        z = mean + (np.sqrt(beta) * noise(t - 1) if t > 1 else 0)
    np.testing.assert_allclose(sample(denoise, schedule, noise, 0.2), z, atol=1e-9)


def test_samples_and_center_are_in_range():
    schedule = NoiseSchedule(3, 0.1, 0.5)
    found = sample(lambda z, level: -50 * z, schedule, normal_noise(100), 0.4)
    assert np.abs(0.4 + found).max() <= 1 and np.unique(found.round(6)).size == 2


def test_nan_names_the_step():
    schedule = NoiseSchedule(5, 0.1, 0.5)

    def denoise(z, level):
        return z * (np.nan if level > 0.8 else 0)

    with pytest.raises(FloatingPointError, match="no numbers. Received: step=2 of 5$"):
        sample(denoise, schedule, normal_noise(3))


# Noise.


def test_noise_is_fixed_by_the_place():
    whole = noise_field(slice(0, 150), slice(0, 200), 3, (7, 0, 1))
    part = noise_field(slice(50, 131), slice(64, 199), 3, (7, 0, 1))
    assert whole.dtype == np.float32
    np.testing.assert_array_equal(part, whole[50:131, 64:199])
    for key in ((8, 0, 1), (7, 1, 1), (7, 0, 2)):
        other = noise_field(slice(0, 150), slice(0, 200), 3, key)
        assert abs(np.mean(whole * other)) < 0.015
    assert abs(np.mean(whole[:64] * whole[64:128])) < 0.02
    assert abs(whole.mean()) < 0.015 and abs(whole.std() - 1) < 0.015
