"""The gate and the statements of a calibrated model in `restore`."""

import dataclasses
import json
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_mhdeblur import Deblurrer, from_preset, networks
from keras_mhdeblur.engines.tiling import TilePlan, run_tiled
from keras_mhdeblur.evaluation import evaluate
from keras_mhdeblur.hypotheses.calibration import Calibration, at_pixels, gate_share
from keras_mhdeblur.hypotheses.moments import NUM_PHOTO_FEATURES, features, moments
from keras_mhdeblur.hypotheses.perceptron import Perceptron
from keras_mhdeblur.inference import restore
from keras_mhdeblur.inference.trust import MomentsOfTiles, calibration_of
from keras_mhdeblur.presets.litert import choice_fingerprint, litert_from_preset

PHOTOS = Path(__file__).parents[2] / "examples" / "photos"


def constant(value, size):
    """A perceptron that gives the same number for all features."""
    return Perceptron(
        np.zeros(size), np.ones(size), np.zeros((1, size)), np.zeros(1), np.zeros(1),
        np.float64(value),
    )  # fmt: skip


def calibration(model, gate=30.0, threshold=0.0, psnr=26.0, gain=1.0):
    """A calibration that says the same of all photos."""
    photo = np.random.default_rng(0).uniform(size=(32, 32, 3)).astype("float32")
    size = len(features(moments(np.stack([photo] * model.num_heads), photo).sum((1, 2)),
                        model.num_heads))  # fmt: skip
    return Calibration(
        fingerprint=choice_fingerprint(model),
        num_heads=model.num_heads,
        gate=constant(gate, size),
        threshold=threshold,
        error=constant(psnr, size + 1),
        gain=constant(gain, size + 1),
        residuals=np.linspace(-2, 2, 101),
        scores=np.array([0.0, 2.0]),
        probabilities=np.array([0.5, 0.9]),
        widths=np.linspace(0, 3, 101),
        lowest=np.full(NUM_PHOTO_FEATURES, -50.0),
        highest=np.full(NUM_PHOTO_FEATURES, 50.0),
        pairs=200,
    )


def adding(*offsets, **options):
    """A model whose heads add these offsets, in grey levels, to the input."""
    network = networks.NAFNet(4, (1,), 1, (1,), num_heads=len(offsets))
    kernel, bias = network.get_layer("heads").weights
    kernel.assign(0 * kernel)
    bias.assign(keras.ops.convert_to_tensor(np.repeat(offsets, 3) / 255))
    return Deblurrer(network, **options)


@pytest.fixture(scope="module")
def photo():
    """Waves: the guard takes noise for something sharp."""
    rows, columns = np.mgrid[:40, :56]
    waves = np.stack([rows, columns, rows + columns], axis=-1)
    return (120 + 60 * np.sin(waves / 4)).astype("uint8")


@pytest.mark.parametrize("hypotheses", [True, False])
def test_gate_keeps_all_part_or_nothing(photo, hypotheses):
    model = adding(8, 4)
    plain = model.restore(photo, hypotheses=hypotheses)
    assert plain.share == 1 and not plain.is_calibrated
    np.testing.assert_array_equal(plain.image, photo + 6)
    half = np.log(1.0)  # of the logistic function
    for gate, change in ((30.0, 6), (half, 3), (-30.0, 0)):
        model.calibration = calibration(model, gate)
        result = model.restore(photo, hypotheses=hypotheses)
        np.testing.assert_array_equal(result.image, photo + change)
        assert result.share == pytest.approx(change / 6, abs=1e-6)
    # Hypotheses are the network's; another selection is not gated.
    again = model.restore(photo)
    assert again.hypotheses[0].mean() > photo.mean() / 255 + 0.02
    np.testing.assert_array_equal(again.select((0, 0)).image, photo + 8)
    for options in ({"select": (0, 0)}, {"guard": False}, {"tlc_train_size": 8}):
        assert not model.restore(photo, **options).is_calibrated


def test_without_a_gate_all_is_kept(photo, tmp_path):
    model = adding(20.0, 10.0)
    free = dataclasses.replace(calibration(model, gate=-30.0), gate=None)
    model.calibration = free.get_config()
    result = restore(model, photo)
    assert (result.share, result.gain_probability) == (1, 0.7)
    np.testing.assert_array_equal(
        result.image, restore(model, photo, guard=False).image
    )
    model.calibration = dataclasses.replace(
        free, probabilities=np.array([0.1, 0.3])
    ).get_config()
    said = restore(model, photo).statement
    assert said.startswith("better with 20 % only; at least 2")


