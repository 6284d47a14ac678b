import numpy as np
import pytest
from keras import ops

from keras_mhdeblur.data.camera import affine_transforms
from keras_mhdeblur.data.warping import warp

IMAGES = np.random.default_rng(0).random((3, 20, 24, 4), "float32")
# x, y, rotation and logarithm of the scale; the second leaves the picture.
PATHS = np.array([[1.3, -2.6, 0.04, 0.02], [30, 0.5, 0, 0], [0, 0, -0.3, -0.1]])


def warped(images, paths, margin=0):
    paths = ops.convert_to_tensor(paths, "float32")
    transforms = affine_transforms(paths, *images.shape[1:3])
    images = ops.convert_to_tensor(images)
    return ops.convert_to_numpy(warp(images, transforms, margin))


def bilinear(image, x, y):
    """Of one point, by the definition, in float64."""
    height, width = image.shape[:2]
    x, y = np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
    value = 0.0
    for row in range(height):
        for column in range(width):
            weight = max(0, 1 - abs(x - column)) * max(0, 1 - abs(y - row))
            value += weight * image[row, column].astype("float64")
    return value


def test_bilinear_interpolation_and_repeated_borders():
    found = warped(IMAGES, PATHS)
    for k, (dx, dy, angle, zoom) in enumerate(PATHS):
        for row, column in [(0, 0), (19, 23), (7, 11), (12, 3), (2, 22)]:
            x, y = column - 11.5, row - 9.5  # from the centre
            cos, sin = np.exp(zoom) * np.cos(angle), np.exp(zoom) * np.sin(angle)
            source = cos * x - sin * y + 11.5 + dx, sin * x + cos * y + 9.5 + dy
            np.testing.assert_allclose(
                found[k, row, column], bilinear(IMAGES[k], *source), atol=2e-5
            )


@pytest.mark.parametrize("shift", [(2, 0), (0, -3), (-1, 4)])
def test_whole_pixels_are_exact(shift):
    found = warped(IMAGES, [[*shift, 0, 0]] * 3, margin=5)
    x, y = shift
    np.testing.assert_array_equal(found, IMAGES[:, 5 + y : 15 + y, 5 + x : 19 + x])


def test_a_margin_is_cut_off():
    np.testing.assert_array_equal(
        warped(IMAGES, PATHS, margin=4), warped(IMAGES, PATHS)[:, 4:-4, 4:-4]
    )
