"""Optimizers whose arithmetic is that of the published recipes."""

import keras
from keras import ops


class _AdamW(keras.optimizers.AdamW):
    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        dtype = variable.dtype
        gradient = ops.cast(gradient, dtype)
        rate = ops.cast(learning_rate, dtype)
        step = ops.cast(self.iterations + 1, dtype)
        momentum, velocity = self._momentums[index], self._velocities[index]
        m = momentum + (gradient - momentum) * (1 - self.beta_1)
        v = velocity + (ops.square(gradient) - velocity) * (1 - self.beta_2)
        self.assign(momentum, m)
        self.assign(velocity, v)
        m_hat = m / (1 - ops.power(self.beta_1, step))
        root = ops.sqrt(v / (1 - ops.power(self.beta_2, step))) + self.epsilon
        self.assign_sub(variable, rate * m_hat / root)


if keras.backend.backend() == "tensorflow":
    from keras_mhdeblur.training.tensorflow_optimizer import FusedAdamW

    _bases = (FusedAdamW, _AdamW)
else:
    _bases = (_AdamW,)


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class TorchAdamW(*_bases):
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
