"""Two virtual CPU devices for the distribution tests, and the official outputs."""

import json
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import pytest

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * 2
    )

DATA = pathlib.Path(__file__).parent / "data"


class Golden:
    """A file of official PyTorch inputs and outputs, arrays channels last."""

    def __init__(self, name):
        self.arrays = np.load(DATA / "golden" / f"{name}.npz")
        self.config = json.loads(str(self.arrays["config"]))

    def __getitem__(self, key):
        """An array; images (N, C, H, W) or (N, K, C, H, W) come channels last."""
        array = self.arrays[key]
        return np.moveaxis(array, -3, -1) if array.ndim >= 4 else array

    def state(self, prefix="sd/"):
        """The PyTorch state dictionary below a prefix, layout unchanged."""
        return {
            key.removeprefix(prefix): self.arrays[key]
            for key in self.arrays.files
            if key.startswith(prefix)
        }


@pytest.fixture(scope="session")
def golden():
    return Golden


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """Keeps exported models out of the cache of whoever runs the tests."""
    folder = str(tmp_path_factory.mktemp("cache"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", folder)
        patch.setenv("LOCALAPPDATA", folder)
        yield


@pytest.fixture(autouse=True)
def fixed_seed():
    keras.utils.set_random_seed(1)
