"""Drawing a sample step by step, from noise to an image."""

from collections.abc import Callable

import numpy as np

from keras_mhdeblur.diffusion.schedule import NoiseSchedule


def sample(
    denoise: Callable[[np.ndarray, float], np.ndarray],
    schedule: NoiseSchedule,
    noise: Callable[[int], np.ndarray],
    center: np.ndarray | float = 0.0,
    eta: float = 1.0,
) -> np.ndarray:
    """Draws a sample: an image, or the residual to a predicted image.

    With `eta=1` it is ancestral sampling, Algorithm 1 of DvSR (arXiv 2112.02475): each
    step adds as much noise as the posterior of the steps has. With `eta=0` it is DDIM
    (arXiv 2010.02502, eq. 12): the noise at the start decides on everything. What lies
    between adds `eta` times that noise.

    Args:
        denoise: function of a noisy array z and its noise level, as in
            `NoiseSchedule`, to the noise in it.
        schedule: the steps, see `NoiseSchedule.for_sampling`.
        noise: function from T, the number of steps, to the normal noise at the start,
            and from t < T to that which the step down to t adds.
        center: image in [-1, 1] that the sample is the residual to; 0 for an image.
        eta: share of the steps' noise, from 0 to 1.

    Returns:
        The sample, of the shape of the noise; `center` and it are in [-1, 1] together.

    Raises:
        FloatingPointError: a step gave values that are no numbers.
    """
    z = noise(schedule.steps)
    for step in range(schedule.steps, 0, -1):
        now, then = map(float, schedule.alpha_bars[[step, step - 1]])
        root, rest = now**0.5, (1 - now) ** 0.5
        clean = (z - rest * denoise(z, root)) / root
        clean = np.clip(center + clean, -1, 1) - center
        if np.isnan(clean).any():
            raise FloatingPointError(
                "The denoiser gave values that are no numbers. "
                f"Received: step={step} of {schedule.steps}"
            )
        # The noise that fits the clipped image.
        remaining = (z - root * clean) / rest
        variance = eta**2 * (1 - then) / (1 - now) * (1 - now / then)
        z = then**0.5 * clean + (1 - then - variance) ** 0.5 * remaining
        if variance > 0:
            z = z + variance**0.5 * noise(step - 1)
    return z
