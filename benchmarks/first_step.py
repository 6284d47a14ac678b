"""Seconds from `fit` to the end of the first training step, in a fresh process.

python benchmarks/first_step.py [WIDTH] [PATCH] [BATCH]
"""

import sys
import time

begin = time.perf_counter()

import keras  # noqa: E402
import numpy as np  # noqa: E402

import keras_mhdeblur as mhd  # noqa: E402

print(f"import {time.perf_counter() - begin:.1f} s")


class Clock(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        self.times = [time.perf_counter()]

    def on_train_batch_end(self, batch, logs=None):
        self.times.append(time.perf_counter())


width, patch, batch = [*map(int, sys.argv[1:]), *(16, 128, 8)[len(sys.argv) - 1 :]]
model = mhd.Deblurrer(mhd.networks.NAFNet(width=width, num_heads=4))
model.compile(
    mhd.training.TorchAdamW(1e-3, 1e-3, 0.9, 0.9, global_clipnorm=0.01, use_ema=True),
    metrics=[mhd.metrics.PSNRMean(), mhd.metrics.HypothesisUsage()],
)
sharp = np.random.default_rng(0).random((8 * batch, patch, patch, 3), "float32")
clock = Clock()
begin = time.perf_counter()
model.fit(0.9 * sharp, sharp, batch_size=batch, verbose=0, callbacks=[clock])
step = np.median(np.diff(clock.times[1:]))
print(
    f"width {width}: first step after {clock.times[1] - begin:.1f} s, "
    f"then {step:.3f} s a step, {batch / step:.1f} patches of {patch}x{patch} a second"
)