def test_a_kept_photo_is_kept_to_the_last_bit(photo):
    photo = photo.astype("uint16") * 251
    model = adding(8, 4)
    model.calibration = calibration(model, gate=-30, threshold=0.5)
    result = model.restore(photo)
    np.testing.assert_array_equal(result.image, photo)
    assert result.gain_probability == 0
    assert result.statement.startswith("left as it is")


def test_statements(photo):
    model = adding(8, 4)
    model.calibration = calibration(model)
    result = model.restore(photo)
    assert result.gain_probability == pytest.approx(0.7)
    assert result.psnr_lower_bound(0.9) == pytest.approx(26 - 1.6)
    assert result.psnr_lower_bound() < result.psnr_lower_bound(0.5) == 26
    low, high = result.band(0.5)
    half = 1.5 * 10 ** (-26 / 20)
    inside = (low > 0) & (high < 1)
    np.testing.assert_allclose((high - low)[inside], 2 * half, atol=1e-6)
    assert low.shape == photo.shape and inside.any()
    assert result.familiar
    assert result.statement == "likely better: 70 %; at least 24.4 dB with 90 %"
    batch = model.restore(np.stack([photo, photo]))
    np.testing.assert_allclose(batch.gain_probability, [0.7, 0.7])
    assert batch.band()[0].shape == (2, *photo.shape)
    with pytest.raises(ValueError, match="Received: level=90"):
        result.psnr_lower_bound(90)


def test_a_photo_unlike_all_others_is_not_familiar(photo):
    model = adding(8, 4)
    found = calibration(model)
    highest = found.highest.copy()
    highest[1] = -49.0
    model.calibration = dataclasses.replace(found, highest=highest)
    result = model.restore(photo)
    assert not result.familiar and result.statement.startswith("unlike the photos")


def test_gray_photos_stay_gray(photo):
    model = adding(8, 4)
    model.calibration = calibration(model, gate=0.0, threshold=0.0)
    result = model.restore(photo[..., 0])
    np.testing.assert_array_equal(result.image, photo[..., 0] + 3)
    assert result.band()[0].shape == (40, 56, 1)


def test_without_calibration(photo):
    result = adding(8, 4).restore(photo)
    for statement in (lambda: result.gain_probability, result.band):
        with pytest.raises(ValueError, match="evaluation.calibrate"):
            statement()


def test_calibration_is_of_weights_and_choices(photo):
    model, other = adding(8, 4), adding(8, 5)
    with pytest.raises(ValueError, match="present weights.*Received"):
        other.calibration = calibration(model)
    assert other.calibration is None
    model.calibration = calibration(model)
    assert model.restore(photo).is_calibrated
    model.select = (1, 0)
    assert not model.restore(photo).is_calibrated
    model.select = "mean"
    _, bias = model.network.get_layer("heads").weights
    bias.assign(bias + 0.01)
    assert not model.restore(photo).is_calibrated


def test_presets_keep_it(tmp_path, photo):
    pytest.importorskip("ai_edge_litert")
    model = adding(8, 4)
    model.calibration = calibration(model, gate=0.0, threshold=0.0)
    model.save_to_preset(tmp_path / "preset", dtype="float16", litert=True)
    expected = model.restore(photo)
    for loaded in (
        from_preset(tmp_path / "preset"),
        litert_from_preset(tmp_path / "preset"),
    ):
        result = restore(loaded, photo)
        np.testing.assert_array_equal(result.image, expected.image)
        assert result.gain_probability == pytest.approx(0.7)
    other = from_preset(tmp_path / "preset", select=(0, 0))
    assert not other.restore(photo).is_calibrated


