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

    # The graph of a step holds this arithmetic once per variable, several hundred
    # times, and most of the time before the first step is spent on it. So what all
    # variables share is computed once and handed through as the "learning rate", the
    # decay is part of the update, and no variable is read twice.

    def _apply_weight_decay(self, variables):
        pass  # part of `update_step`

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        step = ops.cast(self.iterations + 1, "float32")
        rate = ops.cast(learning_rate, "float32")
        shared = (
            rate / (1 - ops.power(self.beta_1, step)),
            ops.rsqrt(1 - ops.power(self.beta_2, step)),
            1 - rate * (self.weight_decay or 0.0),
        )
        super()._backend_update_step(grads, trainable_variables, shared)

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        momentum, velocity = self._momentums[index], self._velocities[index]
        dtype = variable.dtype
        rate, root_correction, decay = (ops.cast(x, dtype) for x in learning_rate)
        gradient = ops.cast(gradient, dtype)
        m = ops.convert_to_tensor(momentum)
        m = m + (gradient - m) * (1 - self.beta_1)
        v = ops.convert_to_tensor(velocity)
        v = v + (ops.square(gradient) - v) * (1 - self.beta_2)
        self.assign(momentum, m)
        self.assign(velocity, v)
        value = ops.convert_to_tensor(variable)
        if self.weight_decay and self._use_weight_decay(variable):
            value = value * decay
        step = rate * m / (ops.sqrt(v) * root_correction + self.epsilon)
        self.assign(variable, value - step)
