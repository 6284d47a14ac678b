"""Every network, small with random weights, or with the weights of a golden file."""

import dataclasses
import functools
import math

import keras
import numpy as np
import pytest

from keras_mhdeblur import losses, networks
from keras_mhdeblur.convert import load_torch_state_dict
from keras_mhdeblur.convert.recognition import recognize


@dataclasses.dataclass(frozen=True)
class Kind:
    """One of the networks and what the tests of all need to know of it.

    Attributes:
        cls: its class.
        arguments: of a small one with two heads.
        others: arguments that make none of all arguments the default.
        multiple, padding: what it pads images to, and with what.
        loss: a loss that it is published with.
        golden: golden file of the multi-head network.
        half_error: largest error of the head images under mixed_float16, relative to
            the standard deviation of the residuals; 8 times that under mixed_bfloat16.
    """

    cls: type
    arguments: dict
    others: dict
    multiple: int
    padding: str
    loss: keras.losses.Loss
    golden: str
    half_error: float

    @property
    def has_statistics(self):
        """Whether there is something that TLC makes local."""
        return self.cls is not networks.XYDeblur

    def small(self, **changes):
        """A small network whose weights all have an effect."""
        network = self.cls(**{**self.arguments, "num_heads": 2, **changes})
        for index, weight in enumerate(network.weights):
            noise = keras.random.normal(weight.shape, seed=index)
            if "kernel" in weight.path:
                weight.assign(0.9 * noise / math.prod(weight.shape[:-1]) ** 0.5)
            else:
                weight.assign(weight + 0.2 * noise)
        return network


KINDS = [
    Kind(
        networks.NAFNet,
        {
            "width": 4,
            "encoder_blocks": (1, 1),
            "middle_blocks": 1,
            "decoder_blocks": (1, 1),
        },
        {"middle_blocks": 2},
        4,
        "constant",
        losses.PSNRLoss(),
        "nafnet_mhc_k4",
        0.02,
    ),
    Kind(
        networks.HINet,
        {"width": 4, "depth": 3, "hin_start": 1, "hin_end": 2},
        {"relu_slope": 0.1},
        4,
        "reflect",
        losses.PSNRLoss(0.5),
        "hinet_mhc_k4",
        0.02,
    ),
    Kind(
        networks.MPRNet,
        {
            "width": 4,
            "unet_step": 2,
            "orsnet_step": 2,
            "num_cab": 1,
            "reduction": 2,
        },
        {"use_bias": True},
        8,
        "reflect",
        losses.CombinedLoss([losses.CharbonnierLoss(), losses.EdgeLoss(0.05)]),
        "mprnet_mhc_k4",
        0.02,
    ),
    Kind(
        networks.Restormer,
        {
            "width": 4,
            "num_blocks": (1, 1, 1),
            "num_refinement_blocks": 1,
            "attention_heads": (1, 2, 2),
        },
        {
            "num_refinement_blocks": 2,
            "ffn_expansion": 2,
            "use_bias": True,
            "norm": "bias_free",
        },
        4,
        "reflect",
        losses.L1Loss(),
        "restormer_mhc_k4",
        0.02,
    ),
    Kind(
        networks.XYDeblur,
        {"width": 4, "num_res_blocks": 1},
        {},
        4,
        "constant",
        losses.MSELoss(),
        "xydeblur",
        0.02,
    ),
]


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


@pytest.fixture(scope="session", params=KINDS, ids=lambda kind: kind.cls.__name__)
def kind(request):
    return request.param


@pytest.fixture(scope="session")
def network(kind):
    """A small network of each kind; its weights must not be changed."""
    return kind.small()


@pytest.fixture(scope="session")
def official(golden):
    """Name to golden file and network with its weights, which must not be changed."""

    @functools.cache
    def load(name):
        file = golden(name)
        return file, official_network(file)

    return load


@pytest.fixture(scope="session")
def images():
    """(B, H, W) or (B, H, W, C) to random images, the same every time."""

    def make(batch, height, width, channels=3):
        shape = (batch, height, width, channels)
        return np.random.default_rng(0).random(shape, "float32")

    return make


@pytest.fixture(scope="session")
def stages():
    """Output of a network to the list of its head stacks as arrays."""

    def as_list(output):
        output = output if isinstance(output, (list, tuple)) else [output]
        return [np.array(stack) for stack in output]

    return as_list
