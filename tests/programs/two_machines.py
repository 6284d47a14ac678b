"""One of two workers on this machine, which then loses its disk: FOLDER."""

import json
import os
import sys

import keras
import numpy as np
import tensorflow as tf

import keras_mhdeblur as mhd
from keras_mhdeblur.training.distribution import is_chief, make_strategy, num_replicas

folder = sys.argv[1]
worker = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
strategy = make_strategy("multiworker")
assert num_replicas(strategy) == 2 and is_chief(strategy) == (worker == 0)
x, y = np.load(f"{folder}/data.npy")
with strategy.scope():
    network = mhd.networks.NAFNet(4, (), 1, (), num_heads=3)
    model = mhd.Deblurrer(network)
    optimizer = mhd.training.TorchAdamW(1e-3, use_ema=True, global_clipnorm=0.01)
    model.compile(optimizer, metrics=[mhd.metrics.HypothesisUsage()])
model.load_weights(f"{folder}/start.weights.h5")
data = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)


class SaveOnChief(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if self.model.distribute_strategy.extended.should_checkpoint:
            self.model.save_weights(f"{folder}/chief.weights.h5")


class FailOnWorker1(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if worker == 1:
            raise OSError("worker 1 lost its disk")


history = model.fit(
    data, epochs=2, callbacks=[SaveOnChief()], verbose=0, validation_data=data
).history
weights = [np.array(weight.numpy()) for weight in model.weights]
np.savez(f"{folder}/worker{worker}.npz", *weights)
with open(f"{folder}/history{worker}.json", "w") as file:
    json.dump(history, file)

if worker == 1:
    model.weights[0].assign_add(0.1 + 0 * model.weights[0])
try:
    model.fit(data, verbose=0)
except ValueError as error:
    assert "All workers must start with the same weights" in str(error), error
else:
    raise AssertionError("trained from different weights")
if worker == 1:
    model.weights[0].assign(weights[0])

print("going to fail", flush=True)
model.fit(data.repeat(), steps_per_epoch=10, callbacks=[FailOnWorker1()], verbose=0)
