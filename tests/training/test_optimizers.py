import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_mhdeblur import Deblurrer
from keras_mhdeblur.networks import NAFNet
from keras_mhdeblur.training import TorchAdamW


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
