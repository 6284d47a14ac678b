import numpy as np
import pytest

from keras_mhdeblur import Deblurrer
from keras_mhdeblur.export.adaptive import AdaptiveMean
from keras_mhdeblur.hypotheses import adaptive
from keras_mhdeblur.hypotheses.selection import Adaptive
from keras_mhdeblur.inference.engine_choice import choose_engine
from keras_mhdeblur.networks import NAFNet


def tiny_model(**options):
    network = NAFNet(
        width=4,
        encoder_blocks=(1, 1),
        middle_blocks=1,
        decoder_blocks=(1, 1),
        num_heads=3,
    )
    rng = np.random.default_rng(0)
    for weight in network.weights:
        weight.assign(weight + rng.normal(0, 0.03, weight.shape))
    return Deblurrer(network, **options)


def some_coefficients(num_heads, seed=0):
    shape = (num_heads, 2 * num_heads + num_heads * (num_heads - 1) // 2 + 1)
    return np.random.default_rng(seed).normal(0, 0.3, shape).tolist()


def stripes(height, width, period=4):
    """(H, W, 3) of -1 and 1, as long each, changing along the rows."""
    return np.broadcast_to(
        np.where(np.arange(width) % period < period / 2, 1, -1)[:, None],
        (height, width, 3),
    ).astype("float32")


def test_features_known_answers():
    image = np.full((40, 50, 3), 0.5, "float32")
    heads = np.stack([image + 0.1 * stripes(40, 50), image - 0.2, image])
    energies, gradients, correlations = np.split(
        adaptive.features(heads, image)[1, 1], [3, 6]
    )
    floor = 1e-8
    np.testing.assert_allclose(energies, np.log([0.01, 0.04, floor]), atol=1e-2)
    # Of the 50 positions of a row every other one, less the last, steps by 0.2.
    np.testing.assert_allclose(
        gradients, np.log([0.04 * 24 / 50, floor, floor]), rtol=1e-3
    )
    # One more stripe is bright than dark: 0.02 of the mean.
    np.testing.assert_allclose(correlations, [-0.04, 0, 0], atol=1e-2)


def test_a_head_that_hardly_changes_the_image():
    """Its brightness is rounded by as much as a thousandth of what it changes."""
    rng = np.random.default_rng(0)
    image = rng.random((64, 64, 3), "float32")
    change = rng.normal(size=(2, 64, 64, 3))
    change = np.float32(image + [[[[2e-5]]], [[[0.1]]]] * change) - image
    heads = image + change
    values = adaptive.features(heads, image)

    rows = change[:, ::4].mean(axis=-1, dtype="float64").reshape(2, -1)
    energies = np.square(rows).mean(axis=1) + 1e-8
    expected = rows[0] @ rows[1] / rows.shape[1] / np.sqrt(energies.prod())
    np.testing.assert_allclose(values[0, 0, :2], np.log(energies), rtol=1e-6)
    np.testing.assert_allclose(values[0, 0, -1], expected, atol=1e-7)
    graph = AdaptiveMean(some_coefficients(2))._features(heads[None], image[None])
    np.testing.assert_allclose(graph[0, 0, 0, -1], expected, atol=1e-7)


def test_constant_weights(rng_heads):
    heads, image = rng_heads
    coefficients = np.zeros((3, 10))
    coefficients[:, -1] = np.log([0.5, 0.3, 0.2])
    np.testing.assert_allclose(
        Adaptive(coefficients).image(heads, image),
        np.einsum("k,khwc->hwc", [0.5, 0.3, 0.2], heads),
        atol=1e-5,
    )


def test_weights_follow_the_place():
    """The second head where it changes much, the first where it does not."""
    image = np.full((64, 640, 3), 0.5, "float32")
    bold = image.copy()
    bold[:, 320:] += 0.1
    bold[:, :320] += 1e-3
    coefficients = np.zeros((2, 6))
    coefficients[1, 1], coefficients[1, -1] = 10, 10 * 2 * np.log(100)
    result = Adaptive(coefficients).image(np.stack([image, bold]), image)
    np.testing.assert_array_equal(result[:, :200], 0.5)
    np.testing.assert_allclose(result[:, 440:], 0.6, atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (17, 33), (16, 3), (300, 20)])
def test_any_size_in_bands(size, monkeypatch):
    rng = np.random.default_rng(2)
    image = rng.uniform(0, 1, (*size, 3)).astype("float32")
    heads = image + rng.normal(0, 0.1, (3, *size, 3)).astype("float32")
    result = Adaptive(some_coefficients(3)).image(heads, image)
    assert result.shape == image.shape and np.isfinite(result).all()
    monkeypatch.setattr(adaptive, "_BAND", 32)
    bands = Adaptive(some_coefficients(3)).image(heads, image)
    np.testing.assert_allclose(bands, result, atol=1e-6)


def test_restore(without_guard):
    model = tiny_model(adaptive_weights=some_coefficients(3), tlc_train_size=16)
    image = np.random.default_rng(1).uniform(0.4, 0.6, (250, 240, 3)).astype("float32")
    whole = model.restore(image, select="adaptive")
    heads = choose_engine(model).heads(image)
    expected = Adaptive(model.adaptive_weights).image(heads, image)
    np.testing.assert_allclose(whole.image, expected, atol=1e-5)
    assert np.abs(whole.image - whole.select("mean").image).max() > 1e-3
    np.testing.assert_allclose(whole.select("adaptive").image, whole.image, atol=1e-6)
    light = model.restore(image, select="adaptive", hypotheses=False)
    np.testing.assert_allclose(light.image, whole.image, atol=1e-5)
    gray = model.restore(image[..., 0], select="adaptive")
    assert gray.image.shape == (250, 240) and np.isfinite(gray.image).all()


def test_refusals():
    image = np.full((16, 16, 3), 0.5, "float32")
    model = tiny_model()
    with pytest.raises(ValueError, match="3 rows of 10.*adaptive_weights=None"):
        model.restore(image, select="adaptive")
    with pytest.raises(ValueError, match=r"3 rows of 10.*of shape \(3, 9\)"):
        model.adaptive_weights = np.zeros((3, 9))
    assert model.adaptive_weights is None
    with pytest.raises(ValueError, match="3 rows of 10.*adaptive_weights=None"):
        model.select = "adaptive"
    assert model.select == "mean"


@pytest.fixture
def rng_heads():
    rng = np.random.default_rng(0)
    image = rng.uniform(0, 1, (50, 70, 3)).astype("float32")
    return image + rng.normal(0, 0.1, (3, 50, 70, 3)).astype("float32"), image
