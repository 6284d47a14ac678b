"""Coverage of the frames of an exposure, against known answers."""

import numpy as np
import pytest

from keras_mhdeblur.evaluation.frame_coverage import (
    best_division,
    coverage,
    eight_orientations,
)
from keras_mhdeblur.metrics import PSNROverall


def levels(*values):
    """Images of one colour."""
    return np.stack([np.full((8, 8, 3), value, "float32") for value in values])


def decibels(*differences):
    return np.mean([-10 * np.log10(d**2 + 1e-10) for d in differences])


def test_nearest_image_of_every_frame_counts():
    frames = levels(0.2, 0.3, 0.6, 0.7)
    images = levels(0.21, 0.72)
    scores = coverage(lambda blurry: images, [(levels(0.45)[0], frames)])
    both = decibels(0.01, 0.09, 0.12, 0.02)
    one = (decibels(0.01, 0.09, 0.39, 0.49) + decibels(0.52, 0.42, 0.12, 0.02)) / 2
    assert scores["curve"] == pytest.approx([one, both], abs=1e-3)
    assert scores["coverage"] == scores["curve"][-1]
    assert scores["input"] == pytest.approx(decibels(0.25, 0.15, 0.15, 0.25), abs=1e-3)
    assert scores["middle"] == pytest.approx(decibels(0.135), abs=1e-3)
    # One mean of all frames; then a mean of either half.
    bound = [decibels(0.25, 0.15, 0.15, 0.25), decibels(0.05)]
    assert scores["bound"] == pytest.approx(bound, abs=1e-3)
    nearest = np.array(scores["nearest"])
    assert nearest[0, [0, 2]].tolist() == [1, 1] == nearest[1, [5, 7]].tolist()


def test_curve_of_subsets_equals_all_subsets():
    random = np.random.default_rng(0)
    frames = random.uniform(size=(5, 4, 4, 3)).astype("float32")
    images = random.uniform(size=(3, 4, 4, 3)).astype("float32")
    curve = coverage(lambda blurry: images, [(frames[0], frames)])["curve"]
    pairs = [
        coverage(lambda blurry, two=two: images[list(two)], [(frames[0], frames)])
        for two in ((0, 1), (0, 2), (1, 2))
    ]
    assert curve[1] == pytest.approx(np.mean([p["coverage"] for p in pairs]), abs=1e-3)


def test_best_division_has_the_least_error():
    frames = np.array([[0.0], [0.1], [1.0], [1.1], [5.0]])
    runs = best_division(frames @ frames.T, 3)
    assert runs == [slice(0, 2), slice(2, 4), slice(4, 5)]


def test_interval_is_of_the_exposures():
    exposures = [(levels(0.5)[0], levels(0.5, v)) for v in (0.5, 0.6, 0.9)]
    scores = coverage(lambda blurry: blurry[None], exposures)
    low, high = scores["interval"]
    assert min(scores["per_exposure"]) <= low < scores["coverage"] < high
    assert high <= max(scores["per_exposure"])


def test_orientations_are_turned_back():
    image = np.random.default_rng(0).uniform(size=(8, 12, 3)).astype("float32")
    images = eight_orientations(lambda x: np.roll(x, 1, axis=0)[None])(image)
    expected = [np.roll(image, shift, axis) for shift in (1, -1) for axis in (0, 1)]
    for moved in expected:
        assert sum(np.array_equal(moved, found) for found in images) == 2


def test_frames_of_another_shape():
    with pytest.raises(ValueError, match=r"Received: shapes \(8, 8, 3\) and \(2, 4"):
        coverage(lambda blurry: blurry[None], [(levels(0)[0], np.zeros((2, 4, 4, 3)))])
    with pytest.raises(ValueError, match="at least one"):
        coverage(lambda blurry: blurry[None], [])


def test_coverage_is_the_metric_of_several_targets():
    random = np.random.default_rng(0)
    frames = random.uniform(size=(2, 5, 4, 4, 3)).astype("float32")
    images = random.uniform(size=(2, 3, 4, 4, 3)).astype("float32")
    metric = PSNROverall()
    metric.update_state(frames, images)
    rows = iter(images)
    scores = coverage(lambda blurry: next(rows), [(f[0], f) for f in frames])
    assert scores["coverage"] == pytest.approx(float(metric.result()), abs=1e-3)
