import keras
import numpy as np
import pytest

from keras_mhdeblur import Deblurrer
from keras_mhdeblur.inference import evaluate
from keras_mhdeblur.networks import NAFNet

LEVELS = 1 / 255


def adding(*offsets, **options):
    """A model whose heads add these offsets, in grey levels, to the input."""
    network = NAFNet(4, (1,), 1, (1,), num_heads=len(offsets))
    kernel, bias = network.get_layer("heads").weights
    kernel.assign(0 * kernel)
    bias.assign(keras.ops.convert_to_tensor(np.repeat(offsets, 3) * LEVELS))
    return Deblurrer(network, **options)


def psnr(levels):
    return 20 * np.log10(255 / levels)


def test_known_scores():
    # Heads are off by 8 and -4 levels from labels that equal the input ...
    sharp = np.full((2, 16, 16, 3), 100 * LEVELS, "float32")
    blurry = sharp.copy()
    # ... and by 20 and 8 where the input is 12 levels too bright.
    blurry[1] += 12 * LEVELS
    scores = evaluate(adding(8, -4), [(blurry, sharp)])
    assert scores["images"] == 2
    expected = {
        "input": [100, psnr(12)],
        "mean": [psnr(2), psnr(14)],
        # Hypotheses: 8, 2, -4, and 20, 14, 8.
        "medoid": [psnr(2), psnr(14)],
        "single": [psnr(2), psnr(14)],
        "overall": [psnr(2), psnr(8)],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(scores[name]["psnr"], np.mean(values), atol=2e-3)
    assert scores["single"]["pair"] == [1, 0]
    assert scores["usage"] == [0, 0.5, 0.5]
    np.testing.assert_allclose(scores["smallest_gain"], psnr(2) - 100, atol=2e-3)
    assert 0.9 < scores["mean"]["ssim"] < scores["input"]["ssim"] < 1


def test_images_are_compared_as_8_bit_files():
    sharp = np.full((1, 16, 16, 3), 1.0, "float32")
    # 0.4 levels are rounded away, 30 levels above white are clipped.
    for offset in (-0.4, 30):
        assert evaluate(adding(offset), [(sharp, sharp)])["mean"]["psnr"] == 100


def test_heads_that_are_not_combined():
    sharp = np.full((1, 16, 16, 3), 0.2, "float32")
    scores = evaluate(adding(8, -4, combine_heads=False), [(sharp, sharp)])
    assert scores["usage"] == [0, 1]
    assert scores["single"]["pair"] == [1, 1]


def test_no_pairs():
    with pytest.raises(ValueError, match="Received: no pair"):
        evaluate(adding(0), [])
