"""Several replicas, on one machine or on many, give what one device gives."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_mhdeblur as mhd
from keras_mhdeblur.training.distribution import (
    is_chief,
    make_strategy,
    num_replicas,
    per_replica_batch_size,
)

TWO_MACHINES = Path(__file__).parents[1] / "programs" / "two_machines.py"


@pytest.fixture(scope="module")
def strategy():
    strategy = make_strategy("mirrored")
    assert num_replicas(strategy) == 2
    return strategy


@pytest.fixture
def make_model():
    def make(optimizer, metrics=(), loss=None, **options):
        keras.utils.set_random_seed(5)
        model = mhd.Deblurrer(mhd.networks.NAFNet(4, (), 1, (), num_heads=3))
        model.compile(optimizer(), loss, [metric() for metric in metrics], **options)
        return model

    return make


def blurry_and_sharp(samples):
    y = np.random.default_rng(0).random((samples, 8, 8, 3), "float32")
    return 0.5 * (y + np.roll(y, 1, axis=1)), y


def arrays(variables):
    return [np.array(variable.numpy()) for variable in variables]


def assert_equal_logs(found, expected):
    assert found.keys() == expected.keys()
    for key in expected:
        np.testing.assert_allclose(found[key], expected[key], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "optimizer, samples, weighted",
    [
        (lambda: keras.optimizers.SGD(1.0, global_clipnorm=0.01), 8, True),
        pytest.param(
            lambda: keras.optimizers.SGD(0.01), 7, False, marks=pytest.mark.slow
        ),
        pytest.param(
            lambda: mhd.training.TorchAdamW(1e-3, 1e-3, global_clipnorm=0.01),
            7,
            True,
            marks=pytest.mark.slow,
        ),
        (lambda: mhd.training.TorchAdamW(1e-3, use_ema=True), 5, False),
    ],
    ids=["sgd_clip", "sgd_ragged", "adamw_clip_ragged", "adamw_ema_empty_replica"],
)
def test_two_replicas_equal_one_device(
    strategy, make_model, optimizer, samples, weighted
):
    x, y = blurry_and_sharp(samples)
    sample_weight = np.arange(1, samples + 1) / 4 if weighted else None
    metrics = [mhd.metrics.PSNROverall, mhd.metrics.HypothesisUsage]

    def train(scope):
        with scope:
            model = make_model(optimizer, metrics)
        start = arrays(model.weights)
        history = model.fit(
            x, y, batch_size=4, epochs=2, shuffle=False, verbose=0,
            sample_weight=sample_weight,
        ).history  # fmt: skip
        counts = arrays(model.metrics_variables)
        return start, arrays(model.weights), history, counts

    start, one, one_history, one_counts = train(tf.device("CPU:0"))
    _, two, two_history, two_counts = train(strategy.scope())
    assert max(np.abs(a - b).max() for a, b in zip(start, one)) > 1e-3
    for a, b in zip(one, two):
        np.testing.assert_allclose(b, a, atol=5e-6)
    assert_equal_logs(two_history, one_history)
    # Last are the totals and the count of HypothesisUsage.
    for a, b in zip(one_counts[-2:], two_counts[-2:]):
        np.testing.assert_array_equal(a, b)
    assert sorted(map(np.sum, two_counts[-2:])) == [samples, samples]


@pytest.mark.parametrize("weighted", [
    "targets", pytest.param(None, marks=pytest.mark.slow),
    pytest.param("samples", marks=pytest.mark.slow),
])  # fmt: skip
def test_targets_on_two_replicas_equal_one_device(strategy, make_model, weighted):
    x, y = blurry_and_sharp(12)
    targets = np.stack([y, x, y[::-1]], axis=1)
    weight = {
        None: None,
        "samples": np.arange(1, 13, dtype="float32") / 4,
        "targets": np.array(mhd.losses.target_weights([3, 1, 2, 3, 2, 2] * 2, 3)),
    }[weighted]

    def train(scope):
        with scope:
            model = make_model(
                lambda: mhd.training.TorchAdamW(1e-3, global_clipnorm=0.01),
                weighted_metrics=[mhd.metrics.PSNROverall()],
            )
        # The last batches give the replicas two samples and one, then one and none.
        for rows in slice(7), slice(7, 12):
            history = model.fit(
                x[rows], targets[rows], batch_size=4, shuffle=False, verbose=0,
                sample_weight=None if weight is None else weight[rows],
            ).history  # fmt: skip
        return arrays(model.weights), history

    one, one_history = train(tf.device("CPU:0"))
    two, two_history = train(strategy.scope())
    for a, b in zip(one, two):
        np.testing.assert_allclose(b, a, atol=5e-6)
    assert_equal_logs(two_history, one_history)


@pytest.mark.slow
@pytest.mark.parametrize("bad", [0, 3])
def test_a_step_that_overflows_on_one_replica_is_skipped(strategy, make_model, bad):
    x, y = blurry_and_sharp(4)
    y[bad] = np.nan
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        with strategy.scope():
            model = make_model(lambda: mhd.training.TorchAdamW(1e-3))
    finally:
        keras.config.set_dtype_policy(policy)
    before = arrays(model.weights)
    model.fit(x, y, batch_size=4, shuffle=False, verbose=0)
    for a, b in zip(before, arrays(model.weights)):
        np.testing.assert_array_equal(b, a)


@pytest.mark.slow
def test_single_images_on_two_replicas(strategy, make_model):
    x, y = blurry_and_sharp(3)
    signature = (tf.TensorSpec((None, None, 3)),) * 2
    images = tf.data.Dataset.from_generator(
        lambda: zip(x, y), output_signature=signature
    )
    results, predictions = [], []
    for scope in tf.device("CPU:0"), strategy.scope():
        with scope:
            model = make_model(
                keras.optimizers.SGD,
                [mhd.metrics.HypothesisUsage, mhd.metrics.PSNRMean],
            )
        results.append(model.evaluate(images.batch(1), return_dict=True, verbose=0))
        predictions.append(model.predict(images.batch(1), verbose=0))
    assert_equal_logs(results[1], results[0])
    np.testing.assert_allclose(predictions[1], predictions[0], atol=1e-5)


@pytest.mark.parametrize(
    "options, received",
    [
        ({"jit_compile": True}, "jit_compile=True"),
        ({"steps_per_execution": 3}, "steps_per_execution=3"),
        (
            {"optimizer": lambda: keras.optimizers.SGD(gradient_accumulation_steps=2)},
            "gradient_accumulation_steps=2",
        ),
        ({"optimizer": lambda: keras.optimizers.SGD(clipnorm=0.5)}, "clipnorm=0.5"),
        ({"optimizer": lambda: keras.optimizers.SGD(clipvalue=0.5)}, "clipvalue=0.5"),
        (
            {"loss": mhd.losses.HypothesisLoss("mse", reduction="sum")},
            "loss.reduction='sum'",
        ),
    ],
)
def test_what_replicas_cannot_do_is_refused(strategy, make_model, options, received):
    options = {"optimizer": keras.optimizers.SGD, **options}
    make_model(**options)  # one device can
    with pytest.raises(ValueError, match=f"Received: {received}"):
        with strategy.scope():
            make_model(**options)


def test_what_is_made_outside_the_scope_is_refused(strategy, make_model):
    def refused():
        return pytest.raises(ValueError, match="inside `strategy.scope\\(\\)`")

    optimizer, metric = keras.optimizers.SGD(), mhd.metrics.HypothesisUsage()
    with strategy.scope(), refused():
        make_model(lambda: optimizer)
    with strategy.scope(), refused():
        make_model(keras.optimizers.SGD, [lambda: metric])
    model = make_model(keras.optimizers.SGD)
    with strategy.scope(), refused():
        model.fit(*blurry_and_sharp(4), verbose=0)


def test_strategies(strategy, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert make_strategy("none") is None
    # A second one over the same devices would mix up the sums of both.
    assert make_strategy("mirrored") is strategy
    assert num_replicas(None) == 1 and is_chief(None) and is_chief(strategy)
    assert per_replica_batch_size(strategy, 8) == 4
    with pytest.raises(ValueError, match="multiple of the 2 replicas.*batch_size=7"):
        per_replica_batch_size(strategy, 7)
    with pytest.raises(ValueError, match="strategy='ring'"):
        make_strategy("ring")
    with pytest.raises(ValueError, match="TF_CONFIG"):
        make_strategy("multiworker")


@pytest.mark.slow
def test_two_machines_equal_one_device(make_model, tmp_path):
    x, y = blurry_and_sharp(7)
    np.save(tmp_path / "data.npy", np.stack([x, y]))
    model = make_model(
        lambda: mhd.training.TorchAdamW(1e-3, use_ema=True, global_clipnorm=0.01),
        [mhd.metrics.HypothesisUsage],
    )
    model.save_weights(tmp_path / "start.weights.h5")
    workers = start_workers(TWO_MACHINES, tmp_path)
    history = model.fit(
        x, y, batch_size=4, epochs=2, shuffle=False, verbose=0, validation_data=(x, y)
    ).history
    errors = [worker.communicate(timeout=900)[1] for worker in workers]
    # The error of worker 1 stops worker 0, which trained well until then.
    assert all(worker.returncode for worker in workers)
    assert "worker 1 lost its disk" in errors[1], errors[1]
    for index in range(2):
        assert (tmp_path / f"history{index}.json").exists(), errors[index]
        assert_equal_logs(
            json.loads((tmp_path / f"history{index}.json").read_text()), history
        )
        found = np.load(tmp_path / f"worker{index}.npz")
        for a, b in zip(arrays(model.weights), found.values()):
            np.testing.assert_allclose(b, a, atol=5e-6)
    assert (tmp_path / "chief.weights.h5").exists()


def start_workers(program, folder):
    sockets = [socket.socket() for _ in range(2)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    configs = [
        {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        for index in range(2)
    ]
    return [
        subprocess.Popen(
            [sys.executable, str(program), str(folder)],
            env={
                **os.environ,
                "TF_CONFIG": json.dumps(config),
                # The same package as here, wherever the program lies.
                "PYTHONPATH": os.pathsep.join(sys.path),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for config in configs
    ]
