import keras
import numpy as np
import pytest

import keras_mhdeblur as mhd
from keras_mhdeblur.experimental import winner_metrics
from keras_mhdeblur.experimental.winner_predictor import WinnerPredictor

pytestmark = pytest.mark.slow


def two_shifts(shift=0.1):
    """A model whose two heads are the image, brighter and darker by a shift."""
    network = mhd.networks.NAFNet(4, (1, 1), 1, (1, 1), num_heads=2)
    kernel, bias = network.get_layer("heads").weights
    kernel.assign(np.zeros(kernel.shape))
    bias.assign(np.repeat([shift, -shift], 3))
    return mhd.Deblurrer(network, combine_heads=False)


def all_metrics():
    m = winner_metrics
    return {
        name: [m.WinnerAccuracy(), m.MajorityAccuracy(), m.CalibrationError(),
               m.SelectionRegret()]
        for name in ("image", "blocks")
    }  # fmt: skip


def in_pixels(blocks):
    return np.repeat(np.repeat(blocks, 16, axis=-2), 16, axis=-1)[..., None]


def bright_and_dark(count, seed, share=0.2, rows=3, columns=3):
    """Noisy images of bright and dark blocks; labels are brighter where they are dark.

    Most blocks of an image are bright, or most are dark.

    Returns:
        (images, labels, dark): dark blocks (count, rows, columns).
    """
    rng = np.random.default_rng(seed)
    dark = rng.random((count, rows, columns)) < share
    dark ^= np.arange(count)[:, None, None] % 2 == 0
    noise = rng.uniform(-0.2, 0.2, (count, 16 * rows, 16 * columns, 3))
    images = (in_pixels(np.where(dark, 0.3, 0.7)) + noise).astype("float32")
    labels = images + in_pixels(np.where(dark, 0.1, -0.1)).astype("float32")
    return images, labels, dark


@pytest.fixture(scope="module")
def trained():
    """A predictor, and what its `Deblurrer` was before it was trained."""
    keras.utils.set_random_seed(0)
    model = two_shifts()
    before = [np.array(weight) for weight in model.weights]
    photo = bright_and_dark(1, seed=1)[0][0, :31, :45]
    restored = model.restore(photo, guard=False)
    predictor = WinnerPredictor(model)
    optimizer = keras.optimizers.AdamW(0.01, weight_decay=0.1)
    predictor.compile(optimizer, metrics=all_metrics())
    images, labels, _ = bright_and_dark(16 * 150, seed=0)
    predictor.fit(images, labels, batch_size=16, verbose=0)
    return predictor, before, photo, restored


def test_learns_a_visible_rule(trained):
    predictor = trained[0]
    images, labels, _ = bright_and_dark(64, seed=2)
    scores = predictor.evaluate(images, labels, return_dict=True, verbose=0)
    for output in ("image", "blocks"):
        assert scores[f"{output}_majority_accuracy"] < 0.6
        assert scores[f"{output}_accuracy"] > 0.95
        assert scores[f"{output}_calibration_error"] < 0.05
        assert scores[f"{output}_regret"] < 1


def test_deblurrer_does_not_change(trained):
    predictor, before, photo, restored = trained
    model = predictor.deblurrer
    for weight, old in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight, old)
    again = model.restore(photo, guard=False)
    np.testing.assert_array_equal(again.image, restored.image)
    np.testing.assert_array_equal(again.hypotheses, restored.hypotheses)
    assert all(weight.trainable for weight in model.network.trainable_weights)


def test_restore_selects_by_it(trained):
    predictor, _, photo, restored = trained
    dark = bright_and_dark(1, seed=1)[2][0]
    labels = predictor.labels(photo)
    expected = np.where(in_pixels(dark)[:31, :45, 0], 0, 1)
    np.testing.assert_array_equal(labels, expected)
    composed = restored.compose(labels, feather=0).image
    np.testing.assert_allclose(
        composed, photo + np.where(expected, -0.1, 0.1)[..., None], atol=1e-6
    )
    weights = predictor.image_weights(photo)
    assert weights.argmax() == 0 and dark.mean() > 0.5
    mean = restored.select(weights).image
    np.testing.assert_allclose(mean, photo + 0.1 * (weights[0] - weights[1]), atol=1e-6)
    again = predictor.deblurrer.restore(
        photo, select=weights, hypotheses=False, guard=False
    )
    np.testing.assert_allclose(again.image, mean, atol=1e-6)
    assert predictor.block_weights(photo).shape == (2, 3, 2)


