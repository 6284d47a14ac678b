"""Calibrations, fitted to a population whose answers are known."""

import dataclasses

import numpy as np
import pytest

from keras_mhdeblur.evaluation import calibrating
from keras_mhdeblur.evaluation.calibrating import (
    example,
    fit_calibration,
    image_psnr,
    records,
)
from keras_mhdeblur.evaluation.image_sets import Pair
from keras_mhdeblur.hypotheses.pairs import Pairs
from keras_mhdeblur.hypotheses.selection import HeadInfo

SELECTION = HeadInfo(Pairs(1, False)).parse("mean")


def population(count, seed, contrasts=(0.05, 0.2), name="scene"):
    """Photos of 64x64 pixels; restoring helps those with contrast and harms others.

    The blurry photo's error is noise of 0.05. What restoring changes takes three
    quarters of it away where the contrast is high, and adds as much where it is low.
    """
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:64, :64] / 64
    found = []
    for index in range(count):
        contrast = random.uniform(*contrasts)
        phase = random.uniform(0, 6)
        waves = contrast * np.sin(8 * rows + phase) * np.cos(6 * columns)
        sharp = np.repeat(0.5 + waves[..., None], 3, axis=2).astype("float32")
        error = random.normal(0, 0.05, sharp.shape).astype("float32")
        change = (-0.75 if contrast > 0.12 else 0.75) * error
        blurry = np.clip(sharp + error, 0, 1)
        heads = (blurry + change)[None]
        scene = f"{name} {index % 10}"
        found.append(example(heads, SELECTION, blurry, sharp, scene, random))
    return found


@pytest.fixture(scope="module")
def fitted():
    seen = population(200, 0)
    return seen, fit_calibration(seen, 1, "a model", steps=1000)


def test_gate_keeps_what_helps_and_nothing_else(fitted):
    _, calibration = fitted
    fresh = records(population(200, 1), calibration)
    assert fresh["ungated_worse"] > 60
    assert fresh["worse"] <= 4
    # An oracle gains 12 dB in the half that it restores.
    assert fresh["gain"] > 0.75 * 12 * 0.53


def test_statements_hold_for_new_photos(fitted):
    _, calibration = fitted
    fresh = records(population(300, 2), calibration)
    assert fresh["bound"] == pytest.approx(0.9, abs=0.07)
    assert fresh["band"] == pytest.approx(0.9, abs=0.04)
    assert fresh["probability"] == pytest.approx(fresh["gained"], abs=0.1)
    assert fresh["familiar"] > 0.95


def test_statements_without_a_gate(fitted):
    calibration = fit_calibration(fitted[0], 1, "a model", steps=1000, gate=False)
    fresh = records(population(200, 1), calibration)
    assert calibration.gate is None
    assert fresh["gain"] == fresh["ungated"] and fresh["kept"] == 0
    assert abs(fresh["bound"] - 0.9) < 0.07
    assert abs(fresh["probability"] - fresh["gained"]) < 0.05


def test_gate_learns_of_training_pairs(fitted):
    # The pairs that choose hold none that restoring harms.
    good = population(100, 3, (0.13, 0.2))
    both = population(100, 4, name="other")
    gates = [
        fit_calibration(good, 1, "a model", training, steps=500)
        for training in ((), both)
    ]
    harmed = population(50, 5, (0.05, 0.1))
    without, with_training = (records(harmed, gate)["worse"] for gate in gates)
    assert without > 40
    assert with_training == 0
    assert gates[1].pairs == 100


def test_training_pairs_of_the_same_scenes(fitted):
    seen, _ = fitted
    with pytest.raises(ValueError, match="Received: both of 'scene 0'"):
        fit_calibration(seen, 1, "a model", seen[:10])


def test_others_are_not_familiar(fitted):
    seen, calibration = fitted
    one = seen[0]
    sums = one.sums.copy()
    sums[2] *= 1.9  # brightness
    assert calibration.statement(one.sums, 1.0).familiar
    assert not calibration.statement(sums, 1.0).familiar


def test_same_seed_same_calibration(fitted):
    seen, _ = fitted
    one, other = (fit_calibration(seen, 1, "a model", steps=20) for _ in range(2))
    assert one.threshold == other.threshold
    np.testing.assert_allclose(one.residuals, other.residuals, atol=1e-3)


def test_psnr_of_a_share():
    random = np.random.default_rng(0)
    # With contrast, or the guard would keep the photo.
    sharp = np.full((32, 32, 3), 0.5, "float32")
    sharp += np.float32(0.3) * np.sin(np.arange(32, dtype="float32"))[:, None]
    blurry, heads = sharp + np.float32(0.1), (sharp + np.float32(0.02))[None]
    one = example(heads, SELECTION, blurry, sharp, "scene", random)
    before, after = image_psnr(one, 0.5)
    assert before == pytest.approx(20, abs=1e-3)
    assert after == pytest.approx(-20 * np.log10(0.06), abs=1e-3)
    error, change, row, column = one.samples[0]
    assert error == pytest.approx(0.1) and change == pytest.approx(-0.08)
    assert {row, column} <= {0, 1}


def test_isotonic_probabilities():
    scores = np.array([1.0, 2.0, 3.0, 4.0])
    levels, likely = calibrating._increasing(scores, np.array([0, 1, 0, 1]))
    # The two in the middle are one step: one of two, and Laplace's one of each.
    np.testing.assert_allclose(levels, [1, 2.5, 4])
    np.testing.assert_allclose(likely, [1 / 3, 1 / 2, 2 / 3])


def test_too_few(fitted):
    seen, _ = fitted
    with pytest.raises(ValueError, match="Received: 99 pairs of 10 scenes"):
        fit_calibration(seen[:99], 1, "a model")
    alike = [dataclasses.replace(one, scene="one") for one in seen]
    with pytest.raises(ValueError, match="Received: 200 pairs of 1 scenes"):
        fit_calibration(alike, 1, "a model")


def test_sizes_that_differ():
    from keras_mhdeblur import Deblurrer, networks

    model = Deblurrer(networks.NAFNet(4, (1,), 1, (1,), num_heads=1))
    small, large = (np.zeros((size, 16, 3), "uint8") for size in (16, 24))
    pair = Pair("a/0001", "a", small, large, "scene")
    with pytest.raises(ValueError, match="images of one size"):
        calibrating.calibrate(model, [pair])
    with pytest.raises(ValueError, match="must have a calibration"):
        calibrating.check_calibration(model, [pair])
