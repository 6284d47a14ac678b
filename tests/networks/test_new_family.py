"""A network family of a user's own, made as CONTRIBUTING.md says."""

import json
import struct

import keras
import numpy as np
import pytest
from keras import layers

from keras_mhdeblur import Deblurrer, export, from_preset
from keras_mhdeblur.convert import from_checkpoint, load_official_weights
from keras_mhdeblur.engines.keras_engine import KerasEngine
from keras_mhdeblur.evaluation import get_protocol
from keras_mhdeblur.layers import MultiHeadOutput, PadToMultiple
from keras_mhdeblur.networks import registry
from keras_mhdeblur.networks.base import RestorationNetwork
from keras_mhdeblur.networks.recognition_tools import head_arguments
from keras_mhdeblur.networks.torch_layouts import conv_entries
from keras_mhdeblur.presets.litert import fingerprint
from keras_mhdeblur.training.recipes import build, schema

PACKAGE = "test_new_family"


class ToyNet(RestorationNetwork):
    """Two convolutions, the second of which emits K head images.

    Args:
        width: channels between them.
        num_heads: number of heads K.
        image_channels: channels of the images.
    """

    def __init__(
        self,
        width=8,
        num_heads=2,
        image_channels=3,
        *,
        name=None,
        trainable=True,
    ):
        # === Layers ===
        pad = PadToMultiple(2, name="pad")
        conv = layers.Conv2D(width, 3, padding="same", activation="relu", name="first")
        heads = MultiHeadOutput(num_heads, image_channels, name="heads")

        # === Functional model ===
        image = layers.Input((None, None, image_channels), name="image")
        x = conv(pad(image))
        super().__init__(
            image,
            heads(x, image),
            head_inputs=(x, image),
            name=name,
            trainable=trainable,
        )

        # === Config ===
        self.width = width
        self.num_heads = num_heads
        self.image_channels = image_channels

    def get_config(self):
        return {
            **super().get_config(),
            "width": self.width,
            "num_heads": self.num_heads,
            "image_channels": self.image_channels,
        }


def entries(network):
    return {
        **conv_entries("toy_first", network.get_layer("first")),
        **conv_entries("toy_last", network.get_layer("heads").conv),
    }


def arguments(shapes):
    width, image_channels = shapes["toy_first.weight"][:2]
    heads = head_arguments(shapes, "toy_last.weight", image_channels)
    return {"width": width, **heads}


def widest(width, **_):
    return {"toy_first.weight": (width,)}


FAMILY = registry.Family(
    name="ToyNet",
    network=ToyNet,
    entries=entries,
    detection=registry.Detection(
        modules="toy_(first|last)",
        anchors={"toy_first.weight": 4, "toy_last.weight": 4},
        arguments=arguments,
        widest=widest,
    ),
    peak_bytes=(100, 10),
    paper={"gopro": {"crop_size": 32}},
)


@pytest.fixture(scope="module")
def family():
    """The registration, undone when these tests are over."""
    before = registry.families()
    keras.saving.register_keras_serializable(package=PACKAGE)(ToyNet)
    registry.register(FAMILY)
    yield FAMILY
    registry.unregister(FAMILY)
    del keras.saving.get_custom_objects()[f"{PACKAGE}>ToyNet"]
    assert registry.families() == before


@pytest.fixture(scope="module")
def state():
    """Weights of the family by their official names, in PyTorch's layout."""
    rng = np.random.default_rng(0)
    shapes = {
        "toy_first.weight": (6, 3, 3, 3),
        "toy_first.bias": (6,),
        "toy_last.weight": (9, 6, 3, 3),
        "toy_last.bias": (9,),
    }
    return {
        name: rng.normal(0, 0.05, shape).astype("float32")
        for name, shape in shapes.items()
    }


@pytest.fixture(scope="module")
def checkpoint(state, tmp_path_factory):
    """Them in a .safetensors file: length of the header, header, numbers."""
    path, header, data = tmp_path_factory.mktemp("toy") / "toy.safetensors", {}, b""
    for name, array in state.items():
        start, data = len(data), data + array.tobytes()
        offsets = [start, len(data)]
        header[name] = {"dtype": "F32", "shape": array.shape, "data_offsets": offsets}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


@pytest.fixture(scope="module")
def model(family, checkpoint):
    return from_checkpoint(checkpoint)


def test_conversion(model, state, images):
    network = model.network
    assert type(network) is ToyNet and model.combine_heads
    assert (network.width, network.num_heads, network.image_channels) == (6, 3, 3)
    # The official network, by its definition.
    image = images(1, 8, 6)
    x = np.maximum(convolved(image, state, "toy_first"), 0)
    residuals = convolved(x, state, "toy_last").reshape(1, 8, 6, 3, 3)
    expected = image[:, None] + residuals.transpose(0, 3, 1, 2, 4)
    np.testing.assert_allclose(network(image), expected, atol=1e-5)


