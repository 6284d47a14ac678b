"""A small deblurrer."""

import importlib.util

import keras
import pytest

from keras_mhdeblur import Deblurrer
from keras_mhdeblur.export.saved_model import to_saved_model
from keras_mhdeblur.networks import NAFNet


@pytest.fixture(scope="session")
def model():
    """Three heads, TLC, and weights with which every layer is seen in the output."""
    network = NAFNet(4, (1,), 1, (1,), num_heads=3)
    for index, weight in enumerate(network.weights):
        weight.assign(0.35 * keras.random.normal(weight.shape, seed=index))
    # Images in the middle of the range are restored without clipping.
    for weight in network.get_layer("heads").weights:
        weight.assign(0.1 * weight)
    return Deblurrer(network, tlc_train_size=8)


@pytest.fixture(scope="session")
def served_folder(model, tmp_path_factory):
    """`model` for TensorFlow Serving: version 1, with a warm-up if that is possible."""
    sizes = (
        [(20, 28), (16, 16)] if importlib.util.find_spec("tensorflow_serving") else []
    )
    folder = tmp_path_factory.mktemp("served") / "deblurrer"
    to_saved_model(model, folder, warm_up_sizes=sizes)
    return folder


@pytest.fixture(autouse=True)
def network_alone(without_guard):
    """Exports hold the network, which `restore` is compared with without its guard."""
