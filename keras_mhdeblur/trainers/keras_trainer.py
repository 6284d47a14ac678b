"""Keras' own training, on JAX and torch, with the step in the loss' reach."""

import keras
from keras import ops

from keras_mhdeblur.trainers.base import Trainer


class KerasTrainer(Trainer):
    """A `keras.Model` whose `compute_loss` may ask for the current step.

    On JAX, Keras traces the loss without the optimizer's variables: what is read of
    them there is the same number in every step (Keras 3.15).
    """

    _traced_step = None

    def train_step(self, *arguments):
        *state, batch = arguments  # only JAX passes a state
        return super().train_step(*state, self.degraded(batch))

    def test_step(self, *arguments):
        *state, batch = arguments
        return super().test_step(*state, self.degraded(batch))

    def current_step(self):
        if self._traced_step is None:
            return super().current_step()
        return self._traced_step

    def _symbolic_build(self, iterator=None, data_batch=None):
        # Keras learns the shapes of the first batch; a degraded one has others.
        if data_batch is None:
            _, _, batches = next(iter(iterator))
            data_batch = batches[0] if isinstance(batches, list) else next(batches)
        super()._symbolic_build(data_batch=self.degraded(data_batch))

    def compute_loss_and_updates(self, *args, optimizer_variables=None, **kwargs):
        # Called on JAX alone, in training with the variables of the step.
        if optimizer_variables is not None:
            state = zip(self.optimizer.variables, optimizer_variables)
            with keras.StatelessScope(state_mapping=state):
                step = self.optimizer.iterations
                self._traced_step = ops.convert_to_tensor(step)
            kwargs["optimizer_variables"] = optimizer_variables
        try:
            return super().compute_loss_and_updates(*args, **kwargs)
        finally:
            self._traced_step = None
