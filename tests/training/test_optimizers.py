import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_mhdeblur import Deblurrer
from keras_mhdeblur.networks import NAFNet
from keras_mhdeblur.training import Muon, TorchAdamW


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_torch_adamw_follows_its_equations(dtype):
    rng = np.random.default_rng(0)
    value = rng.normal(size=5)
    variable = keras.Variable(value, dtype=dtype)
    optimizer = TorchAdamW(0.1, 0.01, 0.8, 0.9, 1e-2, use_ema=True, ema_momentum=0.7)
    optimizer.build([variable])
    m = v = average = 0
    for step in range(1, 4):
        gradient = rng.normal(size=5)
        optimizer.apply([keras.ops.convert_to_tensor(gradient, dtype)])
        m = 0.8 * m + 0.2 * gradient
        v = 0.9 * v + 0.1 * gradient**2
        root = np.sqrt(v / (1 - 0.9**step)) + 1e-2
        value = value * (1 - 0.1 * 0.01) - 0.1 * m / (1 - 0.8**step) / root
        average = value if step == 1 else 0.7 * average + 0.3 * value
    np.testing.assert_allclose(variable.numpy(), value, rtol=2e-6)
    optimizer.finalize_variable_values([variable])
    np.testing.assert_allclose(variable.numpy(), average, rtol=2e-6)


@pytest.mark.parametrize("shape", [(16, 24), (24, 16)])
def test_muon_makes_the_singular_values_equal(shape):
    rng = np.random.default_rng(0)
    value = rng.normal(size=(1, 1, *shape))
    variable = keras.Variable(value, dtype="float64")
    optimizer = Muon(0.1, 0.01, 0.9, use_ema=True, ema_momentum=0.7)
    optimizer.build([variable])
    m = average = 0
    for step in range(1, 4):
        gradient = rng.normal(size=shape)
        optimizer.apply([keras.ops.convert_to_tensor(gradient[None, None], "float64")])
        m = 0.9 * m + gradient
        u, singular, v = np.linalg.svd(gradient + 0.9 * m, full_matrices=False)
        singular /= np.linalg.norm(singular)
        for _ in range(5):
            singular = 3.4445 * singular - 4.775 * singular**3 + 2.0315 * singular**5
        assert 0.65 < singular.min() and singular.max() < 1.25
        value = value * (1 - 0.1 * 0.01) - 0.1 * 0.2 * 24**0.5 * (u * singular) @ v
        average = value if step == 1 else 0.7 * average + 0.3 * value
    np.testing.assert_allclose(variable.numpy(), value, atol=1e-6)
    optimizer.finalize_variable_values([variable])
    np.testing.assert_allclose(variable.numpy(), average, atol=1e-6)


@pytest.mark.parametrize("shape", [(3, 3, 16, 16), (1, 1, 16, 8), (16,)])
def test_muon_is_adamw_for_all_but_pointwise_convolutions(shape):
    gradients = np.random.default_rng(0).normal(size=(3, *shape))
    values = []
    for optimizer in (Muon(0.1, 0.01), TorchAdamW(0.1, 0.01)):
        variable = keras.Variable(np.ones(shape))
        optimizer.build([variable])
        for gradient in gradients:
            optimizer.apply([keras.ops.convert_to_tensor(gradient, "float32")])
        values.append(variable.numpy())
    np.testing.assert_array_equal(*values)


@pytest.mark.parametrize("optimizer", [TorchAdamW, Muon])
def test_amsgrad_is_refused(optimizer):
    with pytest.raises(ValueError, match="Received: amsgrad=True"):
        optimizer(amsgrad=True)
    # The configurations of Keras hold amsgrad=False.
    copy = optimizer.from_config(optimizer(0.5).get_config())
    assert float(copy.learning_rate) == 0.5


def test_fit_leaves_the_settings_of_tensorflow():
    before = tf.config.optimizer.get_experimental_options()
    network = NAFNet(4, (1,), 1, (1,), num_heads=2)
    model = Deblurrer(network)
    model.compile(TorchAdamW(1e-3))
    inside = []
    model.fit(
        *np.zeros((2, 1, 16, 16, 3), "float32"),
        callbacks=[
            keras.callbacks.LambdaCallback(
                on_train_begin=lambda logs: inside.append(
                    tf.config.optimizer.get_experimental_options()
                )
            )
        ],
        verbose=0,
    )
    after = tf.config.optimizer.get_experimental_options()
    off = "disable_meta_optimizer"
    assert inside[0][off] and after.get(off, False) == before.get(off, False)
