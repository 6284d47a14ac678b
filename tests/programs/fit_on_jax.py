"""An annealed training on JAX ends with the loss of the best hypothesis."""

import keras
import numpy as np

import keras_mhdeblur as mhd
from keras_mhdeblur.experimental.annealing import AnnealedHypothesisLoss

assert keras.backend.backend() == "jax"
network = mhd.networks.NAFNet(4, (1, 1), 1, (1, 1), num_heads=3)
model = mhd.Deblurrer(network)
metrics = [mhd.metrics.PSNROverall(), mhd.metrics.HypothesisUsage()]
keras.utils.set_random_seed(1)
sharp = np.random.default_rng(0).random((8, 16, 16, 3), "float32")
blurry = 0.5 * (sharp + np.roll(sharp, 1, axis=2))
# Keras hides the optimizer's step from the loss on JAX: without our trainer annealing
# would not end, and the loss not be that of the best hypothesis.
loss = AnnealedHypothesisLoss(mhd.losses.PSNRLoss(), annealing_steps=10)
optimizer = mhd.training.TorchAdamW(1e-2, global_clipnorm=0.01, use_ema=True)
model.compile(optimizer, loss, metrics=metrics)
history = model.fit(blurry, sharp, batch_size=4, epochs=15, verbose=0).history
losses = history["loss"]
assert losses[-1] < losses[0] - 3, losses
usage = [history[f"usage_{k}"][-1] for k in range(6)]
assert abs(sum(usage) - 1) < 1e-5, usage
assert abs(history["psnr_overall"][-1] + losses[-1]) < 1, history
