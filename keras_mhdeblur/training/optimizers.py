"""Optimizers whose arithmetic is that of the published recipes."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class TorchAdamW(keras.optimizers.AdamW):
    """AdamW with PyTorch's arithmetic, for recipes that were tuned there.

    Each step multiplies every variable by `1 - learning_rate * weight_decay` and
    subtracts `learning_rate * m_hat / (sqrt(v_hat) + epsilon)`: epsilon is added to the
    bias-corrected root, where `keras.optimizers.AdamW` adds it to the uncorrected one.
    Source: arXiv 1711.05101, algorithm 2.

    Args:
        learning_rate: number or schedule.
        weight_decay: decay per step, times the learning rate; it applies to every
            variable, biases and norms too.
        beta_1, beta_2: decay of the running means; NAFNet uses 0.9 and 0.9.
        epsilon: added to the bias-corrected root.
        kwargs: of `keras.optimizers.Optimizer`, for example `global_clipnorm=0.01`
            and `use_ema=True`.
    """

    def __init__(
        self,
        learning_rate=1e-3,
        weight_decay=0.0,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
        name="torch_adamw",
        **kwargs,
    ):
        super().__init__(
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            name=name,
            **kwargs,
        )

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        m, v = self._momentums[index], self._velocities[index]
        dtype = variable.dtype
        gradient = ops.cast(gradient, dtype)
        rate, root_correction = self._step_scalars(learning_rate, dtype)
        self.assign_add(m, (gradient - m) * (1 - self.beta_1))
        self.assign_add(v, (ops.square(gradient) - v) * (1 - self.beta_2))
        root = ops.sqrt(v) * root_correction + self.epsilon
        self.assign_sub(variable, rate * m / root)

    def _step_scalars(self, learning_rate, dtype):
        """Learning rate over 1 - beta_1^t, and 1 / sqrt(1 - beta_2^t)."""
        step = ops.cast(self.iterations + 1, dtype)
        rate = ops.cast(learning_rate, dtype) / (1 - ops.power(self.beta_1, step))
        return rate, ops.rsqrt(1 - ops.power(self.beta_2, step))
