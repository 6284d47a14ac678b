import io

import numpy as np
import pytest
from PIL import Image

from keras_mhdeblur.data.jpeg import jpeg_compress


def picture(seed=0):
    """A colour gradient with texture on one half, (64, 96, 3) uint8."""
    y, x = np.mgrid[:64, :96].astype("float64")
    image = np.stack([60 + 1.5 * x, 220 - 2 * y, 80 + x + y], axis=-1)
    texture = np.random.default_rng(seed).normal(0, 25, (64, 48, 3))
    image[:, 48:] += texture + 20 * np.sin(x[:, 48:, None])
    return np.clip(np.rint(image), 0, 255).astype("uint8")


def pillow(image, quality):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality, subsampling=0)
    return np.array(Image.open(file))


def compressed(images, quality):
    result = np.array(jpeg_compress(images.astype("float32") / 255, quality)) * 255
    np.testing.assert_allclose(result, np.rint(result), atol=1e-3)
    return np.rint(result)


@pytest.mark.parametrize("quality", [90, 50, 30])
def test_equals_pillow(quality):
    image = picture()
    expected = pillow(image, quality).astype("float64")
    difference = np.abs(compressed(image[None], quality)[0] - expected)
    # A coefficient near the middle between two steps may go the other way.
    assert difference[:, :48].max() <= 3
    assert np.mean(difference <= 1) > 0.85
    assert np.mean(difference**2) < 0.08 * np.mean((expected - image) ** 2)


def test_quality_100_changes_nearly_nothing():
    image = picture()
    difference = np.abs(compressed(image[None], 100)[0] - image)
    assert difference.max() <= 4
    assert np.mean(difference) < 0.6


def test_every_image_has_its_own_quality():
    images = np.stack([picture(0), picture(1)])
    together = compressed(images, np.array([30.0, 95.0]))
    for image, quality, expected in zip(images, (30, 95), together):
        np.testing.assert_array_equal(compressed(image[None], quality)[0], expected)


@pytest.mark.parametrize("height, width", [(61, 90), (64, 89), (57, 96), (3, 20)])
def test_sizes_that_are_no_multiples_of_8_equal_pillow(height, width):
    image = picture()[:height, -width:]
    expected = pillow(image, 50).astype("float64")
    difference = compressed(image[None], 50)[0] - expected
    # The last rows and columns share their blocks with what fills these up.
    for part in (slice(-(height % 8), None), np.s_[:, -(width % 8) :]):
        error = np.mean(difference[part] ** 2)
        assert error < 0.03 * np.mean((expected - image)[part] ** 2)


def test_images_that_are_not_rgb_are_refused():
    with pytest.raises(ValueError, match=r"Received: images.shape=\(1, 16, 16, 1\)"):
        jpeg_compress(np.zeros((1, 16, 16, 1), "float32"), 90)
