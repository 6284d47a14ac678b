import numpy as np
import pytest
from PIL import Image

from keras_mhdeblur.app import pictures


def test_small_photos_are_shown_pixel_by_pixel():
    values = np.random.default_rng(0).integers(0, 255, (30, 40, 3), "uint8")
    np.testing.assert_array_equal(np.asarray(pictures.preview(values)), values)
    gray = np.asarray(pictures.preview(values[..., :1]))
    np.testing.assert_array_equal(gray, values[..., :1].repeat(3, axis=2))


def test_sixteen_bits_and_size():
    values = np.full((3000, 6000, 1), 40000, "uint16")
    image = pictures.preview(values)
    assert image.size == (2048, 1024)
    assert (np.asarray(image) == 40000 >> 8).all()


def test_uncertainty_is_coloured_where_it_is():
    uncertainty = np.zeros((64, 64), "float32")
    uncertainty[:, 32:] = 0.1
    picture = Image.new("RGB", (64, 64), (100, 100, 100))
    image = pictures.with_uncertainty(picture, uncertainty)
    values = np.asarray(image).astype(int)
    assert pictures.scale(uncertainty) == pytest.approx(25.5)
    assert (values[:, :28] == 75).all()  # grey and dim
    np.testing.assert_array_equal(values[:, 40], [[252, 255, 164]] * 64)


def test_the_spot_is_where_most_of_it_is():
    uncertainty = np.zeros((400, 600), "float32")
    uncertainty[200:333, 400:533] = 1
    rows, columns = pictures.spot(uncertainty)
    assert (rows, columns) == (slice(200, 333), slice(400, 533))
    rows, columns = pictures.spot(uncertainty[:90, :100])
    assert (rows, columns) == (slice(0, 90), slice(0, 90))