def test_round_trip(trained, tmp_path):
    predictor, _, photo, restored = trained
    predictor.save(tmp_path / "predictor.keras")
    copy = keras.saving.load_model(tmp_path / "predictor.keras")
    for output in ("image_weights", "block_weights"):
        np.testing.assert_array_equal(
            getattr(copy, output)(photo), getattr(predictor, output)(photo)
        )
    again = copy.deblurrer.restore(photo, guard=False)
    np.testing.assert_array_equal(again.image, restored.image)
    images, labels, _ = bright_and_dark(4, seed=3)
    scores = [each.evaluate(images, labels, verbose=0) for each in (copy, predictor)]
    np.testing.assert_allclose(*scores, rtol=1e-5)
    predictor.save_weights(tmp_path / "predictor.weights.h5")
    other = WinnerPredictor(two_shifts(0.3))
    other.load_weights(tmp_path / "predictor.weights.h5")
    np.testing.assert_array_equal(
        other.image_weights(photo), predictor.image_weights(photo)
    )


def test_probabilities_are_frequencies():
    # Of ten bright images the second head wins nine, of ten dark ones the first seven.
    bright = np.arange(20) < 10
    second = np.isin(np.arange(20), (*range(9), 17, 18, 19))
    images = np.where(bright, 0.7, 0.3)[:, None, None, None] * np.ones((16, 16, 3))
    labels = images + np.where(second, -0.1, 0.1)[:, None, None, None]
    predictor = WinnerPredictor(two_shifts())
    predictor.compile(keras.optimizers.Adam(0.02), metrics=all_metrics())
    # One long epoch takes a third of the time of many.
    many = [np.tile(each, (150, 1, 1, 1)) for each in (images, labels)]
    predictor.fit(*many, batch_size=20, shuffle=False, verbose=0)
    for gray, expected in ((0.7, [0.1, 0.9]), (0.3, [0.7, 0.3])):
        photo = np.full((16, 16, 3), gray, "float32")
        np.testing.assert_allclose(predictor.image_weights(photo), expected, atol=0.02)
        np.testing.assert_allclose(
            predictor.block_weights(photo)[0, 0], expected, atol=0.02
        )
    scores = predictor.evaluate(
        images, labels, batch_size=20, return_dict=True, verbose=0
    )
    for output in ("image", "blocks"):
        np.testing.assert_allclose(scores[f"{output}_accuracy"], 0.8)
        np.testing.assert_allclose(scores[f"{output}_majority_accuracy"], 0.6)
        assert scores[f"{output}_calibration_error"] < 0.03
        # The wrong head is off by 0.2, the right one by nothing: 100 dB count.
        expected = 0.2 * (100 + 20 * np.log10(0.2))
        np.testing.assert_allclose(scores[f"{output}_regret"], expected, rtol=1e-4)


def test_every_network(kind, images):
    model = mhd.Deblurrer(kind.small(), tlc_train_size=kind.statistics(64))
    predictor = WinnerPredictor(model)
    photos = images(2, 31, 45)
    outputs = predictor(photos)
    assert outputs["image"].shape == (2, model.num_hypotheses)
    assert outputs["blocks"].shape == (2, 2, 3, model.num_hypotheses)
    expected = model(photos)
    found = mhd.layers.HeadCombination(model.combine_heads)(outputs["heads"])
    np.testing.assert_array_equal(found, expected)


def test_small():
    network = mhd.networks.NAFNet(16, (1, 1), 1, (1, 1), num_heads=4)
    assert WinnerPredictor(mhd.Deblurrer(network)).count_params() < 20_000


def test_refusals(images):
    predictor = WinnerPredictor(two_shifts())
    with pytest.raises(ValueError, match=r"Received: image.shape=\(2, 16, 16, 3\)"):
        predictor.image_weights(images(2, 16, 16))
    inputs = keras.Input((None, None, 3))
    network = keras.Model(inputs, inputs[:, None])
    network.num_heads = 1
    with pytest.raises(ValueError, match="Received: deblurrer.network="):
        WinnerPredictor(mhd.Deblurrer(network))
