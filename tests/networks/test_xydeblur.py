import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_mhdeblur import Deblurrer, losses
from keras_mhdeblur.hypotheses.pairs import Pairs, pair_indices
from keras_mhdeblur.hypotheses.stacks import uncertainty
from keras_mhdeblur.layers import HeadCombination
from keras_mhdeblur.losses import assignment
from keras_mhdeblur.networks import XYDeblur
from keras_mhdeblur.networks.xydeblur.layers import Rotate90


def small(num_heads, **kwargs):
    network = XYDeblur(4, 1, num_heads, **kwargs)
    for index, weight in enumerate(network.weights):
        weight.assign(0.1 * keras.random.normal(weight.shape, seed=index))
    return network


@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_official_output(official, mode):
    file, network = official("xydeblur")
    assert network.count_params() == file.config["n_params"]
    x = file["x"]
    if mode == "graph":
        heads = tf.function(network, [tf.TensorSpec((None, None, None, 3))])(x)
    else:
        heads = network(x)
    (hypothesis,) = HeadCombination("axes")(heads)[0]
    residuals = (np.array(heads)[0] - x) / 2
    expected = file["out/0"][0], file["out/1"][0], file["out/2"][0]
    for found, output, error in zip(
        (*residuals, hypothesis), expected, file.config["f32_vs_f64_maxabs"]
    ):
        np.testing.assert_allclose(found, output, rtol=0, atol=max(1e-6, 10 * error))


def test_parameter_count():
    assert XYDeblur(num_heads=1).count_params() == 4_918_627


def test_rotation(images):
    x = images(2, 3, 5)
    np.testing.assert_array_equal(Rotate90()(x), np.rot90(x, axes=(1, 2)))


def test_pairs_of_axes(images):
    assert pair_indices(4, "axes") == [(2, 0), (2, 1), (3, 0), (3, 1)]
    pairs = Pairs(4, "axes")
    assert pairs.names == ["0+2", "1+2", "0+3", "1+3"]
    heads = images(4, 6, 5)
    hypotheses = pairs.combined(heads)
    np.testing.assert_allclose(hypotheses, HeadCombination("axes")(heads[None])[0])
    expected = np.sqrt(hypotheses.var(axis=0).mean(axis=-1))
    np.testing.assert_allclose(uncertainty(heads, pairs), expected, atol=1e-6)


def test_gram_form_equals_the_images(images):
    label, stack = images(2, 6, 5), images(2, 24, 5).reshape(2, 4, 6, 5, 3)
    found = assignment.hypothesis_losses(losses.MSELoss(), label, stack, "axes")
    combined = HeadCombination("axes")(stack)
    expected = np.square(np.array(combined) - label[:, None]).mean(axis=(2, 3, 4))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


# With two heads there are as many head images as hypotheses.
@pytest.mark.parametrize("num_heads", [1, 2, 3])
def test_deblurrer_trains_the_best_pair(images, num_heads):
    model = Deblurrer(small(num_heads))
    assert model.combine_heads == "axes" and model.num_hypotheses == num_heads**2
    x, y = images(2, 8, 12), images(2, 12, 8).swapaxes(1, 2)
    model.compile(keras.optimizers.SGD(1e-3), losses.MSELoss(), run_eagerly=True)
    hypotheses = np.array(model(x))
    best = np.square(hypotheses - y[:, None]).mean(axis=(2, 3, 4)).min(axis=1).mean()
    before = model.get_weights()
    history = model.fit(x, y, batch_size=2, verbose=0).history
    np.testing.assert_allclose(history["loss"], best, rtol=1e-5)
    assert all((a != b).any() for a, b in zip(before, model.get_weights()))


def test_restore_and_its_choices(images, without_guard):
    model = Deblurrer(small(2), best_pair=(2, 1))
    (photo,) = images(1, 9, 14)
    result = model.restore(photo)
    hypotheses = np.clip(np.array(model(photo[None]))[0], 0, 1)
    np.testing.assert_allclose(result.hypotheses, hypotheses, atol=1e-5)
    single = model.restore(photo, select="single", hypotheses=False)
    np.testing.assert_allclose(single.image, hypotheses[1], atol=1e-5)
    model.best_pair = None  # nobody has measured it: the first pair
    single = model.restore(photo, select="single", hypotheses=False)
    np.testing.assert_allclose(single.image, hypotheses[0], atol=1e-5)
    with pytest.raises(ValueError, match=r"from 0 to 1 and one from 2 on.*\(1, 0\)"):
        model.restore(photo, select=(1, 0))
    with pytest.raises(ValueError, match="combine_heads=False"):
        Deblurrer(model.network, combine_heads=False)


def test_saved_deblurrer_combines_axes(images, tmp_path):
    model = Deblurrer(small(2))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    x = images(1, 8, 8)
    np.testing.assert_array_equal(loaded(x), model(x))
