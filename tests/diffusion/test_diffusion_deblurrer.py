import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_mhdeblur import Deblurrer
from keras_mhdeblur.diffusion import (
    DiffusionDeblurrer,
    NoiseSchedule,
    StructureGuidance,
    UNet,
)
from keras_mhdeblur.engines.keras_engine import KerasEngine
from keras_mhdeblur.networks import NAFNet

SLOPE, OFFSET, DEVIATION = 0.5, 0.1, 0.1


@keras.saving.register_keras_serializable(package="tests")
class Toy(keras.Model):
    """A denoiser with the inputs of a `UNet`, and a formula in place of its layers."""

    noise_input, guided, base, image_channels = True, False, 2, 3

    def __init__(self, **kwargs):
        image, noisy = (keras.Input((None, None, 3)) for _ in range(2))
        level = keras.Input(())
        known = keras.layers.Reshape((1, 1, 1))(level)
        noise = self.formula(image, noisy, known)
        super().__init__([image, noisy, level], noise, **kwargs)

    def get_config(self):
        return {"name": self.name}


class Exact(Toy):
    """The exact denoiser where the sharp image is known but for normal noise.

    In [-1, 1] the target is OFFSET + SLOPE * blurry with the deviation DEVIATION.
    """

    slope = SLOPE

    def formula(self, image, noisy, known):
        rest = 1 - known**2
        noise = rest**0.5 * (noisy - known * (OFFSET + self.slope * image))
        return noise / (known**2 * DEVIATION**2 + rest)


class ExactResidual(Exact):
    """That of the residual to `scaled(0.3)`."""

    slope = SLOPE - 0.3


class Nothing(Toy):
    """It takes all for noise: the residual is nothing."""

    def formula(self, image, noisy, known):
        return noisy / (1 - known**2) ** 0.5


class Broken(Toy):
    def formula(self, image, noisy, known):
        return keras.ops.log(noisy - 99)


@keras.saving.register_keras_serializable(package="tests")
class Small(Toy):
    """Two convolutions."""

    def formula(self, image, noisy, known):
        x = keras.layers.Concatenate()([image, noisy, noisy * known])
        x = keras.layers.Conv2D(8, 3, padding="same", activation="silu")(x)
        return keras.layers.Conv2D(3, 3, padding="same")(x)


def scaled(share):
    """A predictor of images that scales them by `share` in [-1, 1]."""
    image = keras.Input((None, None, 3))
    return keras.Model(image, share * image + (1 - share) / 2)


def heads(count=3, **kwargs):
    """A `Deblurrer` whose heads differ from each other."""
    network = NAFNet(2, (0,), 1, (0,), num_heads=count)
    rng = np.random.default_rng(0)
    arrays = network.get_weights()
    network.set_weights([x + rng.normal(0, 0.1, x.shape) for x in arrays])
    return Deblurrer(network, **kwargs)


def pairs(count=4, size=16):
    sharp = np.random.default_rng(0).random((count, size, size, 3), "float32")
    return 0.5 * (sharp + np.roll(sharp, 1, axis=2)), sharp


def values(weights):
    return [keras.ops.convert_to_numpy(weight) for weight in weights]


# Training.


@pytest.mark.parametrize("target", ["residual", "image"])
def test_loss_by_hand(target):
    """The noise is in sharp - g(blurry), and the error of it absolute."""
    x, y = pairs(2, 8)
    residual = target == "residual"
    model = DiffusionDeblurrer(
        scaled(0.5) if residual else None,
        Exact(),
        target=target,
        lambda_predictor=0.3 if residual else 0,
    )
    rng = np.random.default_rng(1)
    level = np.float32([0.4, 0.9])
    noise = rng.normal(size=x.shape).astype("float32")
    x, y, noise, level = map(keras.ops.convert_to_tensor, (x, y, noise, level))
    drawn = {"noise": noise, "noise_level": level}
    center = 0.5 * (2 * x - 1) if residual else 0
    if residual:
        drawn["prediction"] = (center + 1) / 2
    a = level[:, None, None, None]
    z = a * (2 * y - 1 - center) + (1 - a**2) ** 0.5 * noise
    found = np.array(model.denoiser([2 * x - 1, z, level]))
    expected = np.mean(np.abs(noise - found), axis=(1, 2, 3))
    if residual:
        expected += 0.3 * np.mean(np.abs(2 * y - 1 - center), axis=(1, 2, 3))
    loss = model.compute_loss(x, y, drawn)
    np.testing.assert_allclose(loss, expected.mean(), rtol=1e-5)
    weighted = model.compute_loss(x, y, drawn, np.float32([1, 0]))
    np.testing.assert_allclose(weighted, expected[0] / 2, rtol=1e-5)