def convolved(x, state, name):
    kernel = state[f"{name}.weight"].transpose(2, 3, 1, 0)
    height, width = x.shape[1:3]
    x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return state[f"{name}.bias"] + sum(
        x[:, row : row + height, column : column + width] @ kernel[row, column]
        for row, column in np.ndindex(3, 3)
    )


def test_small_files_cannot_claim_large_networks(family, checkpoint, monkeypatch):
    detection = registry.Detection(
        **{**vars(family.detection), "widest": lambda width, **_: {"toy_huge": (1,)}}
    )
    changed = registry.Family(**{**vars(family), "detection": detection})
    monkeypatch.setattr(registry, "_families", [changed])
    with pytest.raises(ValueError, match="size of a ToyNet:\n  missing: toy_huge"):
        from_checkpoint(checkpoint, "toynet")


def test_preset(model, images, tmp_path):
    model.save_to_preset(tmp_path / "preset", license="MIT")
    loaded = from_preset(str(tmp_path / "preset"))
    assert type(loaded.network) is ToyNet
    image = images(1, 7, 5)
    np.testing.assert_allclose(loaded(image), model(image), atol=1e-6)


def test_restore(model, images):
    image = images(1, 21, 30)[0]
    result = model.restore(image, guard=False)
    expected = np.clip(np.mean(model(image[None]), axis=1), 0, 1)[0]
    np.testing.assert_allclose(result.image, expected, atol=1e-5)
    assert result.hypotheses.shape == (6, 21, 30, 3)


@pytest.mark.slow
def test_litert(model, images, tmp_path):
    path = tmp_path / "toy.tflite"
    report = export.to_litert(model, path, photo=images(1, 16, 24)[0])
    assert path.stat().st_size > 0 and report is not None
    # And the file that `restore` makes for itself.
    image = images(1, 21, 30)[0]
    found = model.restore(image, engine="litert", guard=False).image
    expected = model.restore(image, engine="keras", guard=False).image
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_local_statistics_are_refused(model):
    assert model.network.with_local_statistics(None) is model.network
    with pytest.raises(ValueError, match="ToyNet has no .*Received: train_size=16"):
        model.network.with_local_statistics(16)


def test_costs_and_protocol(model):
    assert KerasEngine.of(model).bytes_per_pixel == 100 + 10 * 6
    assert get_protocol("paper", model, "gopro").crop_size == 32
    with pytest.raises(ValueError, match="one of gopro. Received: benchmark='hide'"):
        get_protocol("paper", model, "hide")


def test_a_family_is_registered_once(family):
    other = type("Other", (ToyNet,), {})
    for changes, argument in (
        ({"name": "toyNET", "network": other}, "name='toyNET'"),
        ({"name": "Other"}, "network=<class"),
    ):
        with pytest.raises(ValueError, match=f"Received: {argument}"):
            registry.register(registry.Family(**{**vars(family), **changes}))
    with pytest.raises(TypeError, match="Received: family=<class"):
        registry.register(ToyNet)


def test_family_of_a_subclass_is_the_nearest(family):
    assert registry.family_of(type("Sub", (ToyNet,), {})()) is family


def test_fingerprints_tell_classes_of_one_name_apart(model):
    """Else `restore` would run the LiteRT file of another class."""
    other = type("ToyNet", (ToyNet,), {})(**model.network.get_config())
    other.set_weights(model.network.get_weights())
    assert fingerprint(Deblurrer(other)) != fingerprint(model)


def test_without_registration(state, monkeypatch):
    """No caller takes a family by the name of a class alone."""
    others = [known for known in registry.families() if known is not FAMILY]
    monkeypatch.setattr(registry, "_families", others)
    network = type("NAFNet", (ToyNet,), {})()
    model = Deblurrer(network)
    assert registry.family_of(network) is None
    assert KerasEngine.of(model).bytes_per_pixel == registry.DEFAULT_PEAK_BYTES
    with pytest.raises(ValueError, match="network of class NAFNet"):
        get_protocol("paper", model, "gopro")
    with pytest.raises(ValueError, match="official parameter names: .* network=NAF"):
        load_official_weights(model, state)
    with pytest.raises(ValueError, match="must be registered"):
        registry.unregister(FAMILY)
    network.peak_bytes_per_pixel = 123
    assert registry.peak_bytes_per_pixel(network) == 123


def test_recipes_know_the_family(family):
    assert build.network_classes()["ToyNet"] is ToyNet
    entries = schema.network_entries()["ToyNet"]
    assert {"num_heads", "width"} <= set(entries.numbers)


def test_every_network_here_is_of_a_family(kind):
    (family,) = [known for known in registry.families() if known.network is kind.cls]
    assert family.name == kind.cls.__name__
    assert family.entries is not None and family.detection is not None
    measured = hasattr(kind.cls, "peak_bytes_per_pixel")
    assert measured == (family.peak_bytes is None)
