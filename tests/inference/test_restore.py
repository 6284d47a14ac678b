import keras
import numpy as np
import pytest
from PIL import Image

from keras_mhdeblur import Deblurrer
from keras_mhdeblur.engines.keras_engine import KerasEngine
from keras_mhdeblur.hypotheses.pairs import Pairs
from keras_mhdeblur.hypotheses.stacks import medoid_index
from keras_mhdeblur.networks import NAFNet

SIZES = [(8, 8), (9, 13), (24, 20)]

pytestmark = pytest.mark.usefixtures("without_guard")


def randomize(network, seed=0):
    """Weights large enough that every part of the network shows in its output."""
    rng = np.random.default_rng(seed)
    for weight in network.weights:
        weight.assign(weight + rng.normal(0, 0.03, weight.shape))


def tiny_model(num_heads=3, seed=0, **options):
    network = NAFNet(
        width=4,
        encoder_blocks=(0, 0),
        middle_blocks=1,
        decoder_blocks=(0, 0),
        num_heads=num_heads,
    )
    randomize(network, seed)
    # Little enough that what is mid-grey is not clipped.
    kernel = network.get_layer("heads").conv.kernel
    kernel.assign(0.3 * kernel)
    return Deblurrer(network, **options)


@pytest.fixture(scope="module")
def model():
    return tiny_model(best_pair=(2, 1))


@pytest.fixture
def image():
    # Mid-grey, so that nothing is clipped.
    return np.random.default_rng(1).uniform(0.4, 0.6, (24, 20, 3)).astype("float32")


class ConstantHeads(keras.Model):
    """Heads whose images are the input plus known numbers."""

    def __init__(self, offsets):
        super().__init__()
        self.offsets = offsets
        self.num_heads = len(offsets)

    def call(self, images, training=False):
        return keras.ops.stack([images + offset for offset in self.offsets], axis=1)


def constant_model(*offsets, **options):
    return Deblurrer(ConstantHeads(offsets), **options)


def test_known_answers():
    model = constant_model(0.0, 0.3, 0.0)
    image = np.full((2, 2, 3), 0.5)
    mean = model.restore(image)
    np.testing.assert_allclose(mean.image, 0.6, atol=1e-6)
    assert mean.names == ["0", "0+1", "1", "0+2", "1+2", "2"]
    np.testing.assert_allclose(
        mean.hypotheses[:, 0, 0, 0], [0.5, 0.65, 0.8, 0.5, 0.65, 0.5], atol=1e-6
    )
    # Deviations from 0.6 are -0.1 (three times), 0.05 (twice) and 0.2.
    deviation = np.sqrt((3 * 0.01 + 2 * 0.0025 + 0.04) / 6)
    np.testing.assert_allclose(mean.uncertainty, deviation, atol=1e-6)
    medoid = model.restore(image, select="medoid")
    np.testing.assert_allclose(medoid.image, 0.65, atol=1e-6)
    np.testing.assert_allclose(model.restore(image, select=(2, 1)).image, 0.65)
    np.testing.assert_allclose(model.restore(image, select=1).image, 0.8)


def test_known_answers_without_combination():
    model = constant_model(0.0, 0.1, 0.4, combine_heads=False, best_pair=(2, 2))
    image = np.full((2, 2, 3), 0.3)
    result = model.restore(image, select="medoid")
    np.testing.assert_allclose(result.image, 0.4, atol=1e-6)
    assert result.names == ["0", "1", "2"] and result.hypotheses.shape[0] == 3
    np.testing.assert_allclose(
        result.uncertainty, np.std([0, 0.1, 0.4]) * np.ones((2, 2)), atol=1e-6
    )
    np.testing.assert_allclose(
        model.restore(image, select="single").image, 0.7, atol=1e-6
    )


def test_hypotheses_and_uncertainty_are_the_models(model, image):
    expected = keras.ops.convert_to_numpy(model(image[None]))[0]
    result = model.restore(image)
    np.testing.assert_allclose(result.hypotheses, expected, atol=1e-6)
    variance = expected.var(axis=0).mean(axis=-1)
    assert variance.max() > 1e-4
    np.testing.assert_allclose(result.uncertainty, np.sqrt(variance), atol=1e-6)
    np.testing.assert_allclose(result.image, expected.mean(axis=0), atol=1e-6)
    distance = np.square(expected - expected.mean(axis=0)).mean(axis=(1, 2, 3))
    medoid = model.restore(image, select="medoid").image
    np.testing.assert_allclose(medoid, expected[distance.argmin()], atol=1e-6)


def test_medoid_of_four_heads_does_not_depend_on_rounding():
    # Their pairs are as far from the mean as the pair of the two others.
    for seed in range(20):
        heads = np.random.default_rng(seed).random((4, 40, 50, 3), "float32")
        assert medoid_index(heads, Pairs(4)) in (1, 3, 4)  # 0+1, 0+2, 1+2


