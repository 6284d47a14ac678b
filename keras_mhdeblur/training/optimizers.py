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
    # variables share, constants too, is made once and handed through in place of the
    # learning rate; decay and running average are part of the update; and no variable
    # is read twice.

    def _apply_weight_decay(self, variables):
        pass  # part of `update_step`

    def _update_model_variables_moving_average(self, variables):
        pass  # part of `update_step`

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        step = ops.cast(self.iterations + 1, "float32")
        rate = ops.cast(learning_rate, "float32")
        shared = {
            "rate": rate / (1 - ops.power(self.beta_1, step)),
            "decay": 1 - rate * (self.weight_decay or 0.0),
            "root_correction": ops.rsqrt(1 - ops.power(self.beta_2, step)),
            "epsilon": self.epsilon,
            "new_share_1": 1 - self.beta_1,
            "new_share_2": 1 - self.beta_2,
        }
        if self.use_ema:  # the first average is the first value
            shared["old_share"] = ops.where(step > 1, self.ema_momentum, 0.0)
        shared = {
            key: ops.convert_to_tensor(value, "float32")
            for key, value in shared.items()
        }
        super()._backend_update_step(grads, trainable_variables, shared)

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        dtype = variable.dtype
        shared = {key: ops.cast(value, dtype) for key, value in learning_rate.items()}
        gradient = ops.cast(gradient, dtype)
        momentum, velocity = self._momentums[index], self._velocities[index]
        m = ops.convert_to_tensor(momentum)
        m = m + (gradient - m) * shared["new_share_1"]
        v = ops.convert_to_tensor(velocity)
        v = v + (ops.square(gradient) - v) * shared["new_share_2"]
        self.assign(momentum, m)
        self.assign(velocity, v)
        value = ops.convert_to_tensor(variable)
        if self.weight_decay and self._use_weight_decay(variable):
            value = value * shared["decay"]
        root = ops.sqrt(v) * shared["root_correction"] + shared["epsilon"]
        value = value - shared["rate"] * m / root
        self.assign(variable, value)
        if self.use_ema:
            average = self._model_variables_moving_average[index]
            old = ops.convert_to_tensor(average)
            self.assign(average, value + (old - value) * shared["old_share"])
