"""The same model on Keras' other backends, where they are installed.

A backend is chosen when Keras is imported, so each has its own process.
"""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_mhdeblur as mhd
from keras_mhdeblur.data.jpeg import jpeg_compress

# Each test starts a process with two large libraries.
pytestmark = pytest.mark.slow

PROGRAMS = pathlib.Path(__file__).parent / "programs"


def run(backend, *arguments):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        env={
            **os.environ,
            "KERAS_BACKEND": backend,
            # The same package as here, wherever the program lies.
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


def test_fit_on_jax():
    run("jax", PROGRAMS / "fit_on_jax.py")


def test_two_devices_on_jax_equal_one():
    run("jax", PROGRAMS / "two_devices_on_jax.py")


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_restore_on(backend):
    run(backend, PROGRAMS / "restore.py")


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_training_on_several_targets_on(backend, tmp_path):
    run(backend, PROGRAMS / "several_targets.py", tmp_path)


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_losses_and_metrics_of_several_targets_on(backend):
    run_tests(backend, "test_metrics.py", "targets")


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_training_on_synthesized_blur_on(backend, tmp_path):
    recipe = pathlib.Path(__file__).parent / "resources" / "tiny_recipe.yaml"
    run(backend, PROGRAMS / "synthesized.py", recipe, tmp_path)


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_muon_on(backend):
    run_tests(backend, "training/test_optimizers.py", "muon")


def test_networks_on_torch_are_the_official_ones_and_train():
    file = "networks/test_all_networks.py"
    run_tests("torch", file, "mhc_k4 or test_training_step")


def test_rehearsal_of_the_benchmark_for_devices(tmp_path):
    if importlib.util.find_spec("jax") is None:
        pytest.skip("jax is not installed")
    script = pathlib.Path(__file__).parents[1] / "benchmarks" / "device.sh"
    python = pathlib.Path(sys.executable).parent
    done = subprocess.run(
        ["bash", script, tmp_path, "--tiny"],
        env={**os.environ, "PATH": f"{python}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nafnet_mhc_k4" in (tmp_path / "golden.txt").read_text()
    for task in ("training", "inference", "synthesis"):
        (row,) = json.loads((tmp_path / f"{task}.json").read_text())
        assert row["patches_per_second"] > 0 and row["engine"] == "jax", row


def run_tests(backend, file, which):
    run(backend, "-m", "pytest", pathlib.Path(__file__).parent / file, "-k", which)


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
    run("torch", PROGRAMS / "values_on_torch.py", *(tmp_path / name for name in names))
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
