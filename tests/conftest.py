"""Two virtual CPU devices, the official outputs, and a small network of each kind."""

import dataclasses
import gc
import json
import math
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import pytest

from keras_mhdeblur import Deblurrer, losses, networks
from keras_mhdeblur.layers import MultiHeadOutput, PadToMultiple
from keras_mhdeblur.networks.base import RestorationNetwork, layer_factory

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * 2
    )

RESOURCES = pathlib.Path(__file__).parent / "resources"

# Graphs are many objects that stay; to look through them often takes long.
gc.set_threshold(50_000)

keras.utils.set_random_seed(0)  # Networks among the parameters of tests.


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "quick_kinds(*names): with other networks it is a longer check"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Tests with networks that are not named by `quick_kinds` become slow."""
    for item in items:
        for mark in item.iter_markers("quick_kinds"):
            assert set(mark.args) <= {kind.cls.__name__ for kind in KINDS}
            if item.callspec.params["kind"].cls.__name__ not in mark.args:
                item.add_marker(pytest.mark.slow)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    """What fixtures of modules draw does not depend on the tests before."""
    keras.utils.set_random_seed(0)


@pytest.fixture(autouse=True)
def fixed_seed():
    """What a test draws does not depend on which of those fixtures it made."""
    keras.utils.set_random_seed(1)


class Golden:
    """A file of official PyTorch inputs and outputs, arrays channels last."""

    def __init__(self, name):
        self.arrays = np.load(RESOURCES / "golden" / f"{name}.npz")
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


@dataclasses.dataclass(frozen=True)
class Kind:
    """One of the networks and what the tests of all need to know of it.

    Attributes:
        cls: its class.
        arguments: of a small one with two heads.
        others: further arguments, so that none is the default.
        multiple, padding: what it pads images to, and with what.
        loss: a loss that it is published with.
        centered: whether it pads at all sides, not at the bottom and the right only.
        gain: of the small network's kernels, so that it changes images by less than 1.
    """

    cls: type
    arguments: dict
    others: dict
    multiple: int
    padding: str
    loss: keras.losses.Loss
    centered: bool = False
    gain: float = 0.9

    @property
    def has_statistics(self):
        """Whether there is something that TLC makes local."""
        return self.cls not in (networks.XYDeblur, networks.MAXIM)

    def statistics(self, size):
        """The size of training crops, or None where the network refuses TLC."""
        return None if self.cls is networks.MAXIM else size

    def small(self, **changes):
        """A small network whose weights all have an effect."""
        network = self.cls(**{**self.arguments, "num_heads": 2, **changes})
        for index, weight in enumerate(network.weights):
            noise = keras.random.normal(weight.shape, seed=index)
            if "kernel" in weight.path:
                weight.assign(self.gain * noise / math.prod(weight.shape[:-1]) ** 0.5)
            else:
                weight.assign(weight + 0.3 * noise)
        return network


KINDS = [
    Kind(
        networks.NAFNet,
        {
            "width": 4,
            "encoder_blocks": (1, 0),
            "middle_blocks": 1,
            "decoder_blocks": (0, 1),
        },
        {"middle_blocks": 2},
        4,
        "constant",
        losses.PSNRLoss(),
    ),
    Kind(
        networks.HINet,
        {"width": 4, "depth": 2, "hin_start": 1, "hin_end": 1},
        {"relu_slope": 0.1},
        2,
        "reflect",
        losses.PSNRLoss(0.5),
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
        losses.CombinedLoss([losses.CharbonnierLoss(), losses.EdgeLoss(weight=0.05)]),
    ),
    Kind(
        networks.Restormer,
        {
            "width": 4,
            "num_blocks": (1, 0, 1),
            "num_refinement_blocks": 0,
            "attention_heads": (1, 2, 2),
        },
        {
            "num_refinement_blocks": 1,
            "ffn_expansion": 2,
            "use_bias": True,
            "norm": "bias_free",
        },
        4,
        "reflect",
        losses.L1Loss(),
    ),
    Kind(
        networks.XYDeblur,
        {"width": 4, "num_res_blocks": 1},
        {},
        4,
        "constant",
        losses.MSELoss(),
    ),
    Kind(
        networks.MAXIM,
        {
            "width": 4,
            "stages": 1,
            "num_groups": 1,
            "num_bottlenecks": 1,
            "sides": (2, 2, 2),
            "bottleneck_side": 2,
            "reduction": 2,
        },
        {"scale_outputs": True},
        16,
        "reflect",
        losses.CombinedLoss(
            [losses.CharbonnierLoss(), losses.FrequencyLoss(weight=0.1)]
        ),
        centered=True,
        gain=0.5,
    ),
]


@keras.saving.register_keras_serializable(package="tests")
class Staged(RestorationNetwork):
    """A convolution per stage; as MAXIM without local statistics, in tiles of 48."""

    tile_size = 48

    def __init__(
        self, stages=2, num_heads=2, *, _share_layers_of=None, name=None, trainable=True
    ):
        layer = layer_factory(_share_layers_of)
        image = keras.layers.Input((None, None, 3), name="image")
        x, outputs = layer(PadToMultiple, 6, name="pad")(image), []
        for stage in range(stages):
            conv = layer(
                keras.layers.Conv2D, 4, 3, padding="same", name=f"conv_{stage}"
            )
            heads = layer(MultiHeadOutput, num_heads, 3, name=f"heads_{stage}")
            x = conv(x)
            outputs.insert(0, heads(x, image))
        super().__init__(
            image,
            outputs if stages > 1 else outputs[0],
            head_inputs=(x, image),
            head_layer=f"heads_{stages - 1}",
            name=name,
            trainable=trainable,
        )
        self.stages, self.num_heads, self.image_channels = stages, num_heads, 3

    def with_stages(self, stages):
        if stages > self.stages:
            raise ValueError(f"Too many. Received: stages={stages}")
        config = {**self.get_config(), "stages": stages}
        return type(self)(**config, _share_layers_of=self)

    def get_config(self):
        own = {"stages": self.stages, "num_heads": self.num_heads}
        return {**super().get_config(), **own}


@pytest.fixture(scope="session")
def make_members():
    """Two small networks of three and two heads, both of the same name."""

    def make(seed=0):
        found = [
            networks.NAFNet(4, (0, 0), 1, (0, 0), num_heads=3, name="network"),
            Staged(name="network"),
        ]
        random = np.random.default_rng(seed)
        for weight in [weight for network in found for weight in network.weights]:
            weight.assign(random.normal(0, 0.3, weight.shape))
        return found

    return make


@pytest.fixture(scope="session")
def golden():
    return Golden


@pytest.fixture(scope="session", params=KINDS, ids=lambda kind: kind.cls.__name__)
def kind(request):
    return request.param


@pytest.fixture(scope="session")
def images():
    """(B, H, W) or (B, H, W, C) to random images, the same every time."""

    def make(batch, height, width, channels=3):
        shape = (batch, height, width, channels)
        return np.random.default_rng(0).random(shape, "float32")

    return make


@pytest.fixture(scope="session")
def adaptive():
    """Network to a `Deblurrer` whose image is an adaptive mean, of random weights."""
    from keras_mhdeblur import Deblurrer

    def make(network, **options):
        heads = network.num_head_images
        weights = np.random.default_rng(0).normal(
            0, 0.5, (heads, heads * (heads + 3) // 2 + 1)
        )
        options["adaptive_weights"] = weights.tolist()
        return Deblurrer(network, select="adaptive", **options)

    return make


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """Keeps exported models out of the cache of whoever runs the tests."""
    folder = str(tmp_path_factory.mktemp("cache"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", folder)
        patch.setenv("LOCALAPPDATA", folder)
        yield


@pytest.fixture
def without_guard(monkeypatch):
    """Restores without guard by default: no blur explains what toy models do."""
    from keras_mhdeblur import inference

    for owner in (Deblurrer, inference):

        def restore(model, image, original=owner.restore, **options):
            return original(model, image, **{"guard": False, **options})

        monkeypatch.setattr(owner, "restore", restore)


@pytest.fixture(scope="session")
def tlc_deblurrer():
    """Three heads, TLC, and weights with which every layer is seen in the output."""
    network = networks.NAFNet(4, (0,), 1, (0,), num_heads=3)
    for index, weight in enumerate(network.weights):
        weight.assign(0.35 * keras.random.normal(weight.shape, seed=index))
    # Images in the middle of the range are restored without clipping.
    for weight in network.get_layer("heads").weights:
        weight.assign(0.05 * weight)
    return Deblurrer(network, tlc_train_size=8)
