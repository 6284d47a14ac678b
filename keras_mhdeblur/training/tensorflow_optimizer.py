"""The update of AdamW with PyTorch's arithmetic on TensorFlow, in few graph nodes."""

import tensorflow as tf

from keras_mhdeblur.training.adamw import BiasCorrectedAdamW


class FusedAdamW(BiasCorrectedAdamW):
    """`BiasCorrectedAdamW` with TensorFlow's fused kernel.

    The graph of a training step holds the update once per variable, several hundred
    times, and building it is most of the time before the first step. So what all
    variables share is made once and handed through in place of the learning rate, and
    decay and running average are part of the update.
    """

    def _apply_weight_decay(self, variables):
        pass  # part of `update_step`

    def _update_model_variables_moving_average(self, variables):
        pass  # part of `update_step`

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        step = tf.cast(self.iterations + 1, tf.float32)
        rate = tf.cast(learning_rate, tf.float32)
        beta_2_power = tf.pow(self.beta_2, step)
        shared = {
            "decay": 1 - rate * (self.weight_decay or 0.0),
            # The first average is the first value.
            "new_share": tf.where(step > 1, 1 - (self.ema_momentum or 0.0), 1.0),
            "adam": {
                "beta1_power": tf.pow(self.beta_1, step),
                "beta2_power": beta_2_power,
                "lr": rate,
                "beta1": tf.constant(self.beta_1),
                "beta2": tf.constant(self.beta_2),
                # The kernel adds it to the uncorrected root.
                "epsilon": self.epsilon * tf.sqrt(1 - beta_2_power),
            },
        }
        super()._backend_update_step(grads, trainable_variables, shared)

    def update_step(self, gradient, variable, shared):
        index = self._get_variable_index(variable)
        dtype = variable.dtype
        if dtype != tf.float32:
            shared = tf.nest.map_structure(lambda x: tf.cast(x, dtype), shared)
        if self.weight_decay and self._use_weight_decay(variable):
            variable.assign(variable * shared["decay"])
        gradient = tf.cast(gradient, dtype)
        if self._has_own_step(variable):
            self._own_step(gradient, variable, shared["adam"]["lr"])
        else:
            tf.raw_ops.ResourceApplyAdam(
                var=variable.handle,
                m=self._momentums[index].value.handle,
                v=self._velocities[index].value.handle,
                grad=gradient,
                **shared["adam"],
            )
        if self.use_ema:
            average = self._model_variables_moving_average[index].value
            average.assign_add((variable - average) * shared["new_share"])