def test_damaged_configurations(photo):
    model = adding(8, 4)
    config = json.loads(json.dumps(calibration(model).get_config()))
    assert Calibration.from_config(config).get_config() == config
    for name, value, message in (
        ("gate", 3, "must have the entries"),
        ("widths", ["a"], "Received: widths"),
        ("residuals", [float("nan")], "must be a list of numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            Calibration.from_config({**config, name: value})
    with pytest.raises(ValueError, match="must have the entries"):
        Deblurrer(model.network, calibration={"gate": {}})


def test_moments_by_hand():
    image = np.zeros((20, 16, 3), "float32")
    image[:, 8:] = 0.5
    heads = np.stack([image, image + 0.1])
    sums = moments(heads, image)
    assert sums.shape[1:] == (2, 1)
    np.testing.assert_allclose(sums[0, :, 0], [256, 64])
    values = features(sums.sum(axis=(1, 2)), 2)
    found = dict(zip(["quiet", "brightness", "variance"], values))
    assert found["brightness"] == pytest.approx(0.25)
    assert found["variance"] == pytest.approx(np.log(0.0625 + 1e-6), abs=1e-5)
    # The second head's change: its energy, no gradient, all of it mean.
    energies = values[NUM_PHOTO_FEATURES + 6 : NUM_PHOTO_FEATURES + 10]
    expected = [np.log(0.01), np.log(1e-8), np.log(0.01), 1]
    np.testing.assert_allclose(energies, expected, atol=1e-3)


def test_moments_of_tiles_are_those_of_the_photo(photo):
    image = photo.astype("float32") / 255
    plan = TilePlan([(0, 32), (16, 40)], [(0, 32), (16, 56)])
    tiles = MomentsOfTiles(plan)

    def tile(rows, columns):
        blurry = image[rows, columns]
        tiles.add(np.stack([blurry, blurry + 0.1]), blurry, rows, columns)
        return blurry[None]

    for _ in run_tiled(tile, plan):
        pass
    whole = moments(np.stack([image, image + 0.1]), image)
    assert tiles.sums.shape == whole.shape
    # Numbers of pixels and brightness depend on no neighbours.
    np.testing.assert_allclose(tiles.sums[[0, 2]], whole[[0, 2]], rtol=1e-5)
    one = MomentsOfTiles(TilePlan([(0, 40)], [(0, 56)]))
    one.add(np.stack([image, image + 0.1]), image, slice(0, 40), slice(0, 56))
    np.testing.assert_array_equal(one.sums, whole)


def test_shares_begin_at_the_threshold():
    shares = [gate_share(np.log(p / (1 - p)), 0.5, 1) for p in (0.4, 0.5, 0.75, 0.9)]
    assert shares == pytest.approx([0, 0, 0.5, 0.8])
    assert gate_share(1000, 0.9, 1) == pytest.approx(1)
    # Half of 1.9 levels is less than one.
    assert gate_share(0, 0, (1.9 / 255) ** 2) == 0


def test_a_change_that_nobody_sees_is_not_made(photo):
    floats = photo.astype("float32") / 255
    for levels, share in ((0.9, 0), (1.1, 1)):
        model = adding(levels, levels)
        model.calibration = calibration(model)
        result = model.restore(floats)
        assert result.share == pytest.approx(share)
        assert np.array_equal(result.image, floats) == (share == 0)


def test_blocks_fade_into_each_other():
    values = at_pixels(np.array([[0.0, 1.0]]), 0, 16, 32)
    assert values.shape == (16, 32)
    np.testing.assert_allclose(values[:, [0, 15, 16, 31]][0], [0, 15 / 32, 17 / 32, 1])


def test_evaluate_scores_the_gated_image(photo):
    model = adding(8, 8)
    model.calibration = calibration(model, gate=-30, threshold=0.5)
    blurry = photo.astype("float32") / 255
    sharp = blurry + np.float32(4 / 255)
    scores = evaluate(model, [(blurry[None], sharp[None])])
    assert scores["restored"]["psnr"] == scores["input"]["psnr"]
    model.calibration = calibration(model, gate=0, threshold=0.0)
    scores = evaluate(model, [(blurry[None], sharp[None])])
    assert scores["restored"]["psnr"] > scores["selected"]["psnr"] + 20


def test_the_default_preset_has_statements_and_no_gate():
    pytest.importorskip("ai_edge_litert")
    assert calibration_of(litert_from_preset("nafnet_maxim_mh_c")).gate is None


@pytest.mark.parametrize("path", sorted(PHOTOS.iterdir()), ids=lambda path: path.stem)
def test_example_photos_are_restored(path):
    """A gate that leaves them alone is no use, however rarely it errs."""
    model = litert_from_preset("nafnet_mh_c")
    assert restore(model, path, hypotheses=False).share > 0.5
