"""The training step on TensorFlow, right under `tf.distribute`."""

import contextlib
import functools

import keras
import tensorflow as tf


class TensorFlowTrainer(keras.Model):
    """A `keras.Model` whose step clips synchronously and survives non-finite steps.

    Keras' own step clips the gradients of each replica before it sums them, so that
    under a strategy the result differs from that of one device. Here the gradients
    are summed over the replicas first, then clipped as one vector
    (`optimizer.global_clipnorm`, with PyTorch's arithmetic). A step with a gradient
    that is not finite takes all gradients as zero; under mixed_float16 the
    `LossScaleOptimizer` skips it and lowers its scale.
    """

    @functools.wraps(keras.Model.fit)
    def fit(self, *args, **kwargs):
        with _graph_optimizer_off_on_cpu():
            return super().fit(*args, **kwargs)

    def train_step(self, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = self.compute_loss(x, y, y_pred, sample_weight, training=True)
            scaled_loss = self.optimizer.scale_loss(loss)
        variables = self.trainable_weights
        gradients = tape.gradient(scaled_loss, variables)
        gradients = self._synchronize_and_clip(gradients)
        with _own_clipping_off(self.optimizer):
            self.optimizer.apply_gradients(zip(gradients, variables))
        self._track_loss(loss, x)
        return self.compute_metrics(x, y, y_pred, sample_weight)

    def test_step(self, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        y_pred = self(x, training=False)
        loss = self.compute_loss(x, y, y_pred, sample_weight, training=False)
        self._track_loss(loss, x)
        return self.compute_metrics(x, y, y_pred, sample_weight)

    def _track_loss(self, loss, x):
        # Keras' losses divide by the number of replicas; the log wants the mean.
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss * replicas, sample_weight=tf.shape(x)[0])

    def _synchronize_and_clip(self, gradients):
        optimizer = self.optimizer
        loss_scale = getattr(optimizer, "dynamic_scale", None)
        inner = getattr(optimizer, "inner_optimizer", optimizer)
        if inner.gradient_accumulation_steps:
            return gradients  # the optimizer clips what it has accumulated
        if loss_scale is not None and not inner.global_clipnorm:
            return gradients  # the optimizer skips a step that is not finite
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        if replicas > 1:
            context = tf.distribute.get_replica_context()
            gradients = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        norm = tf.linalg.global_norm(gradients)
        factor = tf.constant(1.0)
        if inner.global_clipnorm:
            unit = 1.0 if loss_scale is None else loss_scale
            factor = inner.global_clipnorm * unit / (norm + 1e-6 * unit)
            factor = tf.minimum(1.0, factor)
        # The optimizer sums over the replicas again.
        factor = factor / replicas
        if loss_scale is not None:
            return [gradient * factor for gradient in gradients]
        factor = tf.where(tf.math.is_finite(norm), factor, 0.0)
        return [tf.math.multiply_no_nan(gradient, factor) for gradient in gradients]


@contextlib.contextmanager
def _graph_optimizer_off_on_cpu():
    """TensorFlow without its graph optimizer, unless there is a GPU.

    It takes a third of the time before the first step, and on a CPU no step is faster
    for it; a GPU needs its choice of memory layouts. The setting is the process', and
    a graph that runs under another one is prepared anew: so it holds for all of `fit`.
    """
    options = tf.config.optimizer
    off = options.get_experimental_options().get("disable_meta_optimizer", False)
    if off or tf.config.list_logical_devices("GPU"):
        yield
        return
    options.set_experimental_options({"disable_meta_optimizer": True})
    try:
        yield
    finally:
        options.set_experimental_options({"disable_meta_optimizer": False})


@contextlib.contextmanager
def _own_clipping_off(optimizer):
    """The optimizer without its own global clipping, while a step is traced.

    With several replicas it stays: their threads share the optimizer, and it does
    nothing to gradients that are clipped and divided by the number of replicas.
    """
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    clip = optimizer.global_clipnorm
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    if replicas == 1 and not optimizer.gradient_accumulation_steps:
        optimizer.global_clipnorm = None
    try:
        yield
    finally:
        optimizer.global_clipnorm = clip
