"""Training on TensorFlow, right under `tf.distribute`."""

import contextlib
import functools
import zlib
from typing import Any

import keras
import tensorflow as tf

from keras_mhdeblur.trainers.base import Trainer

# Keras' methods have no types: mypy would ask those who call `fit` for `self`.
_wraps: Any = functools.wraps


class TensorFlowTrainer(Trainer):
    """A `keras.Model` whose training is that of one device under any strategy.

    The names of the batch sizes: the *global batch size* is what a dataset yields, or
    what `fit` is told; a strategy splits it into *per-replica batches*.

    Keras' own step differs from that of one device in two ways. It averages the means
    of the replicas, though the last batch of an epoch may leave them unequal numbers
    of samples; here every sample of the global batch has the same weight, and a
    replica that gets none adds nothing. And it clips the gradients of each replica
    before it sums them; here they are summed first, then clipped as one vector
    (`optimizer.global_clipnorm`, with PyTorch's arithmetic).

    A step with a gradient that is not finite takes all gradients as zero; under
    mixed_float16 the `LossScaleOptimizer` skips it and lowers its scale.

    `fit` and `evaluate` work on many machines, too (`MultiWorkerMirroredStrategy`):
    each worker calls them with the same arguments. The logs of a batch are those of
    one replica; the logs of an epoch count every sample.

    What several replicas cannot do is refused by `compile`, `fit` and `evaluate` with a
    `ValueError`: `jit_compile=True`, `steps_per_execution` above 1, gradient
    accumulation, `clipnorm` and `clipvalue`, a loss with another reduction than the
    mean over the batch, a model, optimizer or metric made outside `strategy.scope()`,
    and workers that start from different weights.
    """

    @_wraps(keras.Model.compile)
    def compile(self, *args, metrics=None, **kwargs):
        super().compile(*args, metrics=metrics, **kwargs)
        # Keras shows the variables of metrics after the first step only.
        metrics = [m for m in keras.tree.flatten(metrics) if hasattr(m, "variables")]
        self._check_strategy([v for metric in metrics for v in metric.variables])

    @_wraps(keras.Model.fit)
    def fit(self, *args, **kwargs):
        self._check_strategy()
        if self.compiled and self._on_many_machines():
            self._check_same_start()
        with _graph_optimizer_off_on_cpu():
            return super().fit(*args, **kwargs)

    @_wraps(keras.Model.evaluate)
    def evaluate(self, *args, **kwargs):
        self._check_strategy()
        return super().evaluate(*args, **kwargs)

    def train_step(self, data):
        batch = _ReplicaBatch(self.degraded(data))
        share = batch.share_of_global_batch()
        with tf.GradientTape() as tape:
            y_pred = self(batch.x, training=True)
            loss = self.compute_loss(
                batch.x, batch.y, y_pred, batch.sample_weight, training=True
            )
            scaled_loss = self.optimizer.scale_loss(loss * share)
        variables = self.trainable_weights
        # Of a variable that the loss does not depend on it is None.
        gradients = [
            tf.zeros_like(variable.value) if gradient is None else gradient
            for gradient, variable in zip(
                tape.gradient(scaled_loss, variables), variables
            )
        ]
        gradients = self._synchronize_and_clip(gradients)
        with _own_clipping_off(self.optimizer):
            self.optimizer.apply_gradients(zip(gradients, variables))
        return self._update_metrics(batch, y_pred, loss)

    def test_step(self, data):
        batch = _ReplicaBatch(self.degraded(data))
        y_pred = self(batch.x, training=False)
        loss = self.compute_loss(
            batch.x, batch.y, y_pred, batch.sample_weight, training=False
        )
        return self._update_metrics(batch, y_pred, loss)

    def predict_step(self, data):
        batch = _ReplicaBatch(data)
        return batch.without_filling(self(batch.x, training=False))

    def _update_metrics(self, batch, y_pred, loss):
        # Keras' losses divide by the number of replicas; the log wants the mean.
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss * replicas, sample_weight=batch.size)
        x, y, y_pred = batch.without_filling((batch.x, batch.y, y_pred))
        return self.compute_metrics(x, y, y_pred, batch.given_weight)

    def make_train_function(self, force=False):
        if not self._on_many_machines():
            super().make_train_function(force)
        elif self.train_function is None or force:
            self.train_function = self._function_on_many_machines(self.train_step)

    def make_test_function(self, force=False):
        if not self._on_many_machines():
            super().make_test_function(force)
        elif self.test_function is None or force:
            self.test_function = self._function_on_many_machines(self.test_step)

    def _on_many_machines(self):
        return isinstance(
            self.distribute_strategy, tf.distribute.MultiWorkerMirroredStrategy
        )

    def _function_on_many_machines(self, step):
        """Keras' own averages the logs over the workers, and fails (Keras 3.15)."""
        strategy = self.distribute_strategy

        # All workers trace equally often, or their collectives miss each other: so the
        # batch, of a size that may differ among them, is no argument.
        def one_step(iterator):
            logs = strategy.run(step, args=(iterator.get_next(),))
            return tf.nest.map_structure(
                lambda value: strategy.experimental_local_results(value)[0], logs
            )

        if self.run_eagerly:
            return one_step
        return tf.function(one_step, reduce_retracing=True)

    def _maybe_symbolic_build(self, *args, **kwargs):
        """Nothing: model, optimizer and metrics are built when `compile` is done.

        Keras' own averages the first batch over the replicas to learn its shape, which
        fails for unequal batches and on many machines (Keras 3.15).
        """

    def _check_strategy(self, variables=()):
        """Raises ValueError for what goes wrong with several replicas."""
        strategy = self.distribute_strategy
        several = strategy.num_replicas_in_sync > 1 or self._on_many_machines()
        if not (several and self.compiled):
            return
        optimizer = self.optimizer
        variables = [*variables, *self.variables, *self.metrics_variables]
        if optimizer is not None:
            variables += optimizer.variables
        for variable in variables:
            if not strategy.extended.variable_created_in_scope(variable.value):
                raise ValueError(
                    "Under a strategy, make and compile the model, its optimizer and "
                    "its metrics inside `strategy.scope()`. "
                    f"Received: variable={variable.path!r}"
                )
        reduction = getattr(self.loss, "reduction", "sum_over_batch_size")
        if reduction not in ("sum_over_batch_size", "mean"):
            raise ValueError(
                "With several replicas `loss` must be averaged over the batch. "
                f"Received: loss.reduction={reduction!r}"
            )
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)
        accumulation = getattr(optimizer, "gradient_accumulation_steps", None)
        for name, value, possible in (
            ("jit_compile", self.jit_compile, False),
            ("steps_per_execution", self.steps_per_execution, 1),
            ("gradient_accumulation_steps", accumulation, None),
            # They would clip the replicas' gradients one by one.
            ("clipnorm", getattr(optimizer, "clipnorm", None), None),
            ("clipvalue", getattr(optimizer, "clipvalue", None), None),
        ):
            if value != possible:
                raise ValueError(
                    f"With several replicas `{name}` must be {possible}; Keras cannot "
                    f"run them otherwise. Received: {name}={value!r}"
                )

    def _check_same_start(self):
        """Raises ValueError where the workers would not train the same weights."""
        checksum = 0
        for variable in [*self.variables, *self.optimizer.variables]:
            checksum = zlib.crc32(variable.numpy().tobytes(), checksum)
        strategy = self.distribute_strategy
        value = strategy.run(lambda: tf.constant([checksum], tf.int64))
        checksums = strategy.gather(value, axis=0).numpy().tolist()
        if len(set(checksums)) > 1:
            raise ValueError(
                "All workers must start with the same weights and optimizer state: "
                "load them from a folder that every machine can read. "
                f"Received: checksums={checksums}"
            )

    def _synchronize_and_clip(self, gradients):
        optimizer = self.optimizer
        loss_scale = getattr(optimizer, "dynamic_scale", None)
        inner = getattr(optimizer, "inner_optimizer", optimizer)
        if inner.gradient_accumulation_steps:
            return gradients  # the optimizer clips what it has accumulated
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        if loss_scale is not None and not inner.global_clipnorm and replicas == 1:
            return gradients  # the optimizer skips a step that is not finite
        if replicas > 1:
            context = tf.distribute.get_replica_context()
            gradients = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        norm = tf.linalg.global_norm(gradients)
        factor = tf.constant(1.0)
        if inner.global_clipnorm:
            unit = loss_scale
            if unit is None:
                unit = optimizer.loss_scale_factor or 1.0
            factor = inner.global_clipnorm * unit / (norm + 1e-6 * unit)
            factor = tf.minimum(1.0, factor)
        # The optimizer sums over the replicas again.
        factor = factor / replicas
        if loss_scale is not None:
            return [gradient * factor for gradient in gradients]
        factor = tf.where(tf.math.is_finite(norm), factor, 0.0)
        return [tf.math.multiply_no_nan(gradient, factor) for gradient in gradients]