@pytest.mark.parametrize("tlc_train_size", [None, 8])
@pytest.mark.parametrize("select", ["mean", "single", (0, 2), 1])
def test_folding_equals_the_heads(image, select, tlc_train_size):
    model = tiny_model(best_pair=(2, 1), tlc_train_size=tlc_train_size)
    unfolded = model.restore(image, select=select)
    folded = model.restore(image, select=select, hypotheses=False)
    assert np.abs(unfolded.image - image).max() > 0.01
    np.testing.assert_allclose(folded.image, unfolded.image, atol=1e-5)


def test_folding_follows_training_and_selection(image):
    model = tiny_model(best_pair=(2, 1))
    for seed, select in enumerate(["mean", (1, 0), (1, 0), "mean"]):
        randomize(model.network, seed)
        folded = model.restore(image, select=select, hypotheses=False)
        unfolded = model.restore(image, select=select)
        np.testing.assert_allclose(folded.image, unfolded.image, atol=1e-5)


def test_folded_network_has_one_head(model, image):
    model.restore(image, hypotheses=False)
    assert KerasEngine.of(model)._folded.network.output_shape[1] == 1


def test_the_models_choice_is_the_default(image):
    model = tiny_model(select="medoid")
    np.testing.assert_array_equal(
        model.restore(image).image, model.restore(image, select="medoid").image
    )


def test_callable_gives_index_or_image(model, image):
    def check(hypotheses):
        assert hypotheses.shape == (6, 24, 20, 3)
        assert 0 <= hypotheses.min() and hypotheses.max() <= 1
        return 4

    picked = model.restore(image, select=check)
    np.testing.assert_array_equal(picked.image, picked.hypotheses[4])
    median = model.restore(
        image, select=lambda h: np.median(h, axis=0), hypotheses=False
    )
    np.testing.assert_allclose(median.image, np.median(picked.hypotheses, axis=0))
    for wrong in (6, -1, 1.0, np.zeros((2, 2, 3))):
        with pytest.raises(ValueError, match="`select`.*Received: select"):
            model.restore(image, select=lambda _, wrong=wrong: wrong)


@pytest.mark.parametrize(
    "select", ["best", "01", (0, 3), (-1, 0), (0, 1, 2), [(0, 1), 2], 1.5, True]
)
def test_unknown_selection_is_refused(model, image, select):
    with pytest.raises(ValueError, match="`select`.*Received: select="):
        model.restore(image, select=select)


@pytest.mark.parametrize("size", [0, -5, "none", [64], 1.5, True])
def test_unknown_local_statistics_are_refused(model, image, size):
    with pytest.raises(ValueError, match="`tlc_train_size` .*Received: tlc_train_size"):
        model.restore(image, tlc_train_size=size, engine="keras")


def test_pairs_of_a_model_that_does_not_combine_are_refused(image):
    model = tiny_model(combine_heads=False)
    with pytest.raises(ValueError, match="one head.*Received: select="):
        model.restore(image, select=(0, 1))


def test_hypotheses_that_were_not_kept_are_refused(model, image):
    result = model.restore(image, hypotheses=False)
    for name in ("hypotheses", "uncertainty"):
        with pytest.raises(ValueError, match="Received: hypotheses=False"):
            getattr(result, name)


def test_single_head_model(image):
    model = tiny_model(num_heads=1)
    result = model.restore(image)
    assert result.hypotheses.shape == (1, 24, 20, 3)
    assert not result.uncertainty.any()
    folded = model.restore(image, hypotheses=False, select="single")
    np.testing.assert_array_equal(folded.image, result.image)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float16", "float32", "float64"])
@pytest.mark.parametrize(
    "shape", [(6, 5), (6, 5, 1), (6, 5, 3), (6, 5, 4), (2, 6, 5, 3), (2, 6, 5, 4)]
)
def test_arrays_keep_shape_dtype_and_alpha(shape, dtype):
    limit = np.iinfo(dtype).max if dtype.startswith("u") else 1
    values = np.random.default_rng(0).uniform(0, 0.5 * limit, shape).astype(dtype)
    result = constant_model(0.0, 0.2).restore(values)
    assert result.image.dtype == values.dtype and result.image.shape == values.shape
    colours = slice(0, 3) if shape[-1] == 4 and len(shape) > 2 else slice(None)
    tolerance = {"float16": 2e-3, "uint8": 0.51, "uint16": 0.51}.get(dtype, 1e-6)
    np.testing.assert_allclose(
        result.image[..., colours].astype("float64"),
        values[..., colours].astype("float64") + 0.1 * limit,
        atol=tolerance,
    )
    if shape[-1] == 4:
        np.testing.assert_array_equal(result.image[..., 3], values[..., 3])
    lead = shape[:1] if len(shape) == 4 else ()
    channels = 1 if shape[-1] in (1, 5) else 3
    assert result.hypotheses.shape == (*lead, 3, 6, 5, channels)
    assert result.uncertainty.shape == (*lead, 6, 5)


