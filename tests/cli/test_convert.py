"""`mhdeblur convert`."""

import json
import sys
from hashlib import sha256

import numpy as np
import pytest

from keras_mhdeblur import cli, from_preset


@pytest.fixture(autouse=True)
def no_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)


def run(*arguments):
    return cli.main([str(argument) for argument in arguments])


def assert_official(golden, model, name):
    """The model's outputs are the official ones."""
    golden = golden(name)
    (error,) = np.atleast_1d(golden.config["f32_vs_f64_maxabs"])
    tolerance = max(1e-6, 10 * error)
    found = model(golden["x"])
    np.testing.assert_allclose(found, golden["out/0"], rtol=0, atol=tolerance)


def test_command(golden, official_file, tmp_path, capfd):
    path = official_file("nafnet_mhc_k4")
    (tmp_path / "LICENSE").write_text("Do as you like.\n")
    output = tmp_path / "new" / "converted"
    license = ("--license", "MIT", "--license-file", tmp_path / "LICENSE")
    assert run("convert", path, "--output", output, *license) == 0
    out, err = capfd.readouterr()
    digest = sha256(path.read_bytes()).hexdigest()
    state = golden("nafnet_mhc_k4").state()
    assert f"nafnet_mhc_k4.pth: {len(state)} weights in params\n" in out
    assert digest in out
    (network,) = [line for line in out.splitlines() if "NAFNet: " in line]
    assert "width=8, encoder_blocks=(1, 1, 2), middle_blocks=1" in network
    assert "num_heads=4" in network
    assert "tlc_train_size=None, combine_heads=True" in out
    assert out.splitlines()[-1].startswith(f"Wrote {output}.")
    assert err == ""

    metadata = json.loads((output / "metadata.json").read_text())
    assert metadata["source"] == {
        "file": path.name,
        "sha256": digest,
        "entry": "params",
        "assumed": {"tlc_train_size": None, "combine_heads": True},
        "set": {},
    }
    assert metadata["license"] == "MIT"
    assert metadata["license_text"] == "Do as you like.\n"
    card = (output / "README.md").read_text()
    assert digest in card and "## Licence\n\nDo as you like.\n" in card
    assert "license: mit" in card
    assert_official(golden, from_preset(output), "nafnet_mhc_k4")


@pytest.mark.slow
def test_command_with_settings(golden, official_file, tmp_path, capfd):
    settings = ("--set", "combine_heads=false", "--architecture", "nafnet")
    path = official_file("nafnet_mh_k3")
    (tmp_path / "LICENSE").write_text("Do as you like.\n")
    license = ("--license-file", tmp_path / "LICENSE")
    output = tmp_path / "p"
    assert run("convert", path, "-o", output, *settings, *license) == 0
    out, err = capfd.readouterr()
    assert "Assumed     tlc_train_size=None (change" in out
    assert "Set         combine_heads=False\n" in out
    assert "license: other" in (output / "README.md").read_text()
    assert_official(golden, from_preset(output), "nafnet_mh_k3")


@pytest.mark.slow
def test_setting_in_scientific_notation(official_file, tmp_path):
    path = official_file("hinet_mhc_k4")
    assert run("convert", path, "-o", tmp_path / "p", "--set", "relu_slope=1e-1") == 0
    assert from_preset(tmp_path / "p").network.relu_slope == 0.1


def test_command_without_licence(official_file, tmp_path, capfd):
    assert run("convert", official_file("xydeblur"), "-o", tmp_path / "p") == 0
    out, err = capfd.readouterr()
    assert "weights in model" in out and "Assumed" not in out
    assert "warning: no licence is recorded" in err


@pytest.mark.parametrize(
    ("changes", "arguments", "expected"),
    [
        (
            {"encoders.1.0.beta": None, "encoders.1.0.extra": np.zeros(2, "float32")},
            (),
            "does not fit the NAFNet:\n  missing: encoders.1.0.beta\n"
            "  surplus: encoders.1.0.extra",
        ),
        (
            {"ending.bias": np.zeros(9, "float32")},
            (),
            "misshapen: ending.bias (9,)",
        ),
        ({"intro.weight": None}, (), "size of a NAFNet:\n  missing: intro.weight"),
        ({}, ("--architecture", "hinet"), "missing: conv_01.weight"),
        ({}, ("--architecture", "unet"), "must be auto, nafnet"),
        ({}, ("--entry", "ema"), "no entry 'ema'; its entries: 'params'"),
        ({}, ("--set", "combine"), "--set takes NAME=VALUE, not 'combine'"),
        ({}, ("--set", "a=["), "the value is no YAML"),
        ({}, ("--set", "width_=3"), "no option 'width_'. Did you mean 'width'?"),
        ({}, ("--set", "width=wide"), "makes no NAFNet"),
        ({}, ("--set", "best_pair=1"), "makes no NAFNet"),
        ({}, ("--set", "best_pair=[9, 9]"), "heads from 0 to 3"),
        ({}, ("--set", "select=foo"), '"medoid"'),
        ({}, ("--set", "adaptive_weights=3"), "4 rows of 15"),
        ({}, ("--set", "combine_heads=maybe"), "`combine_heads` must be True or False"),
        ({}, ("--set", "tlc_train_size=0"), "one or two positive whole numbers"),
        ({}, ("--set", "width=16"), "misshapen: "),
        ({}, ("--license-file", "none"), "--license-file none: No such file or dir"),
    ],
)
def test_wrong_input(official_file, tmp_path, capfd, changes, arguments, expected):
    path = official_file("nafnet_mhc_k4", **changes)
    before = sorted(tmp_path.iterdir())
    assert run("convert", path, "-o", tmp_path / "new" / "p", *arguments) == 2
    err = capfd.readouterr().err
    assert err.startswith("mhdeblur: error: ") and expected in err
    assert "Traceback" not in err
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("kind", ["malicious", "truncated", "missing"])
def test_bad_files(checkpoints, official_file, tmp_path, bait, capfd, kind):
    bait, executed = bait
    path = official_file("xydeblur")
    if kind == "malicious":
        path = checkpoints.write_zip(path, {"params": bait})
    elif kind == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    else:
        path.unlink()
    before = sorted(tmp_path.iterdir())
    assert run("convert", path, "-o", tmp_path / "p") == 2
    out, err = capfd.readouterr()
    assert out == "" and str(path) in err and "Traceback" not in err
    if kind == "missing":
        assert err == f"mhdeblur: error: {path}: there is no such file\n"
    assert not executed() and sorted(tmp_path.iterdir()) == before


def test_folder_with_other_files_is_kept(official_file, tmp_path, capfd):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.jpg").write_text("")
    path = official_file("xydeblur")
    assert run("convert", path, "-o", tmp_path / "mine") == 2
    assert "would be lost" in capfd.readouterr().err
    assert [entry.name for entry in (tmp_path / "mine").iterdir()] == ["photo.jpg"]
