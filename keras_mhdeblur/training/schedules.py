"""Learning rate schedules of the recipes."""

import math

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class WarmupHoldCosine(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up, a constant rate, then a half cosine down to the final rate.

    Args:
        peak: the constant rate.
        total_steps: steps after which `final` is reached.
        warmup_steps: steps of the linear rise from 0.
        decay_steps: steps of the cosine at the end; by default all after the warm-up,
            the schedule of NAFNet.
        final: the last rate.
    """

    def __init__(
        self,
        peak: float,
        total_steps: int,
        warmup_steps: int = 0,
        decay_steps: int | None = None,
        final: float = 1e-7,
    ) -> None:
        super().__init__()
        if decay_steps is None:
            decay_steps = total_steps - warmup_steps
        if warmup_steps + decay_steps > total_steps:
            raise ValueError(
                "`warmup_steps` and `decay_steps` exceed `total_steps`. Received: "
                f"total_steps={total_steps}, warmup_steps={warmup_steps}, "
                f"decay_steps={decay_steps}"
            )
        self.peak = peak
        self.total_steps = total_steps
        self.warmup_steps = warmup_steps
        self.decay_steps = decay_steps
        self.final = final

    def __call__(self, step):
        step = ops.cast(step, "float32")
        rising = self.peak * (step + 1) / max(self.warmup_steps, 1)
        hold = self.total_steps - self.decay_steps
        progress = ops.clip((step - hold) / max(self.decay_steps, 1), 0, 1)
        cosine = 0.5 * (1 + ops.cos(math.pi * progress))
        falling = self.final + (self.peak - self.final) * cosine
        return ops.where(step < self.warmup_steps, rising, falling)

    def get_config(self):
        return {
            "peak": self.peak,
            "total_steps": self.total_steps,
            "warmup_steps": self.warmup_steps,
            "decay_steps": self.decay_steps,
            "final": self.final,
        }
