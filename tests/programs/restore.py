"""Restores an image on the present backend: with its own images, and by itself."""

import keras
import numpy as np

import keras_mhdeblur as mhd

network = mhd.networks.NAFNet(4, (1, 1), 1, (1, 1), num_heads=3)
model = mhd.Deblurrer(network)
image = np.random.default_rng(0).random((20, 30, 3), "float32")
expected = np.asarray(keras.ops.convert_to_numpy(model(image[None]))).mean(axis=1)[0]
found = model.restore(image, guard=False).image
np.testing.assert_allclose(found, expected.clip(0, 1), atol=1e-5)
