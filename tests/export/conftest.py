"""A small deblurrer."""

import importlib.util

import pytest

from keras_mhdeblur.export.saved_model import to_saved_model


@pytest.fixture(scope="session")
def model(tlc_deblurrer):
    return tlc_deblurrer


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
