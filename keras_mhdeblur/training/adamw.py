"""The update of AdamW with PyTorch's arithmetic, on every backend."""

import keras
from keras import ops


class BiasCorrectedAdamW(keras.optimizers.AdamW):
    """`keras.optimizers.AdamW` with epsilon added to the bias-corrected root.

    A subclass may move some variables by a rule of its own: for those of which
    `_has_own_step` is true, `_own_step` is called in place of Adam's step. Weight
    decay and running average are as for all others.
    """

    def _has_own_step(self, variable):
        """True for variables that `_own_step` moves; by default none."""
        return False

    def _own_step(self, gradient, variable, rate):
        """Moves a variable; gradient and learning rate have its dtype."""
        raise TypeError(f"{type(self).__name__} has to define `_own_step`.")

    def update_step(self, gradient, variable, learning_rate):
        dtype = variable.dtype
        gradient = ops.cast(gradient, dtype)
        rate = ops.cast(learning_rate, dtype)
        if self._has_own_step(variable):
            self._own_step(gradient, variable, rate)
            return
        index = self._get_variable_index(variable)
        step = ops.cast(self.iterations + 1, dtype)
        momentum, velocity = self._momentums[index], self._velocities[index]
        m = momentum + (gradient - momentum) * (1 - self.beta_1)
        v = velocity + (ops.square(gradient) - velocity) * (1 - self.beta_2)
        self.assign(momentum, m)
        self.assign(velocity, v)
        m_hat = m / (1 - ops.power(self.beta_1, step))
        root = ops.sqrt(v / (1 - ops.power(self.beta_2, step))) + self.epsilon
        self.assign_sub(variable, rate * m_hat / root)
