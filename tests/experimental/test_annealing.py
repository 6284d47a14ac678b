"""The annealed assignment of labels to hypotheses."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_mhdeblur import losses
from keras_mhdeblur.experimental import annealing
from keras_mhdeblur.experimental.annealing import AnnealedHypothesisLoss
from keras_mhdeblur.layers import bilinear_downsample
from keras_mhdeblur.training.distribution import make_strategy


def loss_and_gradients(loss, target, predictions):
    predictions = [tf.constant(p) for p in predictions]
    with tf.GradientTape() as tape:
        tape.watch(predictions)
        value = loss(target, predictions if len(predictions) > 1 else predictions[0])
    return value, tape.gradient(value, predictions)


def random_stages(count=1, heads=3):
    rng = np.random.default_rng(0)
    label = rng.random((2, 5, 4, 3), "float32")
    return label, list(rng.random((count, 2, heads, 5, 4, 3), "float32"))


def annealed(base=None, steps=10, **settings):
    base = losses.MSELoss(weight=0.5) if base is None else base
    return AnnealedHypothesisLoss(base, annealing_steps=steps, **settings)


def softmin(distances, temperature):
    mean = distances.mean(axis=1, keepdims=True)
    shares = np.exp(-distances / (temperature * mean))
    return shares / shares.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("relaxation", [0.0, 0.3])
def test_annealing_trains_every_head_with_its_share(relaxation):
    label, (stack,) = random_stages()
    loss = annealed(combine=False, relaxation=relaxation).at_step(6)
    value, (gradient,) = loss_and_gradients(loss, label, [stack])
    error = stack - label[:, None]
    mse = np.mean(error**2, axis=(2, 3, 4))
    weights = softmin(mse, 0.4)
    weights = relaxation / 2 + (1 - 1.5 * relaxation) * weights
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-6)
    expected = 0.5 * np.mean(np.sum(weights * mse, axis=1))
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    expected = 0.5 * weights[..., None, None, None] * 2 * error / (60 * len(label))
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("base", [losses.PSNRLoss(), losses.PSNRLoss(0.5)])
def test_shares_of_psnr_are_those_of_the_squared_error(base):
    label, (stack,) = random_stages()
    pairs = np.stack(
        [(stack[:, i] + stack[:, j]) / 2 for i in range(3) for j in range(i + 1)], 1
    )
    mse = np.mean((pairs - label[:, None]) ** 2, axis=(2, 3, 4))
    value = annealed(base).at_step(9)(label, stack)
    expected = np.sum(softmin(mse, 0.1) * 10 * np.log10(mse), axis=1).mean()
    np.testing.assert_allclose(value, base.weight * expected, rtol=1e-5)


@pytest.mark.parametrize("relaxation", [0.0, 0.2])
def test_annealing_ends_with_the_hard_assignment(relaxation):
    label, stages = random_stages(2)
    hard = losses.HypothesisLoss(losses.PSNRLoss(), relaxation=relaxation)
    loss = annealed(losses.PSNRLoss(), steps=2000, relaxation=relaxation, balance=0.1)
    expected, gradients = loss_and_gradients(hard, label, stages)
    for cold in (loss, loss.at_step(2000), loss.at_step(5000)):
        value, found = loss_and_gradients(cold, label, stages)
        np.testing.assert_array_equal(value, expected)
        np.testing.assert_array_equal(found, gradients)
    almost, _ = loss_and_gradients(loss.at_step(1990), label, stages)
    assert abs(almost - expected) > 1e-6


def test_annealing_of_perfect_predictions():
    label, _ = random_stages()
    stack = np.stack([label, label], axis=1)
    loss = annealed(losses.L1Loss(), balance=0.1).at_step(0)
    value, (gradient,) = loss_and_gradients(loss, label, [stack])
    assert abs(value) < 1e-6 and np.isfinite(gradient).all()


def test_imbalance():
    shares = np.array([[1.0, 0, 0], [0.5, 0.5, 0]], "float32")
    expected = 0.75 * np.log(3 * 0.75) + 0.25 * np.log(3 * 0.25)
    np.testing.assert_allclose(annealing.imbalance(shares), expected, rtol=1e-6)
    equal = annealing.imbalance(np.eye(3, dtype="float32"))
    np.testing.assert_allclose(equal, 0, atol=1e-6)


def test_balance_makes_the_overused_head_worse():
    label, (stack,) = random_stages(heads=2)
    stack[:, 0] = label + 0.1 * (stack[:, 0] - label)
    plain, balanced = annealed(combine=False), annealed(combine=False, balance=2.0)
    value, (gradient,) = loss_and_gradients(plain.at_step(5), label, [stack])
    other, (moved,) = loss_and_gradients(balanced.at_step(5), label, [stack])
    mse = np.mean((stack - label[:, None]) ** 2, axis=(2, 3, 4))
    usage = softmin(mse, 0.5).mean(axis=0)
    extra = 2.0 * 0.5 * np.sum(usage * np.log(2 * usage))
    np.testing.assert_allclose(other - value, extra, rtol=1e-4)
    # Along the errors, descent lets head 0 grow worse and head 1 better.
    along = np.sum((moved - gradient) * (stack - label[:, None]), axis=(0, 2, 3, 4))
    assert along[0] < 0 < along[1]


def test_the_final_stage_may_choose_for_all():
    label = np.zeros((1, 2, 2, 3), "float32")
    stages = [
        np.stack([np.full_like(label, value) for value in values], axis=1)
        for values in ([0.5, 0.1], [0.2, 0.3])
    ]
    for choice, expected in ("independent", 0.01 + 0.04), ("final", 0.01 + 0.09):
        loss = annealed(losses.MSELoss(), combine=False, stage_assignment=choice)
        value, gradients = loss_and_gradients(loss, label, stages)
        np.testing.assert_allclose(value, expected, rtol=1e-6)
        trained = [np.abs(g).max(axis=(0, 2, 3, 4)) > 0 for g in gradients]
        second = [True, False] if choice == "independent" else [False, True]
        assert [t.tolist() for t in trained] == [[False, True], second]


def test_the_shares_of_the_final_stage_are_those_of_all():
    label, stages = random_stages(2)
    loss = annealed(combine=False, stage_assignment="final", balance=2.0).at_step(5)
    first, second = (
        np.mean((stack - label[:, None]) ** 2, axis=(2, 3, 4)) for stack in stages
    )
    shares = softmin(first, 0.5)
    usage = shares.mean(axis=0)
    expected = 0.5 * np.sum(shares * (first + second), axis=1).mean()
    expected += 2.0 * 0.5 * np.sum(usage * np.log(3 * usage))
    np.testing.assert_allclose(loss(label, stages), expected, rtol=1e-5)


def test_the_winner_at_full_size_may_be_that_of_all_scales():
    rng = np.random.default_rng(0)
    label = rng.random((2, 16, 24, 3), "float32")
    sizes = [(16, 24), (8, 12), (4, 6)]
    stacks = [rng.random((2, 3, *size, 3), "float32") for size in sizes]
    for index, stack in enumerate(stacks):
        stack[:, index] = 0.5
    base = losses.L1Loss()
    loss = annealed(base, combine=False, stage_assignment="final")
    labels = [label, *(np.array(bilinear_downsample(label, f)) for f in (2, 4))]
    values = [base.call(y[:, None], stack) for y, stack in zip(labels, stacks)]
    assert [np.argmax(-v, axis=1).tolist() for v in values] == [
        [k, k] for k in (0, 1, 2)
    ]
    expected = np.mean([v[:, 0] for v in values], axis=1).sum()
    np.testing.assert_allclose(loss(label, stacks), expected, rtol=1e-5)


@pytest.mark.parametrize("settings, received", [
    ({"annealing_steps": None}, "annealing_steps=None"),
    ({"annealing_steps": 0}, "annealing_steps=0"),
    ({"annealing_steps": 9, "balance": -1}, "balance=-1"),
    ({"annealing_steps": 9, "stage_assignment": "last"}, "stage_assignment='last'"),
])  # fmt: skip
def test_wrong_arguments(settings, received):
    with pytest.raises(ValueError, match=f"Received: {received}$"):
        AnnealedHypothesisLoss("mse", **settings)


def test_several_targets_are_refused():
    label, (stack,) = random_stages()
    for loss in annealed(), annealed().at_step(3):
        with pytest.raises(ValueError, match="takes one label per sample.* Received:"):
            loss(label[:, None], stack)


def test_config_round_trip():
    loss = annealed(
        combine=False,
        relaxation=0.1,
        balance=0.2,
        stage_assignment="final",
        reduction="sum",
    )
    copy = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(loss)
    )
    label, stages = random_stages(2)
    for a, b in (copy, loss), (copy.at_step(3), loss.at_step(3)):
        np.testing.assert_array_equal(a(label, stages), b(label, stages))
    assert copy.get_config() == loss.get_config()


# Training on the toy labels.


def of_steps(steps):
    return annealed(losses.MSELoss(), steps, combine=False)


def test_annealing_leaves_no_head_dead(toy):
    heads, _ = toy.train(loss=of_steps(60))
    np.testing.assert_allclose(np.sort(heads), toy.labels, atol=0.01)


def test_the_temperature_follows_the_steps_of_the_optimizer(toy):
    expected, _ = toy.train(loss=of_steps(20), steps=10)
    # Every second batch is a step.
    accumulating = keras.optimizers.SGD(0.5, gradient_accumulation_steps=2)
    heads, _ = toy.train(accumulating, of_steps(20), steps=20)
    np.testing.assert_allclose(heads, expected, rtol=1e-5)
    with make_strategy("mirrored").scope():
        heads, _ = toy.train(loss=of_steps(20), steps=10)
    np.testing.assert_allclose(heads, expected, rtol=1e-5)
