"""Training on several devices or machines at once."""

import functools
import os

import keras

STRATEGIES = ("none", "mirrored", "multiworker")


def make_strategy(name):
    """The strategy that splits every global batch over replicas of the model.

    Call it first in a program, before TensorFlow or JAX has made a tensor. Make and
    compile the model inside `strategy.scope()`; `fit` and `evaluate` may be outside.
    Datasets yield *global batches*; each replica gets a *per-replica batch*.

    On TensorFlow the result of a step is that of one device with the same global
    batch, also where the replicas' shares are unequal. On JAX the global batch size
    must be a multiple of the number of replicas (`per_replica_batch_size`), so the
    dataset must drop an incomplete last batch.

    Args:
        name: how to distribute.
            "none": not at all.
            "mirrored": over all GPUs of this machine, or its (virtual) CPU devices if
            it has none; on JAX over all its devices, for the whole process
            (`keras.distribution.set_distribution`).
            "multiworker": over all GPUs of several machines, TensorFlow only. Start
            the same program on each; the environment variable TF_CONFIG lists them,
            `{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker",
            "index": 0}}`. Worker 0 is the chief (`is_chief`). When one worker fails,
            the others stop with an error.

    Returns:
        None, a `tf.distribute.Strategy` (the same at every call in a process) or, on
        JAX, a `keras.distribution.DataParallel`.

    Raises:
        ValueError: the name is unknown, the backend cannot do it, or TF_CONFIG names
            no workers.
    """
    if name not in STRATEGIES:
        raise ValueError(
            f"`strategy` must be one of {', '.join(STRATEGIES)}. "
            f"Received: strategy={name!r}"
        )
    if name == "none":
        return None
    backend = keras.backend.backend()
    if backend == "jax" and name == "mirrored":
        distribution = keras.distribution.DataParallel()
        keras.distribution.set_distribution(distribution)
        return distribution
    if backend != "tensorflow":
        raise ValueError(
            f"This strategy needs the TensorFlow backend. Received: strategy={name!r}"
        )
    if name == "mirrored":
        return _mirrored_strategy()
    return _multi_worker_strategy(os.environ.get("TF_CONFIG"))


# One strategy a process: the collectives of two over the same devices have the same
# keys, and TensorFlow then takes the tensors of one for those of the other.
@functools.cache
def _mirrored_strategy():
    import tensorflow as tf

    devices = tf.config.list_logical_devices("GPU")
    devices = devices or tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy([device.name for device in devices])


@functools.cache
def _multi_worker_strategy(tf_config):
    import tensorflow as tf

    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    workers = resolver.cluster_spec().as_dict().get("worker")
    if not workers:
        raise ValueError(
            "The environment variable TF_CONFIG must list the workers. "
            f"Received: TF_CONFIG={tf_config!r}"
        )
    return tf.distribute.MultiWorkerMirroredStrategy(resolver)


def num_replicas(strategy):
    """Number of devices that train together, on all machines; 1 for None."""
    if strategy is None:
        return 1
    if isinstance(strategy, keras.distribution.DataParallel):
        return strategy.num_model_replicas
    return strategy.num_replicas_in_sync


def per_replica_batch_size(strategy, global_batch_size):
    """Samples of each replica in every global batch.

    Args:
        strategy: of `make_strategy`.
        global_batch_size: number of samples of one training step.

    Returns:
        Number of samples.

    Raises:
        ValueError: the replicas would get unequal numbers.
    """
    replicas = num_replicas(strategy)
    if global_batch_size % replicas:
        raise ValueError(
            f"The global batch size must be a multiple of the {replicas} replicas. "
            f"Received: global_batch_size={global_batch_size}"
        )
    return global_batch_size // replicas


def is_chief(strategy):
    """True in the process that writes files: worker 0, or the only one.

    Give callbacks that write files, like `keras.callbacks.ModelCheckpoint`, to `fit`
    on the chief alone, and those that change the training, like
    `keras.callbacks.EarlyStopping`, on every worker. Within a callback,
    `self.model.distribute_strategy.extended.should_checkpoint` is the same.
    """
    extended = getattr(strategy, "extended", None)
    return extended is None or extended.should_checkpoint
