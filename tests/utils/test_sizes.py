from keras_mhdeblur.utils.sizes import megapixels


def test_megapixels_in_words():
    found = [megapixels(*size) for size in ((90, 70), (4000, 3000), (12240, 8160))]
    assert found == ["0.0063 megapixels", "12 megapixels", "100 megapixels"]
