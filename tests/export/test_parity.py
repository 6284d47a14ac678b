"""Comparison of an exported model with Keras, with exports that are wrong by design."""

import json
import math

import numpy as np
import pytest
from PIL import Image

from keras_mhdeblur.export import Report, output_graph
from keras_mhdeblur.export.parity import (
    Bound,
    Difference,
    compare,
    comparison_images,
    crop_or_mirror,
)
from keras_mhdeblur.photos import ImageFileError


def test_difference():
    found, expected = np.full((4, 5, 3), 0.5, "float32"), np.full((4, 5, 3), 0.4)
    found[0, 0, 0] = 0.9
    difference = Difference.of(found, expected)
    assert difference.max == pytest.approx(0.5)
    assert difference.mean == pytest.approx(0.1 + 0.4 / 60)
    mse = (0.01 * 59 + 0.25) / 60
    assert difference.psnr == pytest.approx(-10 * math.log10(mse))
    assert Difference.of(expected, expected) == Difference(0, 0, 200)
    with pytest.raises(ValueError, match=r"\(4, 5, 3\).*Received: shape=\(5, 3\)"):
        Difference.of(expected[0], expected)


def test_bounds():
    close = Difference(max=1e-5, mean=1e-6, psnr=110.0)
    assert Bound(max_difference=1e-5).holds(close)
    assert not Bound(max_difference=9e-6).holds(close)
    assert Bound(psnr=110).holds(close) and not Bound(psnr=111).holds(close)
    nothing = Difference(math.nan, math.nan, math.nan)
    assert not Bound(max_difference=1).holds(nothing)
    assert not Bound(psnr=0).holds(nothing)
    assert str(Bound(psnr=60)) == "PSNR at least 60 dB"


@pytest.fixture
def report_of(model, images):
    """Output, error that is added to it, and bound, to the report of a comparison."""
    graph = output_graph(model, "all")

    def make(output, error, bound, path):
        def run(images):
            found = {name: np.array(value) for name, value in graph(images).items()}
            kept = found if output == "all" else {"image": found["image"]}
            return {name: value + error for name, value in kept.items()}

        return compare(
            model,
            run,
            [images(1, 9, 14)[0], images(1, 8, 8)[0]],
            output=output,
            tlc_train_size="model",
            path=path,
            format="litert",
            size=None,
            weights="float32",
            num_bytes=2_500_000,
            bound=bound,
        )

    return make


def test_report(report_of, tmp_path):
    path = tmp_path / "model.tflite"
    report = report_of("all", 0.01, Bound(max_difference=0.011), path)
    assert isinstance(report, Report) and report.passed
    assert report.tlc_train_size == 8
    report.write(tmp_path)
    content = json.loads((tmp_path / "model.tflite.json").read_text())
    assert content["path"] == "model.tflite" and content["passed"] is True
    assert content["bound"] == {"max_difference": 0.011, "psnr": None}
    first, second = content["comparisons"]
    assert first["size"] == [9, 14] and second["size"] == [8, 8]
    assert set(first["differences"]) == {"image", "hypotheses", "uncertainty"}
    for difference in first["differences"].values():
        assert difference["max"] == pytest.approx(0.01, abs=1e-4)
        assert difference["mean"] == pytest.approx(0.01, abs=1e-4)
        assert difference["psnr"] == pytest.approx(40, abs=0.1)
    assert 0 < first["ms"] < 1e5 and 0 < first["keras_ms"] < 1e5
    text = str(report)
    assert "model.tflite: litert, all, any size" in text and "2.50 MB" in text
    assert "within the bound: largest difference at most 0.011" in text


def test_report_of_a_wrong_export(report_of, tmp_path):
    exact = Bound(max_difference=1e-4)
    assert report_of("mean", 0, exact, tmp_path / "m").passed
    # The graph's mean is not this pair's average.
    with pytest.warns(UserWarning, match=r"differs from Keras:\s.*heads 1\+1"):
        assert not report_of((1, 1), 0, exact, tmp_path / "m").passed
    with pytest.warns(UserWarning, match="differs from Keras"):
        report = report_of("mean", math.nan, exact, tmp_path / "m")
    assert not report.passed and "NOT within the bound" in str(report)
    report.write(tmp_path)
    content = json.loads((tmp_path / "m.json").read_text())
    assert content["comparisons"][0]["differences"]["image"]["max"] is None


def test_comparison_images(images, tmp_path):
    whole, odd = comparison_images(None, None)
    assert whole.shape == (256, 256, 3) and odd.shape == (171, 231, 3)
    np.testing.assert_array_equal(odd, whole[42:213, 12:243])
    assert 0 <= whole.min() < 0.2 and 0.8 < whole.max() <= 1 and whole.std() > 0.1
    # The middle of a large photo, all of a small one.
    large = images(1, 700, 20)[0]
    middle, odd = comparison_images(large, None)
    np.testing.assert_array_equal(middle, large[94:606])
    assert odd.shape == (341, 19, 3)
    (fixed,) = comparison_images(large, (10, 50))
    assert fixed.shape == (10, 50, 3)
    np.testing.assert_array_equal(fixed[:, 15:35], large[345:355])
    with pytest.raises(ImageFileError):
        comparison_images(tmp_path / "none.png", None)
    with pytest.raises(ValueError, match="`photo`.*shape"):
        comparison_images(np.zeros((4, 5, 2)), None)
    for gray in (np.zeros((4, 5)), Image.new("L", (5, 4))):
        assert comparison_images(gray, None)[0].shape == (4, 5, 3)


def test_crop_or_mirror():
    row = np.arange(4.0)[None, :, None]
    assert crop_or_mirror(row, 1, 2)[0, :, 0].tolist() == [1, 2]
    assert crop_or_mirror(row, 1, 7)[0, :, 0].tolist() == [0, 0, 1, 2, 3, 3, 2]
    assert crop_or_mirror(row, 3, 1)[:, 0, 0].tolist() == [1, 1, 1]
