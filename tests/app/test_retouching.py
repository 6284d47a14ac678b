import numpy as np
import pytest
from PIL import Image

from keras_mhdeblur.app.retouching import RESTORED, Retouched
from keras_mhdeblur.inference import restore
from keras_mhdeblur.photos import read_image


@pytest.fixture
def retouched(model, photo):
    blurry = read_image(photo)
    return Retouched(blurry, restore(model, blurry))


@pytest.fixture
def mask():
    mask = np.zeros((128, 192), bool)
    mask[40:90, 60:120] = True
    return mask


def test_regions_on_a_hypothesis_are_what_compose_makes(retouched, mask):
    retouched.base = 2
    retouched.add(mask, 5)
    retouched.add(mask.T[:128, :128].repeat(2, 1)[:, :192], 0)
    expected = retouched.result.compose(retouched.labels, 8).image
    np.testing.assert_array_equal(retouched.composed().to_array(), expected)
    assert set(np.unique(retouched.labels)) == {0, 2, 5}


def test_outside_a_region_the_restored_photo_stays(retouched, mask):
    retouched.add(mask, 9)
    image = retouched.composed().to_array()
    restored = retouched.result.image
    hypothesis = retouched.result.select((3, 3)).image
    assert (restored != hypothesis).any()
    np.testing.assert_array_equal(image[50:80, 70:110], hypothesis[50:80, 70:110])
    far = np.ones_like(mask)
    far[30:100, 50:130] = False
    np.testing.assert_array_equal(image[far], restored[far])


def test_the_fade_is_that_of_compose(retouched, mask):
    # The restored photo of this model is the mean of the hypotheses. With one
    # hypothesis in its place both ways must agree, but for rounding.
    retouched.result = retouched.result.select((1, 0))
    retouched.add(mask, 9)
    image = retouched.composed().to_array().astype(int)
    labels = np.where(mask, 9, 1)
    expected = retouched.result.compose(labels, 8).image.astype(int)
    assert abs(image - expected).max() <= 1


def test_undo(retouched, mask):
    before = retouched.composed().to_array()
    retouched.add(mask, 9)
    assert (retouched.composed().to_array() != before).any()
    retouched.undo()
    np.testing.assert_array_equal(retouched.composed().to_array(), before)
    retouched.undo()
    assert len(retouched) == 0


def test_a_region_can_go_back_to_the_restored_photo(retouched, mask):
    retouched.add(mask, 9)
    retouched.add(np.ones_like(mask), RESTORED)
    np.testing.assert_array_equal(
        retouched.composed().to_array(), retouched.result.image
    )


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif"])
def test_files_are_those_of_the_result(retouched, tmp_path, name):
    retouched.save(tmp_path / name)
    (tmp_path / "other").mkdir()
    retouched.result.save(tmp_path / "other" / name)
    saved = (tmp_path / name).read_bytes()
    assert saved == (tmp_path / "other" / name).read_bytes()
    assert Image.open(tmp_path / name).getexif()[0x010F] == "Maker of cameras"


@pytest.mark.parametrize("mode", ["gray", "sixteen bits", "alpha"])
def test_other_kinds_of_photos(model, photo, mask, tmp_path, mode):
    image = Image.open(photo)
    if mode == "gray":
        image.convert("L").save(tmp_path / "in.png")
    elif mode == "alpha":
        image.putalpha(77)
        image.save(tmp_path / "in.png")
    else:
        gray = np.asarray(image.convert("L"), "uint16") * 257
        Image.fromarray(gray).save(tmp_path / "in.png")
    blurry = read_image(tmp_path / "in.png")
    retouched = Retouched(blurry, restore(model, blurry))
    retouched.add(mask, 0)
    retouched.save(tmp_path / "out.png")
    retouched.hypothesis(0)
    found = read_image(tmp_path / "out.png")
    assert found.depth == blurry.depth and found.gray == blurry.gray
    np.testing.assert_array_equal(
        found.to_array()[50:80, 70:110],
        retouched.result.select((0, 0)).image[50:80, 70:110],
    )
    if mode == "alpha":
        assert (found.alpha == 77).all()
