"""Blur in the training step is that of the dataset: RECIPE FOLDER."""

import pathlib
import sys

import keras
import numpy as np
from PIL import Image

from keras_mhdeblur.training import recipes, runs

folder = pathlib.Path(sys.argv[2])
photos = folder / "photos"
photos.mkdir()
for k in range(2):
    coarse = np.random.default_rng(k).integers(0, 256, (8, 8, 3)).astype("uint8")
    Image.fromarray(coarse).resize((48, 48)).save(photos / f"{k}.png")
recipe = recipes.load_recipe(sys.argv[1])
weights = []
for on_device in (False, True):
    recipe["data"]["on_device"] = on_device
    output = folder / str(on_device)
    model = runs.train(recipe, output, {"photo_dir": photos}, verbose=0, panel_every=1)
    weights.append(map(keras.ops.convert_to_numpy, model.weights))
    assert (output / "panels" / "epoch_0001.png").exists()
for one, two in zip(*weights, strict=True):
    np.testing.assert_allclose(one, two, atol=1e-5)
