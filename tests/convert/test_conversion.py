import sys

import numpy as np
import pytest

from keras_mhdeblur.convert import from_torch_checkpoint
from keras_mhdeblur.convert.conversion import build_model
from keras_mhdeblur.convert.recognition import recognize

# Golden file to what is set, and which of its outputs is the final image.
GOLDENS = {
    "nafnet_baseline": ({}, "out/0"),
    "nafnet_mh_k3": ({"combine_heads": False}, "out/0"),
    "nafnet_mhc_k4": ({}, "out/0"),
    "nafnet_mhc_k4_local": ({"tlc_train_size": 24}, "out/0"),
    "restormer_mhc_k4_biasfree": ({}, "out/0"),
    "hinet_mhc_k4": ({"relu_slope": 0.2}, "out/1"),
    "mprnet_mhc_k4": ({}, "out/0"),
    "xydeblur": ({}, "out/2"),
}


@pytest.fixture(autouse=True)
def no_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)


def assert_official(golden, model, name):
    """The model's outputs are the official ones."""
    number = GOLDENS[name][1]
    golden = golden(name)
    expected = golden[number]
    if expected.ndim == 4:
        expected = expected[:, None]
    error = golden.config["f32_vs_f64_maxabs"]
    error = error[int(number[-1])] if isinstance(error, list) else error
    tolerance = max(1e-6, 10 * error)
    np.testing.assert_allclose(model(golden["x"]), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", GOLDENS)
def test_official_checkpoint(golden, official_file, name):
    model = from_torch_checkpoint(official_file(name), **GOLDENS[name][0])
    assert_official(golden, model, name)


def test_safetensors(golden, checkpoints, tmp_path):
    path = checkpoints.write_safetensors(
        tmp_path / "a.safetensors", golden("xydeblur").state()
    )
    assert_official(golden, from_torch_checkpoint(path), "xydeblur")


def test_float16_checkpoint(golden, checkpoints, tmp_path):
    state = golden("xydeblur").state()
    half = {name: array.astype("float16") for name, array in state.items()}
    path = checkpoints.write_zip(tmp_path / "half.pth", half)
    model = from_torch_checkpoint(path)
    for weight in model.weights:
        assert weight.dtype == "float32"
    official = golden("xydeblur")
    found = model(official["x"])
    np.testing.assert_allclose(found[:, 0], official["out/2"], rtol=0, atol=5e-3)


def test_many_names_make_no_large_network(golden):
    state = golden("nafnet_mhc_k4").state()
    number = np.zeros(1, "float32")
    state |= {f"middle_blks.{index}.beta": number for index in range(1, 5000)}
    found = recognize(state)
    assert found.arguments["middle_blocks"] == 5000
    with pytest.raises(ValueError, match="makes no NAFNet: .* larger than the file"):
        build_model(state, found, {})


def test_tied_weights_must_agree(official_file):
    name = "shallow_feat1.1.body.1.weight"
    path = official_file("mprnet_mhc_k4", **{name: np.full(1, 0.5, "float32")})
    with pytest.raises(ValueError, match=f"unequal: .*{name}"):
        from_torch_checkpoint(path)