class _ReplicaBatch:
    """One replica's part of a global batch, which may be empty.

    Networks must not see an empty batch: TensorFlow's gradient of a depthwise
    convolution is then uninitialised memory, and the weights are lost. So an empty
    batch is filled with one black image of weight zero.
    """

    def __init__(self, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        self.given_weight = sample_weight
        self.size = tf.shape(x)[0]
        self.replicas = tf.distribute.get_strategy().num_replicas_in_sync
        self.may_be_empty = self.replicas > 1 and not x.shape[0]  # None or 0
        if self.may_be_empty:
            if sample_weight is None:
                sample_weight = tf.ones([self.size])
            x, y, sample_weight = map(_fill_empty, (x, y, sample_weight))
        self.x, self.y, self.sample_weight = x, y, sample_weight

    def share_of_global_batch(self):
        """The loss' factor that gives all samples of the global batch one weight."""
        if self.replicas == 1:
            return 1.0
        context = tf.distribute.get_replica_context()
        size = tf.cast(self.size, tf.float32)
        global_size = context.all_reduce(tf.distribute.ReduceOp.SUM, size)
        return tf.maximum(size, 1.0) * self.replicas / global_size

    def without_filling(self, values):
        if not self.may_be_empty:
            return values
        return tf.nest.map_structure(lambda value: value[: self.size], values)


def _fill_empty(tensor):
    """One sample of zeros in place of none."""
    if tensor is None:
        return None
    shape = tf.shape(tensor)
    # Where it is unknown, the size of an empty batch's images is zero, too.
    known = [size or None for size in tensor.shape[1:]]
    one = [1] + [size or 16 for size in known]
    missing = tf.where(shape[0] == 0, one - shape, 0)
    filled = tf.pad(tensor, tf.stack([tf.zeros_like(missing), missing], axis=1))
    return tf.ensure_shape(filled, [None, *known])


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