def test_call_draws_noise_levels_and_images():
    x, _ = pairs()
    model = DiffusionDeblurrer(
        scaled(0.5), Exact(), schedule=NoiseSchedule(2, 0.2, 0.4)
    )
    first, second = model(x), model(x)
    np.testing.assert_allclose(first["prediction"], 0.5 * x + 0.25, atol=1e-6)
    assert first["noise"].shape == x.shape and first["noise_level"].shape == (4,)
    assert np.min(first["noise_level"]) >= 0.48**0.5
    assert not np.allclose(first["noise"], second["noise"])
    assert abs(np.std(first["noise"]) - 1) < 0.05


@pytest.mark.parametrize("hypotheses", ["mean", "each"])
def test_hypotheses_of_a_deblurrer_are_refined(hypotheses):
    x, _ = pairs(16, 8)
    deblurrer = heads()
    model = DiffusionDeblurrer(deblurrer, Exact(), hypotheses=hypotheses)
    found = np.array(model(x)["prediction"])
    images = np.array(deblurrer(x))
    if hypotheses == "mean":
        np.testing.assert_allclose(found, images.mean(axis=1), atol=1e-6)
        return
    errors = np.abs(images - found[:, None]).max(axis=(2, 3, 4))
    assert errors.min(axis=1).max() < 1e-6
    assert len(set(errors.argmin(axis=1))) > 2


def test_fit_lowers_the_loss_and_leaves_the_averages():
    x, y = pairs(8)
    model = DiffusionDeblurrer(scaled(1.0), Small())
    model.compile(keras.optimizers.Adam(1e-2, use_ema=True, ema_momentum=0.9))
    losses = model.fit(x, y, batch_size=4, epochs=40, verbose=0).history["loss"]
    assert np.mean(losses[-5:]) < 0.6 * losses[0]
    assert np.mean(losses[-5:]) > 0.6 * model.evaluate(x, y, verbose=0)
    averages = model.optimizer._model_variables_moving_average
    for a, b in zip(model.trainable_variables, averages):
        np.testing.assert_array_equal(a, b)


