"""What `mhdeblur restore` and `mhdeblur calibrate` say of photos."""

import dataclasses
import json

import numpy as np
import pytest
import yaml
from PIL import Image

from keras_mhdeblur import Deblurrer, cli, from_preset, networks
from keras_mhdeblur.hypotheses.calibration import Calibration
from keras_mhdeblur.hypotheses.moments import NUM_PHOTO_FEATURES
from keras_mhdeblur.hypotheses.perceptron import Perceptron
from keras_mhdeblur.presets.litert import choice_fingerprint


def saying(share, probability, model):
    """A calibration that says the same of all photos."""

    def constant(value, size):
        zeros = np.zeros((1, size))
        return Perceptron(
            zeros[0], zeros[0] + 1, zeros, np.zeros(1), np.zeros(1), np.float64(value)
        )

    size = NUM_PHOTO_FEATURES + 6
    return Calibration(
        fingerprint=choice_fingerprint(model),
        num_heads=1,
        gate=constant(np.log(share / (1 - share)), size),
        threshold=0.0,
        error=constant(30, size + 1),
        gain=constant(1, size + 1),
        residuals=np.zeros(101),
        scores=np.array([1.0]),
        probabilities=np.array([probability]),
        widths=np.ones(101),
        lowest=np.full(NUM_PHOTO_FEATURES, -50.0),
        highest=np.full(NUM_PHOTO_FEATURES, 50.0),
        pairs=100,
    )


@pytest.fixture(scope="module")
def model():
    network = networks.NAFNet(4, (0,), 1, (0,), num_heads=1)
    kernel, bias = network.get_layer("heads").weights
    kernel.assign(0 * kernel)
    bias.assign(bias + 8 / 255)
    return Deblurrer(network)


@pytest.fixture
def photo(tmp_path):
    waves = 120 + 60 * np.sin(np.arange(48) / 4)
    pixels = np.tile(waves[:, None, None], (1, 48, 3)).astype("uint8")
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def run(*arguments):
    return cli.main([str(argument) for argument in arguments])


def test_a_line_for_every_photo_and_a_limit(model, photo, tmp_path, capfd):
    output = tmp_path / "out.png"
    for share, probability, written, line in (
        (0.9, 0.8, True, "likely better: 80 %; at least 30.0 dB with 90 %"),
        (0.9, 0.6, False, "better with a probability of 0.60, less than"),
        (0.1, 0.8, False, "left as it is: a gain is not certain (--no-guard"),
    ):
        model.calibration = saying(share, probability, model)
        model.save_to_preset(tmp_path / "preset")
        options = "--preset", tmp_path / "preset", "--output", output
        limit = "--min-gain-probability", "0.7"
        assert run("restore", photo, *options, *limit) == 0
        assert line in capfd.readouterr().err
        assert output.exists() == written
        output.unlink(missing_ok=True)
    assert run("restore", photo, *options, *limit, "--no-guard") == 2
    assert "needs a preset with a calibration" in capfd.readouterr().err
    with pytest.raises(SystemExit):
        run("restore", photo, *options, "--min-gain-probability", "90")
    assert "from 0 to 1, not '90'" in capfd.readouterr().err
    model.calibration = None


def test_calibrate_writes_and_checks(model, photo, tmp_path, monkeypatch, capfd):
    model.save_to_preset(tmp_path / "preset")
    for name in "ab":
        (tmp_path / name).mkdir()
        Image.open(photo).save(tmp_path / name / "1.png")
    text = yaml.safe_dump({"pairs": [{"kind": "pairs", "blurry": "a", "sharp": "b"}]})
    (tmp_path / "set.yaml").write_text(text)
    images = "--set", tmp_path / "set.yaml", "--data", tmp_path
    assert run("calibrate", tmp_path / "preset", *images) == 2
    assert "at least 100 of at least 5 scenes" in capfd.readouterr().err

    def fitted(seen, num_heads, fingerprint, training, seed, gate):
        assert len(seen) == 1 == len(training) and gate
        found = saying(0.9, 0.8, model)
        return dataclasses.replace(found, fingerprint=fingerprint)

    monkeypatch.setattr("keras_mhdeblur.evaluation.calibrating.fit_calibration", fitted)
    report = "--report", tmp_path / "set.yaml", "-o", tmp_path / "checks.json"
    train = "--train", tmp_path / "set.yaml"
    assert run("calibrate", tmp_path / "preset", *images, *train, *report) == 0
    assert "Bound: images above" in capfd.readouterr().out
    kinds = json.loads((tmp_path / "checks.json").read_text())
    # The input is the label: 8 levels of change, nine tenths of which are kept.
    assert kinds["pairs"]["worse"] == 1 == kinds["all"]["ungated_worse"]
    assert from_preset(tmp_path / "preset").calibration.pairs == 100
    assert run("calibrate", "nafnet_mh_c", *images) == 2
    assert "no folder of a preset" in capfd.readouterr().err
    assert run("calibrate", tmp_path / "preset", *train, *images[2:]) == 2
    assert "--train needs --set" in capfd.readouterr().err
    assert run("calibrate", tmp_path / "preset", "--data", tmp_path) == 2
    assert "name images" in capfd.readouterr().err