def test_gray_is_the_average_of_the_restored_channels(model, image):
    gray = image[..., 0]
    result = model.restore(gray)
    expected = model.restore(np.stack([gray] * 3, axis=-1)).image
    assert np.ptp(expected, axis=-1).max() > 0.01
    np.testing.assert_allclose(result.image, expected.mean(axis=-1), atol=1e-6)


def test_batch_is_restored_image_by_image(model, image):
    batch = np.stack([image, image[::-1]])
    result = model.restore(batch)
    for index in range(2):
        one = model.restore(batch[index])
        np.testing.assert_array_equal(result.image[index], one.image)
        np.testing.assert_array_equal(result.hypotheses[index], one.hypotheses)
    for save in (result.save, result.save_hypotheses, result.save_uncertainty):
        with pytest.raises(ValueError, match="one image.*Received: image.shape="):
            save("never.png")


def test_bad_arrays_are_refused(model):
    with pytest.raises(ValueError, match="`image`.*Received: image="):
        model.restore(np.full((4, 4, 3), 7.0))
    with pytest.raises(ValueError, match="`image`.*Received: image=None"):
        model.restore(None)


def test_files_and_pil_images(tmp_path):
    model = constant_model(0.0, 0.2)
    pixels = np.random.default_rng(0).integers(0, 100, (6, 5, 4), dtype="uint8")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "in.png", exif=exif)
    upright = np.rot90(pixels, -1)
    expected = np.rint(upright[..., :3] + 25.5)
    with Image.open(tmp_path / "in.png") as opened:
        sources = [tmp_path / "in.png", str(tmp_path / "in.png"), opened]
        for source in sources:
            result = model.restore(source)
            assert result.image.dtype == np.uint8
            np.testing.assert_allclose(result.image[..., :3], expected, atol=1)
            np.testing.assert_array_equal(result.image[..., 3], upright[..., 3])
    result.save(tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as written:
        np.testing.assert_array_equal(np.asarray(written), result.image)
        assert 0x0112 not in written.getexif()


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 3), (6, 5, 4)])
def test_uint16_arrays_are_saved_with_sixteen_bits(tmp_path, shape):
    values = np.random.default_rng(0).integers(0, 40000, shape, dtype="uint16")
    result = constant_model(0.0, 0.2).restore(values)
    result.save(tmp_path / "out.png")
    again = constant_model(0.0).restore(tmp_path / "out.png")
    np.testing.assert_array_equal(again.image, result.image)


def test_saved_hypotheses_and_uncertainty(tmp_path):
    result = constant_model(0.0, 0.2).restore(np.full((40, 60, 3), 51, "uint8"))
    paths = result.save_hypotheses(tmp_path / "photo.png")
    assert [path.name for path in paths] == [
        "photo_0.png",
        "photo_0+1.png",
        "photo_1.png",
    ]
    values = [np.unique(np.asarray(Image.open(path))).tolist() for path in paths]
    assert values == [[51], [76], [102]] or values == [[51], [77], [102]]
    result.save_uncertainty(tmp_path / "map.png")
    with Image.open(tmp_path / "map.png") as image:
        assert image.size[0] == 60 and image.size[1] > 40
        # The same uncertainty everywhere is all of the scale.
        assert image.getpixel((30, 20)) == (0xFC, 0xFF, 0xA4)


def test_no_image_size_is_traced_again(model):
    for size in SIZES:
        for hypotheses in (True, False):
            model.restore(np.zeros((*size, 3)), hypotheses=hypotheses)
    engine = KerasEngine.of(model)
    for traced in (*engine._heads, engine._folded):
        assert traced.predict_function.experimental_get_tracing_count() == 1


def test_engines_do_not_keep_models_alive():
    import gc
    import weakref

    model = constant_model(0.0, 0.1)
    model.restore(np.zeros((4, 4, 3)))
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_mixed_precision_is_not_rounded_on_the_way():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        image = np.random.default_rng(0).uniform(0, 1, (4, 4, 3)).astype("float32")
        network = NAFNet(
            width=4,
            encoder_blocks=(1,),
            middle_blocks=1,
            decoder_blocks=(1,),
            num_heads=2,
        )
        for weight in network.get_layer("heads").weights:
            weight.assign(0 * weight)
        model = Deblurrer(network)
    finally:
        keras.config.set_dtype_policy("float32")
    for hypotheses in (True, False):
        result = model.restore(image, hypotheses=hypotheses)
        np.testing.assert_array_equal(result.image, image)
