"""Networks with random weights, or with the weights of a golden file."""

import functools

import keras
import pytest

from keras_mhdeblur import networks
from keras_mhdeblur.convert import load_torch_state_dict
from keras_mhdeblur.convert.recognition import recognize


def official_network(file):
    """The network of a golden file, with its weights.

    Its sizes are read off the weights; tests/convert compares them with the official
    ones.
    """
    state = file.state()
    recognised = recognize(state)
    network = getattr(networks, recognised.architecture)(**recognised.arguments)
    load_torch_state_dict(network, state)
    return network


@pytest.fixture(scope="session")
def network(kind):
    """A small network of each kind; its weights must not be changed."""
    return kind.small()


@pytest.fixture(scope="session")
def local(kind, network):
    """It with statistics as of crops of 16 x 16, windows of 24 x 24."""
    return network.with_local_statistics(kind.statistics(16))


@pytest.fixture(scope="session")
def official(golden):
    """Name to golden file and network with its weights, which must not be changed."""

    @functools.cache
    def load(name):
        file = golden(name)
        return file, official_network(file)

    return load


@pytest.fixture(scope="session")
def stages():
    """Output of a network to the list of its head stacks as arrays."""

    def as_list(output):
        output = output if isinstance(output, (list, tuple)) else [output]
        return [keras.ops.convert_to_numpy(stack) for stack in output]

    return as_list