@pytest.fixture
def eager():
    """Large graphs take longer to make than a few images."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture(scope="module")
def whole():
    """A model of all parts, trained for a step."""
    x, y = pairs(2, 8)
    image = keras.Input((None, None, 3))
    model = DiffusionDeblurrer(
        keras.Model(image, keras.layers.Conv2D(3, 3, padding="same")(image)),
        UNet(2, noise_input=True, guided=True),
        StructureGuidance(2, 1),
        lambda_predictor=0.1,
    )
    rng = np.random.default_rng(1)
    arrays = model.get_weights()
    model.set_weights([array + rng.normal(0, 0.05, array.shape) for array in arrays])
    before = values(model.trainable_weights)
    model.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    model.train_on_batch(x, y)
    after = values(model.trainable_weights)
    assert len(after) > 250
    assert not any(np.array_equal(a, b) for a, b in zip(before, after))
    return model


def test_a_saved_model_restores_the_same(whole, eager, tmp_path):
    photo = pairs(1)[0][0]
    options = {"samples": 1, "steps": 2, "guard": False}
    found = whole.restore(photo, **options)
    whole.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    again = loaded.restore(photo, **options)
    np.testing.assert_array_equal(again.hypotheses, found.hypotheses)
    assert loaded.lambda_predictor == 0.1


def test_a_frozen_predictor_stays(tmp_path):
    x, y = pairs()
    predictor = heads()
    predictor.trainable = False
    model = DiffusionDeblurrer(predictor, Small(), hypotheses="each")
    before = values(predictor.weights)
    model.compile("sgd", run_eagerly=True)
    model.train_on_batch(x, y)
    for a, b in zip(before, values(predictor.weights)):
        np.testing.assert_array_equal(a, b)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert not loaded.predictor.trainable_weights
    assert loaded.get_config() == model.get_config()


def test_the_loss_is_the_model_s_own():
    x, y = pairs()
    model = DiffusionDeblurrer(None, Exact(), target="image")
    model.compile(loss="mse", run_eagerly=True)
    with pytest.raises(ValueError, match="`loss` of `compile`.*Received: loss='mse'$"):
        model.evaluate(x, y, verbose=0)


# Restoring.


@pytest.mark.parametrize("eta", [1.0, 0.0])
@pytest.mark.parametrize("target", ["residual", "image"])
def test_restored_samples_are_those_of_the_posterior(target, eta):
    if target == "residual":
        model = DiffusionDeblurrer(scaled(0.3), ExactResidual())
    else:
        model = DiffusionDeblurrer(None, Exact(), target="image")
    photo = np.full((24, 24, 3), 0.25, "float32")
    result = model.restore(photo, samples=2, steps=500, eta=eta, guard=False)
    mean = (OFFSET + SLOPE * -0.5 + 1) / 2
    error = DEVIATION / 2 / np.sqrt(result.hypotheses.size)
    assert abs(result.hypotheses.mean() - mean) < 4 * error
    # Of an infinite number of steps.
    assert abs(result.hypotheses.std() / (DEVIATION / 2) - 1) < 0.1
    np.testing.assert_allclose(result.image, result.hypotheses.mean(axis=0), atol=1e-6)
    assert result.image.dtype == np.float32 and result.names == ["0", "1"]
    np.testing.assert_allclose(
        result.uncertainty,
        np.sqrt(result.hypotheses.var(axis=0).mean(axis=-1)),
        atol=1e-6,
    )


def test_samples_take_the_place_of_hypotheses():
    model = DiffusionDeblurrer(scaled(0.3), ExactResidual())
    photos = np.random.default_rng(0).integers(64, 192, (2, 24, 20, 3), "uint8")
    options = {"samples": 3, "steps": 3, "guard": False}
    calls = []
    result = model.restore(
        photos, progress=lambda *numbers: calls.append(numbers), **options
    )
    assert calls == [(k, 6) for k in range(7)]
    assert result.image.shape == photos.shape and result.image.dtype == np.uint8
    assert result.hypotheses.shape == (2, 3, 24, 20, 3) and result.kept is None
    other = model.restore(photos, seed=1, **options)
    assert np.abs(other.hypotheses - result.hypotheses).mean() > 1e-3
    one = model.restore(photos, select=1, **options)
    np.testing.assert_array_equal(
        one.image, np.round(255 * result.hypotheses[:, 1]).astype("uint8")
    )
    chosen = model.restore(photos[1], select=lambda samples: samples[2], **options)
    np.testing.assert_array_equal(
        chosen.image, np.round(255 * result.hypotheses[1, 2]).astype("uint8")
    )
    medoid = result.select("medoid").image
    distances = [
        np.mean((sample - result.hypotheses[0].mean(axis=0)) ** 2)
        for sample in result.hypotheses[0]
    ]
    np.testing.assert_array_equal(
        medoid[0],
        np.round(255 * result.hypotheses[0, np.argmin(distances)]).astype("uint8"),
    )
    gray = model.restore(photos[0, ..., 0], **options)
    assert gray.image.shape == (24, 20) and gray.hypotheses.shape == (3, 24, 20, 1)


def test_implausible_samples_are_kept_out():
    model = DiffusionDeblurrer(None, Exact(), target="image")
    photo = np.full((32, 32, 3), 0.5, "float32")
    result = model.restore(photo, samples=1, steps=3)
    assert result.kept.all()
    np.testing.assert_array_equal(result.image, photo)


def test_every_sample_refines_a_hypothesis_of_its_own():
    deblurrer = heads()
    x, _ = pairs(1)
    options = {"samples": 8, "steps": 2, "guard": False}
    model = DiffusionDeblurrer(deblurrer, Nothing(), hypotheses="each")
    found = model.restore(x[0], **options).hypotheses
    expected = np.clip(deblurrer(x)[0], 0, 1)
    np.testing.assert_allclose(found[:6], expected, atol=1e-4)
    np.testing.assert_allclose(found[6:], expected[:2], atol=1e-4)
    model = DiffusionDeblurrer(deblurrer, Nothing())
    found = model.restore(x[0], **options).hypotheses
    mean = np.clip(np.mean(deblurrer(x)[0], axis=0), 0, 1)
    np.testing.assert_allclose(found, np.stack([mean] * 8), atol=1e-4)


def test_guidance_and_predictor_are_called_once_per_image(whole, eager, monkeypatch):
    calls, engine = [], whole._sampling_engine()

    def call(function, name, *arrays):
        calls.append(name)
        return function(*arrays)

    for name in ("_predictor", "_guidance", "_denoiser"):
        counted = functools.partial(call, getattr(engine, name), name)
        monkeypatch.setattr(engine, name, counted)
    whole.restore(pairs(1)[0][0], samples=2, steps=3)
    assert calls.count("_denoiser") == 2 * 3
    assert calls.count("_guidance") == calls.count("_predictor") == 1


def test_tiles_share_one_noise(whole, eager):
    """Seams are no wider than what a tile does not see around it."""
    photo = np.random.default_rng(0).random((264, 48, 3), "float32")
    options = {"samples": 1, "steps": 2, "guard": False}
    image = whole.restore(photo, tile=None, **options).image
    assert 0.05 < image.std() < 0.45
    for tile in (176, 224):
        tiles = whole.restore(photo, tile=tile, **options).image
        assert np.abs(tiles - image).mean() < 1e-3
        assert np.abs(tiles - image).max() < 0.03


def test_tiles_suit_all_networks():
    model = DiffusionDeblurrer(heads(tlc_train_size=96), Small())
    engine = model._sampling_engine()
    own = KerasEngine.of(model.predictor)
    assert engine.context == own.context == 96
    assert engine.multiple == engine.alignment == 8
    assert engine.bytes_per_pixel == 2500 > own.bytes_per_pixel


def test_nan_names_the_step():
    model = DiffusionDeblurrer(None, Broken(), target="image")
    with pytest.raises(FloatingPointError, match="Received: step=4 of 4$"):
        model.restore(np.zeros((8, 8, 3), "float32"), steps=4)


# Wrong arguments.


@pytest.mark.parametrize(
    "options, message",
    [
        ({"steps": 0}, "steps=0"),
        ({"samples": 0}, "samples=0"),
        ({"noise": 1.5}, "noise=1.5"),
        ({"noise": 0.0}, "noise=0.0"),
        ({"noise": 0.5, "steps": 200}, "noise=0.5"),
        ({"seed": -1}, "seed=-1"),
        ({"eta": 2}, "eta=2"),
        ({"memory_limit_mb": 0}, "memory_limit_mb=0"),
        ({"select": 4}, "select=4"),
        ({"tile": 8}, "tile=8"),
    ],
)
def test_wrong_options_are_refused(options, message):
    model = DiffusionDeblurrer(None, Exact(), target="image")
    with pytest.raises(ValueError, match=f"Received: {message}$"):
        model.restore(np.zeros((8, 8, 3), "float32"), **options)


class NoNoise(Small):
    noise_input = False


class Guided(Small):
    guided, base = True, 4


def narrow_guidance():
    return StructureGuidance(2, 0)


def gray():
    return Deblurrer(NAFNet(2, (), 0, (), image_channels=1))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"target": "noise"}, "target='noise'"),
        ({"predictor": None}, "predictor=None, target='residual'"),
        ({"target": "image"}, "target='image'"),
        ({"hypotheses": "best"}, "hypotheses='best'"),
        ({"hypotheses": "each"}, "hypotheses='each'"),
        ({"lambda_predictor": -1}, "lambda_predictor=-1"),
        ({"denoiser": NoNoise}, "denoiser.noise_input=False"),
        ({"guidance": narrow_guidance}, "denoiser.guided=False"),
        ({"denoiser": Guided}, "guidance=None, denoiser.guided=True"),
        ({"denoiser": Guided, "guidance": narrow_guidance}, "guidance.base=2"),
        ({"predictor": gray}, "predictor of image_channels=1"),
    ],
)
def test_parts_that_do_not_fit_are_refused(arguments, message):
    arguments = {"predictor": lambda: scaled(0.5), "denoiser": Exact, **arguments}
    arguments = {
        name: value() if callable(value) else value for name, value in arguments.items()
    }
    with pytest.raises(ValueError, match=f"Received: .*{message}$"):
        DiffusionDeblurrer(**arguments)
