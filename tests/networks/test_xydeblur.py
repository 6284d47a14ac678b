import keras
import numpy as np
import pytest

from keras_mhdeblur import Deblurrer, assignment, losses
from keras_mhdeblur.convert import load_torch_state_dict
from keras_mhdeblur.inference import selection
from keras_mhdeblur.layers import HeadCombination, Rotate90, pair_indices
from keras_mhdeblur.networks import XYDeblur


def tiny(num_heads=3, **kwargs):
    network = XYDeblur(4, 1, num_heads, **kwargs)
    for index, weight in enumerate(network.weights):
        weight.assign(0.1 * keras.random.normal(weight.shape, seed=index))
    return network


def image(*shape):
    return np.random.default_rng(0).random((*shape, 3), "float32")


def official_network(file):
    kwargs = file.config["kwargs"]
    network = XYDeblur(kwargs["base_channel"], kwargs["num_res"], num_heads=1)
    load_torch_state_dict(network, file.state())
    return network


@pytest.mark.parametrize("mode", ["eager", "graph", "fixed size"])
def test_official_output(golden, mode):
    file = golden("xydeblur")
    network, x = official_network(file), file["x"]
    assert network.count_params() == file.config["n_params"]
    if mode == "eager":
        heads = network(x)
    elif mode == "graph":
        heads = network.predict(x, verbose=0)
    else:
        fixed = keras.Input(batch_shape=x.shape)
        heads = keras.Model(fixed, network(fixed))(x)
    (hypothesis,) = HeadCombination("axes")(heads)[0]
    residuals = (np.array(heads)[0] - x) / 2
    expected = file["out/0"][0], file["out/1"][0], file["out/2"][0]
    for found, output, error in zip(
        (*residuals, hypothesis), expected, file.config["f32_vs_f64_maxabs"]
    ):
        np.testing.assert_allclose(found, output, rtol=0, atol=max(1e-6, 10 * error))


def test_mixed_bfloat16(golden):
    file = golden("xydeblur")
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        heads = official_network(file)(file["x"])
    finally:
        keras.config.set_dtype_policy("float32")
    assert heads.dtype == "float32"
    hypothesis = np.array(HeadCombination("axes")(heads))[:, 0]
    # The residual is about 0.3 and has 8 significant bits.
    assert np.abs(hypothesis - file["out/2"]).max() < 0.02


def test_parameter_count():
    assert XYDeblur(num_heads=1).count_params() == 4_918_627


@pytest.mark.parametrize("size", [(1, 1), (3, 9), (16, 20)])
def test_any_size(size):
    assert tiny()(image(1, *size)).shape == (1, 6, *size, 3)


def test_rotation():
    x = image(2, 3, 5)
    np.testing.assert_array_equal(Rotate90()(x), np.rot90(x, axes=(1, 2)))


def test_pairs_of_axes():
    assert pair_indices(4, "axes") == [(2, 0), (2, 1), (3, 0), (3, 1)]
    assert selection.hypothesis_names(4, "axes") == ["0+2", "1+2", "0+3", "1+3"]
    heads = image(4, 6, 5)
    hypotheses = selection.combine(heads, "axes")
    np.testing.assert_allclose(hypotheses, HeadCombination("axes")(heads[None])[0])
    expected = np.sqrt(hypotheses.var(axis=0).mean(axis=-1))
    np.testing.assert_allclose(
        selection.uncertainty(heads, "axes"), expected, atol=1e-6
    )


def test_gram_form_equals_the_images():
    label, stack = image(2, 6, 5), image(2, 4, 6, 5)
    found = assignment.hypothesis_losses(losses.MSELoss(), label, stack, "axes")
    combined = HeadCombination("axes")(stack)
    expected = np.square(np.array(combined) - label[:, None]).mean(axis=(2, 3, 4))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_folded_heads_are_the_weighted_mean():
    network, weights = tiny(num_heads=2), [0.4, 0.1, 0.2, 0.3]
    x = image(1, 13, 10)
    expected = np.tensordot(weights, np.array(network(x)), (0, 1))
    folded = network.with_folded_heads(weights)
    np.testing.assert_allclose(folded(x)[:, 0], expected, atol=1e-5)


# With two heads there are as many head images as hypotheses.
@pytest.mark.parametrize("num_heads", [1, 2, 3])
def test_deblurrer_trains_the_best_pair(num_heads):
    model = Deblurrer(tiny(num_heads))
    assert model.combine_heads == "axes" and model.num_hypotheses == num_heads**2
    x, y = image(2, 8, 12), image(2, 12, 8).swapaxes(1, 2)
    model.compile(keras.optimizers.SGD(1e-3), losses.MSELoss())
    hypotheses = np.array(model(x))
    best = np.square(hypotheses - y[:, None]).mean(axis=(2, 3, 4)).min(axis=1).mean()
    before = model.get_weights()
    history = model.fit(x, y, batch_size=2, verbose=0).history
    np.testing.assert_allclose(history["loss"], best, rtol=1e-5)
    assert all((a != b).any() for a, b in zip(before, model.get_weights()))


def test_restore_and_its_choices():
    model = Deblurrer(tiny(2), best_pair=(2, 1))
    photo = image(9, 14)
    result = model.restore(photo)
    hypotheses = np.clip(np.array(model(photo[None]))[0], 0, 1)
    np.testing.assert_allclose(result.hypotheses, hypotheses, atol=1e-5)
    single = model.restore(photo, select="single", hypotheses=False)
    np.testing.assert_allclose(single.image, hypotheses[1], atol=1e-5)
    with pytest.raises(ValueError, match=r"from 0 to 1 and one from 2 on.*\(1, 0\)"):
        model.restore(photo, select=(1, 0))
    with pytest.raises(ValueError, match="combine_heads=False"):
        Deblurrer(tiny(), combine_heads=False)


def test_round_trips(tmp_path):
    model = Deblurrer(tiny(name="deblur"))
    assert XYDeblur.from_config(model.network.get_config()).name == "deblur"
    model.save(tmp_path / "model.keras")
    x = image(1, 8, 8)
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(x), model(x))
    assert model.network.with_local_statistics(64) is model.network
