"""The same model on Keras' other backends, where they are installed.

A backend is chosen when Keras is imported, so each has its own process.
"""

import importlib.util
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_mhdeblur as mhd
from keras_mhdeblur.data.jpeg import jpeg_compress

MODEL = """
import keras, numpy as np
import keras_mhdeblur as mhd
network = mhd.networks.NAFNet(4, (1, 1), 1, (1, 1), num_heads=3)
model = mhd.Deblurrer(network)
metrics = [mhd.metrics.PSNROverall(), mhd.metrics.HeadUsage()]
"""
FIT_ON_JAX = (
    MODEL
    + """
from keras_mhdeblur.experimental.annealing import AnnealedHypothesisLoss
assert keras.backend.backend() == "jax"
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
"""
)
TWO_DEVICES_ON_JAX = """
import os
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
import keras, numpy as np
import keras_mhdeblur as mhd
from keras_mhdeblur.training.distribution import (
    is_chief, make_strategy, num_replicas, per_replica_batch_size)
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
    model.compile(optimizer, metrics=[mhd.metrics.HeadUsage()])
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
"""
VALUES_ON_TORCH = (
    MODEL
    + """
import sys
from keras_mhdeblur.data.jpeg import jpeg_compress
assert keras.backend.backend() == "torch"
model.load_weights(sys.argv[1])
arrays = np.load(sys.argv[2])
(heads,) = model(arrays["x"], training=True)
model.compile(metrics=metrics)
loss = model.compute_loss(y=keras.ops.convert_to_tensor(arrays["y"]), y_pred=heads)
seeds = np.array([0, 2])
blur = mhd.data.MotionBlur(max_noise=0.0)
blurry, _ = mhd.data.synthesize_motion_blur(arrays["x"], seeds, blur)
packed = jpeg_compress(arrays["x"], np.array([40, 90]))
numbers = mhd.data.seeded.uniform(seeds, 50)
hypotheses = model(arrays["x"])
luma = mhd.losses.PSNRLoss(to_luma=True)(arrays["y"], hypotheses[:, 0])
outputs = {"heads": heads, "hypotheses": hypotheses, "loss": loss, "luma": luma,
           "blurry": blurry, "packed": packed, "numbers": numbers}
np.savez(sys.argv[3], **{k: keras.ops.convert_to_numpy(v) for k, v in outputs.items()})
"""
)
SYNTHESIZED = """
import pathlib, sys
import keras, numpy as np, yaml
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
"""


def run(backend, program, *arguments):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


def test_fit_on_jax():
    run("jax", FIT_ON_JAX)


def test_two_devices_on_jax_equal_one():
    run("jax", TWO_DEVICES_ON_JAX)


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_training_on_synthesized_blur_on(backend, tmp_path):
    recipe = pathlib.Path(__file__).parent / "training" / "tiny_recipe.yaml"
    run(backend, SYNTHESIZED, recipe, tmp_path)


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_muon_on(backend):
    run_tests(backend, "training/test_optimizers.py", "muon")


def test_networks_on_torch_are_the_official_ones_and_train():
    file = "networks/test_all_networks.py"
    run_tests("torch", file, "mhc_k4 or test_training_step")


def run_tests(backend, file, which):
    program = "import pytest, sys; sys.exit(pytest.main(sys.argv[1:]))"
    run(backend, program, pathlib.Path(__file__).parent / file, "-k", which)


def test_values_on_torch_are_those_of_tensorflow(tmp_path):
    network = mhd.networks.NAFNet(4, (1, 1), 1, (1, 1), num_heads=3)
    model = mhd.Deblurrer(network)
    for index, weight in enumerate(model.weights):  # beta and gamma start at zero
        weight.assign(0.35 * keras.random.normal(weight.shape, seed=index))
    model.save_weights(tmp_path / "model.weights.h5")
    rng = np.random.default_rng(0)
    x, y = rng.random((2, 2, 24, 16, 3), "float32")
    np.savez(tmp_path / "inputs.npz", x=x, y=y)
    names = ["model.weights.h5", "inputs.npz", "outputs.npz"]
    run("torch", VALUES_ON_TORCH, *(tmp_path / name for name in names))
    found = np.load(tmp_path / "outputs.npz")
    (heads,) = model(x, training=True)
    model.compile()
    seeds = np.array([0, 2])
    numbers = mhd.data.seeded.uniform(seeds, 50)
    blur = mhd.data.MotionBlur(max_noise=0.0)
    blurry, _ = mhd.data.synthesize_motion_blur(x, seeds, blur)
    packed = jpeg_compress(x, np.array([40, 90]))
    np.testing.assert_allclose(found["heads"], heads, atol=1e-5)
    np.testing.assert_allclose(found["hypotheses"], model(x), atol=1e-5)
    loss = model.compute_loss(y=keras.ops.convert_to_tensor(y), y_pred=heads)
    np.testing.assert_allclose(found["loss"], loss, atol=1e-5)
    luma = mhd.losses.PSNRLoss(to_luma=True)(y, model(x)[:, 0])
    np.testing.assert_allclose(found["luma"], luma, atol=1e-5)
    np.testing.assert_array_equal(found["numbers"], numbers)
    # Rounding to levels, and to coefficients, goes the other way in some places.
    for name, value, share in ("blurry", blurry, 0.01), ("packed", packed, 0.1):
        assert np.mean(np.abs(found[name] - np.array(value)) > 1e-3) < share, name
