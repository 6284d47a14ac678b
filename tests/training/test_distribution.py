"""Two replicas give what one device gives."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_mhdeblur as mhd


@pytest.fixture(scope="module")
def strategy():
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def train(make_optimizer, x, y, strategy=None, sample_weight=None, metrics=()):
    scope = strategy.scope() if strategy else tf.device("CPU:0")
    with scope:
        keras.utils.set_random_seed(5)
        network = mhd.networks.NAFNet(4, (1,), 1, (1,), num_heads=3)
        model = mhd.Deblurrer(network)
        model.compile(make_optimizer(), metrics=[metric() for metric in metrics])
    start = [np.array(w.numpy()) for w in model.weights]
    history = model.fit(
        x, y, batch_size=4, epochs=2, shuffle=False, verbose=0,
        sample_weight=sample_weight,
    ).history  # fmt: skip
    result = model.evaluate(x, y, batch_size=4, verbose=0, return_dict=True)
    return start, [np.array(w.numpy()) for w in model.weights], history, result


@pytest.mark.parametrize(
    "make_optimizer, weighted",
    [
        (lambda: keras.optimizers.SGD(1.0, global_clipnorm=0.01), True),
        (lambda: mhd.training.TorchAdamW(1e-3, 1e-3, global_clipnorm=0.01), False),
        (lambda: mhd.training.TorchAdamW(1e-3, use_ema=True), True),
    ],
    ids=["sgd_clip", "adamw_clip", "adamw_ema"],
)
def test_two_replicas_equal_one_device(strategy, make_optimizer, weighted):
    rng = np.random.default_rng(0)
    y = rng.random((8, 8, 8, 3), "float32")
    x = 0.5 * (y + np.roll(y, 1, axis=1))
    sample_weight = np.arange(1, 9, dtype="float32") / 4 if weighted else None
    metrics = [mhd.metrics.PSNROverall, mhd.metrics.HeadUsage]
    start, one, one_history, one_result = train(
        make_optimizer, x, y, None, sample_weight, metrics
    )
    _, two, two_history, two_result = train(
        make_optimizer, x, y, strategy, sample_weight, metrics
    )
    assert max(np.abs(a - b).max() for a, b in zip(start, one)) > 1e-3
    for a, b in zip(one, two):
        np.testing.assert_allclose(a, b, atol=5e-6)
    for one_log, two_log in ((one_history, two_history), (one_result, two_result)):
        for key in one_log:
            np.testing.assert_allclose(two_log[key], one_log[key], rtol=1e-4, atol=1e-5)
