"""Noise schedules: how much of the image and how much noise each step has."""

import math
import numbers
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mhdeblur.utils.types import Tensor

# Largest noise of a step that `for_sampling` takes by itself.
_DEFAULT_NOISE = 0.5


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class NoiseSchedule:
    """A linear schedule: step t adds noise of the variance beta_t.

    beta_t rises linearly from `beta_start` to `beta_end`. alpha_bar_t is the product of
    all 1 - beta_s up to t, and an image x with the noise of t steps is
    sqrt(alpha_bar_t) x + sqrt(1 - alpha_bar_t) times normal noise. Its *noise level* is
    sqrt(alpha_bar_t): 1 is no noise, 0 is nothing but noise. Source: DvSR (arXiv
    2112.02475) with the schedule of SR3 (arXiv 2104.07636).

    A denoiser knows noise levels, no steps. So it is trained with one schedule, and
    samples are drawn with any other one: see `for_sampling`.

    Args:
        steps: number of steps T.
        beta_start: variance of the first step's noise.
        beta_end: variance of the last step's noise.

    Attributes:
        alpha_bars: float64 (T + 1,), from alpha_bar_0 = 1 to alpha_bar_T.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(
        self, steps: int = 2000, beta_start: float = 1e-6, beta_end: float = 1e-2
    ) -> None:
        check_count("steps", steps)
        if not 0 < beta_start < 1:
            raise ValueError(
                "`beta_start` must lie between 0 and 1. "
                f"Received: beta_start={beta_start}"
            )
        if not beta_start <= beta_end < 1:
            raise ValueError(
                f"`beta_end` must be at least `beta_start`, {beta_start}, and below 1. "
                f"Received: beta_end={beta_end}"
            )
        self.steps = int(steps)
        self.beta_start = float(beta_start)
        self.beta_end = float(beta_end)
        # From the end: a single step has the last one's noise.
        betas = np.linspace(self.beta_end, self.beta_start, self.steps)[::-1]
        self.alpha_bars = np.append(1.0, np.cumprod(1 - betas))

    def draw(self, count: int | Tensor, seed: Any) -> Tensor:
        """Random noise levels for training.

        Each is uniform between those of two neighbouring steps, which are drawn
        uniformly (WaveGrad, arXiv 2009.00713), for every sample by itself.

        Args:
            count: number of levels.
            seed: an integer or a `keras.random.SeedGenerator`.

        Returns:
            float32 (count,), from the level of the last step to 1.
        """
        place = keras.random.uniform((count,), 0, self.steps, "float32", seed)
        step = ops.minimum(ops.cast(place, "int32"), self.steps - 1)
        share = place - ops.cast(step, "float32")
        levels = ops.convert_to_tensor(np.sqrt(self.alpha_bars), "float32")
        before, after = ops.take(levels, step), ops.take(levels, step + 1)
        return before + share * (after - before)

    def for_sampling(self, steps: int, noise: float | None = None) -> "NoiseSchedule":
        """A schedule for sampling with a denoiser that was trained with this one.

        Many steps of little noise give samples of high perceptual quality; few steps
        of much noise, averaged over several samples, give a low error (DvSR, section
        on the perception-distortion trade-off).

        Args:
            steps: number of steps.
            noise: variance of the last step's noise, `beta_end`. By default 0.5, or
                less where there are so many steps that the image would be gone further
                than in training.

        Returns:
            `NoiseSchedule` whose `beta_start` is that of this one.

        Raises:
            ValueError: an argument is out of its range, or the noise of all steps is
                more than training had.
        """
        check_count("steps", steps)
        largest = self._largest_noise(steps)
        if noise is None:
            noise = min(_DEFAULT_NOISE, largest)
        if not self.beta_start <= noise <= largest:
            raise ValueError(
                f"`noise` must be from {self.beta_start:g} to {largest:g} with "
                f"steps={steps}, so that no step has more noise than the training had. "
                f"Received: noise={noise}"
            )
        return NoiseSchedule(steps, self.beta_start, noise)

    def _largest_noise(self, steps):
        """The largest `noise` of `for_sampling`, rounded down to five digits."""
        low, high = self.beta_start, 1 - 1e-6
        for _ in range(50):
            middle = (low + high) / 2
            last = NoiseSchedule(steps, self.beta_start, middle).alpha_bars[-1]
            if last < self.alpha_bars[-1] * (1 - 1e-9):
                high = middle
            else:
                low = middle
        return max(math.floor(1e5 * low) / 1e5, self.beta_start)

    def get_config(self) -> dict[str, Any]:
        return {
            "steps": self.steps,
            "beta_start": self.beta_start,
            "beta_end": self.beta_end,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "NoiseSchedule":
        return cls(**config)


def check_count(name: str, value: int) -> None:
    """Raises a ValueError for anything but a whole number of at least 1."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or value < 1:
        raise ValueError(
            f"`{name}` must be a whole number of at least 1. Received: {name}={value!r}"
        )
