"""Two virtual devices on JAX give the weights that one gives."""

import os

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
import keras
import numpy as np

import keras_mhdeblur as mhd
from keras_mhdeblur.training.distribution import (
    is_chief,
    make_strategy,
    num_replicas,
    per_replica_batch_size,
)

sharp = np.random.default_rng(0).random((8, 8, 8, 3), "float32")
blurry = 0.5 * (sharp + np.roll(sharp, 1, axis=2))
weights, counts = [], []
for replicas, name in enumerate(["none", "mirrored"], 1):
    strategy = make_strategy(name)
    assert num_replicas(strategy) == replicas and is_chief(strategy)
    assert per_replica_batch_size(strategy, 4) == 4 // replicas
    keras.utils.set_random_seed(1)
    network = mhd.networks.NAFNet(4, (), 1, (), num_heads=3)
    model = mhd.Deblurrer(network)
    optimizer = mhd.training.TorchAdamW(1e-3, use_ema=True, global_clipnorm=0.01)
    model.compile(optimizer, metrics=[mhd.metrics.HypothesisUsage()])
    model.fit(blurry, sharp, batch_size=4, epochs=2, shuffle=False, verbose=0)
    devices = model.weights[0].value.sharding.device_set
    assert len(devices) == replicas, devices
    weights.append([np.array(weight) for weight in model.weights])
    counts.append([np.array(value) for value in model.metrics_variables[-2:]])
for one, two in zip(*weights):
    np.testing.assert_allclose(one, two, atol=1e-5)
for one, two in zip(*counts):
    np.testing.assert_array_equal(one, two)
print(max(np.abs(a - b).max() for a, b in zip(*weights)), *counts)
try:
    make_strategy("multiworker")
except ValueError as error:
    assert "strategy='multiworker'" in str(error), error
else:
    raise AssertionError("not refused")
