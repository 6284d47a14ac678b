"""The benchmarks' networks in PyTorch are those of the package."""

import inspect
import pathlib
import runpy

import numpy as np
import pytest

from keras_mhdeblur import convert, networks

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.slow

FILE = pathlib.Path(__file__).parents[1] / "benchmarks" / "torch_networks.py"


@pytest.fixture(scope="module")
def torch_networks():
    return runpy.run_path(str(FILE))


@pytest.fixture
def make(torch_networks):
    """Keras network to the PyTorch module of it, whose weights all have an effect."""

    def make(network):
        torch.manual_seed(0)
        module = torch_networks["of"](network)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter += 0.05 * torch.randn_like(parameter)
        return module

    return make


def stacks(network, images):
    """Head images of a Keras network, final stage first, channels first."""
    outputs = network(images)
    outputs = outputs if isinstance(outputs, list) else [outputs]
    return [np.moveaxis(np.asarray(stack), -1, -3) for stack in outputs]


def torch_stacks(module, images, memory_format=torch.contiguous_format):
    module = module.to(memory_format=memory_format)
    images = torch.from_numpy(images).permute(0, 3, 1, 2)
    with torch.inference_mode():
        outputs = module(images.contiguous(memory_format=memory_format))
    outputs = outputs if isinstance(outputs, list) else [outputs]
    return [stack.numpy() for stack in outputs]


@pytest.mark.parametrize("more", [False, True], ids=["small", "others"])
def test_a_network_of_its_weights_is_equal(kind, more, make, images, torch_networks):
    options = kind.others if more else {}
    if more and kind.cls is networks.MAXIM:
        options = {**options, "stages": 2}
    network = kind.small(**options)
    module = make(network)
    state = torch_networks["official_state"](module)
    convert.load_official_weights(network, state)
    batch = images(2, 32, 16)
    expected = stacks(network, batch)
    assert np.abs(expected[0] - batch.transpose(0, 3, 1, 2)[:, None]).mean() > 0.01
    for memory_format in (torch.contiguous_format, torch.channels_last):
        found = torch_stacks(module, batch, memory_format)
        assert len(found) == len(expected)
        for ours, theirs in zip(expected, found):
            np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-5)


def test_a_saved_module_is_a_checkpoint(make, images, tmp_path):
    module = make(networks.NAFNet(4, (1, 1), 1, (0, 1), num_heads=2))
    torch.save({"params": module.state_dict()}, tmp_path / "module.pth")
    network = convert.from_checkpoint(tmp_path / "module.pth").network
    batch = images(1, 16, 24)
    expected, found = stacks(network, batch), torch_stacks(module, batch)
    np.testing.assert_allclose(found[0], expected[0], rtol=0, atol=1e-5)


def test_arguments_are_those_of_keras(kind, torch_networks):
    module = torch_networks[kind.cls.__name__]
    ours, theirs = (
        {name: each.default for name, each in inspect.signature(cls).parameters.items()}
        for cls in (kind.cls, module)
    )
    for name in ("_share_layers_of", "name", "trainable"):
        ours.pop(name, None)
    assert theirs == ours


def test_what_is_not_there_is_named(make_members, torch_networks):
    with pytest.raises(ValueError, match="Received: network=Staged"):
        torch_networks["of"](make_members()[1])
    local = networks.NAFNet(4, (0,), 0, (0,), tlc_train_size=8)
    with pytest.raises(ValueError, match="Received: tlc_train_size=8"):
        torch_networks["of"](local)
