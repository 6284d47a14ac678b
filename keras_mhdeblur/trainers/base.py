"""The hooks of the training step, which are the same on every backend."""

import keras


class Trainer(keras.Model):
    """Base of the trainers: what a model may change of its training step.

    A model overrides `degraded`; the trainer calls it. `compute_loss` may ask for
    `current_step`.
    """

    def degraded(self, batch):
        """The batch that a training or test step takes: by default as it is.

        A model overrides this method to make blurry images of sharp ones in the step,
        on the device that trains.

        Args:
            batch: what the dataset yields.

        Returns:
            (x, y) or (x, y, sample_weight), or x alone.
        """
        return batch

    def current_step(self):
        """The optimizer's iterations, for losses that change while training."""
        return self.optimizer.iterations
