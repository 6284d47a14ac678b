"""Heads learn several targets per sample, made in the step or before it: FOLDER."""

import pathlib
import sys

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

import keras_mhdeblur as mhd

# Two heads without kernels, two answers: each head finds one.
image = keras.Input((1, 1, 1))
heads = mhd.layers.MultiHeadOutput(2, 1, 1, name="heads")
network = keras.Model(image, heads(image, image))
network.num_heads = 2
heads.conv.bias.assign([0.4, 0.6])
model = mhd.Deblurrer(network, combine_heads=False)
metrics = [mhd.metrics.PSNROverall(), mhd.metrics.HypothesisUsage()]
model.compile(keras.optimizers.SGD(0.5), mhd.losses.MSELoss(), weighted_metrics=metrics)
targets = np.tile(np.array([0.75, 0.25, 9], "float32"), (8, 1))[..., None, None, None]
weights = keras.ops.convert_to_numpy(mhd.losses.target_weights([2] * 8, 3))
history = model.fit(
    0 * targets[:, 0],
    targets,
    sample_weight=weights,
    batch_size=4,
    epochs=20,
    verbose=0,
).history
biases = keras.ops.convert_to_numpy(heads.conv.bias)
np.testing.assert_allclose(biases, [0.25, 0.75], atol=1e-3)
assert history["loss"][-1] < 1e-5 and history["psnr_overall"][-1] > 55, history
np.testing.assert_allclose([history[f"usage_{k}"][-1] for k in (0, 1)], 0.5, atol=1e-6)

# Targets that the step makes are those of the dataset.
photos = pathlib.Path(sys.argv[1])
for k in range(2):
    coarse = np.random.default_rng(k).integers(0, 256, (8, 8, 3)).astype("uint8")
    Image.fromarray(coarse).resize((48, 48)).save(photos / f"{k}.png")
blur = mhd.data.MotionBlur(6, num_frames=4, num_targets=3, max_noise=0)
patches = mhd.data.Patches(16, 2, crops_per_image=2, seed=1)
made = mhd.data.synthesized_folder(photos, patches, blur)
assert made.element_spec[1] == tf.TensorSpec((2, 3, 16, 16, 3), tf.float32)
sharp = mhd.data.sharp_folder(photos, patches, margin=blur.margin)
weights = []
for data, synthesis in (made, None), (sharp, blur):
    keras.utils.set_random_seed(1)
    model = mhd.Deblurrer(mhd.networks.NAFNet(4, (), 1, (), num_heads=3))
    model.compile(keras.optimizers.SGD(0.01), synthesis=synthesis)
    model.fit(data, verbose=0)
    weights.append([keras.ops.convert_to_numpy(weight) for weight in model.weights])
for one, two in zip(*weights, strict=True):
    np.testing.assert_allclose(one, two, atol=1e-4)
