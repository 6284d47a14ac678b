import numpy as np
import pytest

from keras_mhdeblur.hypotheses import adaptive
from keras_mhdeblur.hypotheses.selection import Adaptive
from keras_mhdeblur.training import fit_adaptive_weights


class Model:
    """Two heads: the photo, and a bold one that adds what is hidden in its blue."""

    num_heads = 2

    def heads(self, image):
        return np.stack([image, image + image[..., 2:]])


def batches(count=16):
    """Bold is right where it changes much, and wrong where it changes little."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        blurry = rng.uniform(0, 1, (8, 32, 32, 3)).astype("float32")
        blurry[:4, ..., 2] *= 0.01
        sharp = blurry.copy()
        sharp[4:] += sharp[4:, ..., 2:]
        yield blurry, sharp


def errors(coefficients):
    model, result = Model(), []
    for blurry, sharp in zip(*map(np.concatenate, zip(*batches()))):
        restored = Adaptive(coefficients).image(model.heads(blurry), blurry)
        result.append(np.square(restored - sharp).mean())
    return np.array(result).reshape(-1, 2, 4).mean(axis=(0, 2))


def test_finds_the_rule():
    coefficients = fit_adaptive_weights(Model(), batches(), shrinkage=0, epochs=150)
    assert np.shape(coefficients) == (2, 6)
    small, large = errors(coefficients)
    mean_small, mean_large = errors(np.zeros((2, 6)))
    assert small < 0.2 * mean_small and large < 0.2 * mean_large


def test_the_same_again():
    first, second = (fit_adaptive_weights(Model(), batches(), epochs=2) for _ in "12")
    assert first == second


def test_shrinkage_draws_the_weights_towards_equal_ones():
    full, half, none = (
        np.array(fit_adaptive_weights(Model(), batches(), shrinkage=share, epochs=2))
        for share in (0, 0.5, 1)
    )
    np.testing.assert_allclose(half, full / 2, rtol=1e-5)
    assert not none.any() and full.any()


@pytest.mark.slow
def test_caution_makes_careful():
    """Bold is right by half on average, and by how much does not show.

    The cautious head changes nothing: features that do not vary spoil nothing.
    """
    rng = np.random.default_rng(1)
    blurry = rng.uniform(0, 1, (256, 16, 16, 3)).astype("float32")
    share = rng.uniform(-0.5, 1.5, (256, 1, 1, 1)).astype("float32")
    noise = rng.normal(0, 0.1, blurry.shape).astype("float32")
    patches = [(blurry, blurry + share * blurry[..., 2:] + noise)]
    values = [adaptive.features(Model().heads(x), x)[0, 0] for x in blurry]
    plain, careful = (
        adaptive.block_weights(
            np.array(values),
            fit_adaptive_weights(Model(), patches, caution=caution, shrinkage=0),
        )[:, 1].mean()
        for caution in (0, 2)
    )
    assert 0.4 < plain < 0.6 and careful < plain - 0.1


def test_patches_of_larger_images():
    """Four patches side by side, which the network sees at once."""

    def joined(images):
        images = images.reshape(-1, 2, 2, 32, 32, 3)
        return images.transpose(0, 1, 3, 2, 4, 5).reshape(-1, 64, 64, 3)

    images = [tuple(map(joined, batch)) for batch in batches()]
    found = fit_adaptive_weights(Model(), images, epochs=2, patch_size=32)
    assert found == fit_adaptive_weights(Model(), batches(), epochs=2)


@pytest.mark.parametrize("patches, expected", [(12, 2), (16, 2), (17, 3)])
def test_patches_are_limited(patches, expected):
    """Batches have 8 patches; no batch is drawn that is not needed."""
    drawn = []

    def counted():
        for batch in batches():
            drawn.append(batch)
            yield batch

    fit_adaptive_weights(Model(), counted(), patches=patches, epochs=1)
    assert len(drawn) == expected


def test_several_targets_are_refused():
    targets = [(blurry, np.stack([sharp] * 3, 1)) for blurry, sharp in batches(1)]
    with pytest.raises(ValueError, match="one sharp image .* Received: dataset of"):
        fit_adaptive_weights(Model(), targets)


def test_refusals():
    one = Model()
    one.num_heads = 1
    with pytest.raises(ValueError, match="several heads.*num_heads=1"):
        fit_adaptive_weights(one, batches())
    with pytest.raises(ValueError, match="at least one patch.*none"):
        fit_adaptive_weights(Model(), [])
    with pytest.raises(ValueError, match="from 0 to 1. Received: shrinkage=1.5"):
        fit_adaptive_weights(Model(), batches(), shrinkage=1.5)
