"""A callback that gives dead heads a new start.

No published recipe uses it: they keep heads alive with `relaxation`. A recipe whose
heads die in spite of that brings it back.
"""

import keras
import numpy as np
from keras import ops

from keras_mhdeblur.hypotheses.pairs import pair_indices


class DeadHeadReset(keras.callbacks.Callback):
    """After each epoch, makes dead heads copies of the most used one, with noise.

    A head is dead if its share of the epoch's samples, of which a pair's two heads get
    half each, is below `threshold` / K. Its part of the final stage's last convolution
    and of the optimizer's variables for it (moments, running average) becomes that of
    the most used head; without the moments its first steps would be far too large.
    Then noise is added to the convolution. This is how vector quantizers revive
    codewords (Linde, Buzo and Gray 1980).

    The metrics of the model must include `metrics.HypothesisUsage`. While an
    `AnnealedHypothesisLoss` is annealed, nothing is reset. The epoch's logs get
    `reset_heads`, their number: put this callback before those that write logs or
    weights, as `runs.train(callbacks=[...])` does. On several machines every one needs
    it, and all do the same.

    Args:
        threshold: share below which a head is dead, relative to the share 1 / K that
            heads have on average; in (0, 1).
        noise: standard deviation of the noise, relative to the root mean square of the
            copied weights.

    Raises:
        ValueError: `threshold` is out of range; from `fit`, `HypothesisUsage` is not
            among the metrics.
    """

    def __init__(self, threshold: float = 0.1, noise: float = 0.1) -> None:
        super().__init__()
        if not 0 < threshold < 1:
            raise ValueError(
                f"`threshold` must be in (0, 1). Received: threshold={threshold}"
            )
        self.threshold = threshold
        self.noise = noise

    def on_epoch_end(self, epoch, logs=None):
        if "usage_0" not in logs:
            raise ValueError(
                "`DeadHeadReset` needs `HypothesisUsage` among the model's metrics. "
                f"Received: logs={sorted(logs)}"
            )
        model = self.model
        step = int(ops.convert_to_numpy(model.optimizer.iterations))
        usage = self._usage_of_heads(logs)
        # The sum is one, or zero where the last loss was not finite.
        dead = np.flatnonzero(usage < self.threshold / len(usage) * usage.sum())
        if step < getattr(model.loss, "annealing_steps", 0):
            dead = dead[:0]
        logs["reset_heads"] = len(dead)
        # The same on every machine, and in a training that was stopped and goes on.
        random = np.random.default_rng(step)
        for head in dead:
            self._reset(head, usage.argmax(), len(usage), random)

    def _usage_of_heads(self, logs):
        """Usage (K,) of the last convolution's heads, from that of the hypotheses."""
        model = self.model
        usage = np.zeros(model.num_heads)
        pairs = pair_indices(model.num_heads, model.combine_heads)
        for index, pair in enumerate(pairs):
            for head in pair:
                usage[head] += logs[f"usage_{index}"] / 2
        # Two decoders, one after the other in the stack, may share the convolution.
        return usage.reshape(-1, model.network.num_heads).sum(axis=0)

    def _reset(self, head, source, num_heads, random):
        optimizer = self.model.optimizer
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)
        network = self.model.network
        # A network of the user's own has a layer of that name.
        layer = getattr(network, "head_layer", None) or network.get_layer("heads")
        for weight in layer.conv.weights:
            for variable in [weight, *_slots(optimizer, weight)]:
                values = np.array(ops.convert_to_numpy(variable))
                heads = values.reshape(*values.shape[:-1], num_heads, -1)
                heads[..., head, :] = heads[..., source, :]
                if variable is weight:
                    scale = self.noise * np.sqrt(np.mean(heads[..., source, :] ** 2))
                    size = heads[..., head, :].shape
                    heads[..., head, :] += scale * random.standard_normal(size)
                variable.assign(values)


def _slots(optimizer, weight):
    """The variables, of the same shape, that an optimizer has for a weight."""
    weights = optimizer._trainable_variables
    index = next(i for i, variable in enumerate(weights) if variable is weight)
    lists = [
        value
        for value in vars(optimizer).values()
        if isinstance(value, list) and len(value) == len(weights)
    ]
    return [
        slots[index]
        for slots in lists
        if slots[index] is not weight
        and getattr(slots[index], "shape", None) == weight.shape
    ]
