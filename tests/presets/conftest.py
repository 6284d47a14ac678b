import importlib.util
import shutil
from pathlib import Path

import keras
import pytest
from huggingface_hub import constants

import keras_mhdeblur


def _load(name):
    # Tests are imported without their folder on the path (--import-mode=importlib).
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def make_model():
    """Builds a small Deblurrer with reproducible random weights."""

    def make(seed=0, num_heads=3, width=4, **options):
        keras.utils.set_random_seed(seed)
        network = keras_mhdeblur.networks.NAFNet(
            width=width,
            encoder_blocks=(0,),
            middle_blocks=1,
            decoder_blocks=(0,),
            num_heads=num_heads,
            name="network",
        )
        model = keras_mhdeblur.Deblurrer(network, name="small", **options)
        random = keras.random.SeedGenerator(seed)
        # Also the weights that start at zero.
        for weight in model.weights:
            weight.assign(keras.random.normal(weight.shape, seed=random))
        return model

    return make


@pytest.fixture(scope="session")
def saved(make_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "small"
    make_model().save_to_preset(folder)
    return folder


@pytest.fixture
def preset(saved, tmp_path):
    """The folder of a small preset, which the test may change."""
    return shutil.copytree(saved, tmp_path / "small")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hub on the loopback, an empty cache, and the environment that uses them."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", "hf_loopback")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with _load("hub_double").HubDouble() as double:
        monkeypatch.setenv("HF_ENDPOINT", double.url)
        yield double
