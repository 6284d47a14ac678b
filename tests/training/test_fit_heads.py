"""Heads fitted in closed form to labels that heads made, and to noisy ones."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_mhdeblur as mhd
from keras_mhdeblur.layers.heads import head_parameters, set_head_parameters
from keras_mhdeblur.training import fit_heads, head_statistics
from keras_mhdeblur.training.fit_heads import Objective, _revived, _solve
from keras_mhdeblur.training.head_statistics import hypothesis_weights


def toy():
    """A model of one head; its trunk is one block."""
    network = mhd.networks.NAFNet(4, (), 1, (), num_heads=1)
    for index, weight in enumerate(network.weights):
        noise = keras.random.normal(weight.shape, seed=index)
        weight.assign(weight + 0.2 * noise)
    return mhd.Deblurrer(network)


def images(count, height=12, width=11, seed=0):
    return np.random.default_rng(seed).random((count, height, width, 3), "float32")


def changed(parameters, seed, size=0.1):
    return parameters + size * np.random.default_rng(seed).normal(size=parameters.shape)


def labels_of(model, blurry, heads, pairs):
    """What pairs of heads, one per crop, make of crops."""
    network = model.network.with_num_heads(len(heads))
    set_head_parameters(network.head_layer, heads)
    stack = network.predict(blurry, verbose=0)
    return np.array([(s[i] + s[j]) / 2 for s, (i, j) in zip(stack, pairs)])


def noisy(count=24, seed=3, model=None):
    """Crops and labels that differ from them at random, each by another strength."""
    random = np.random.default_rng(seed)
    blurry = images(count, seed=seed)
    strength = random.uniform(-0.5, 0.5, (count, 1, 1, 3))
    sharp = blurry + strength * (blurry - np.roll(blurry, 1, axis=2))
    return blurry, (sharp + random.normal(0, 0.02, sharp.shape)).astype("float32")


def squared_errors(hypotheses, labels):
    difference = hypotheses.astype("float64") - labels[:, None]
    return np.square(difference).mean(axis=(2, 3, 4))


@pytest.mark.parametrize("combine, pairs", [
    (False, [(0, 0), (1, 1)]),
    (True, [(0, 0), (1, 0), (1, 1)]),
])  # fmt: skip
@pytest.mark.parametrize("hold_first", [False, True])
def test_finds_the_heads_that_made_the_labels(combine, pairs, hold_first):
    model = toy()
    (head,) = head_parameters(model.network.head_layer)
    heads = np.stack([head, changed(head, 1)])
    if not hold_first:
        heads[0] = changed(head, 2)
    blurry = images(24)
    labels = labels_of(model, blurry, heads, pairs * (24 // len(pairs)))
    options = {"combine_heads": combine, "hold_first": hold_first, "ridge": 1e-10}
    fitted = fit_heads(model, [(blurry, labels)], 2, **options)
    found = head_parameters(fitted.network.head_layer)
    if np.abs(found[0] - heads[0]).max() > 0.01:
        found = found[::-1]
    np.testing.assert_allclose(found, heads, atol=1e-4)
    hypotheses = np.array(fitted(blurry))
    assert squared_errors(hypotheses, labels).min(axis=1).max() < 1e-9


@pytest.mark.parametrize(
    "combine, mean_weight",
    [
        pytest.param(False, 0, marks=pytest.mark.slow),
        pytest.param(False, 0.5, marks=pytest.mark.slow),
        pytest.param(True, 0, marks=pytest.mark.slow),
        (True, 0.5),
    ],
)
def test_the_objective_never_rises(combine, mean_weight):
    model = toy()
    statistics = head_statistics(model, [noisy(40)])
    network = model.network.with_num_heads(3)
    weights, sizes = hypothesis_weights(network, combine), []
    for ridge in (1e-8, 1e-3, 10):
        objective = Objective(statistics, weights, ridge, mean_weight)
        changes, history = _solve(objective, restarts=2, tolerance=1e-8)
        assert len(history) > 3 and (np.diff(history) <= 0).all()
        errors = objective.errors(changes)
        np.testing.assert_allclose(objective.value(changes, errors), history[-1])
        # Step by step, also where `_solve` would have stopped.
        updated = objective.minimiser(errors, objective.assignment(errors))
        value = objective.value(updated, objective.errors(updated))
        assert value < history[-1] + 1e-9
        sizes.append(np.einsum("kpc,p->", np.square(changes), objective.metric))
    assert sizes[0] > sizes[1] > sizes[2] > 0


@pytest.mark.parametrize(
    "hold_first, mean_weight",
    [
        pytest.param(False, 0, marks=pytest.mark.slow),
        (False, 0.5),
        (True, 0),
        pytest.param(True, 0.5, marks=pytest.mark.slow),
    ],
)
def test_the_gradient_of_the_training_loss_vanishes(mean_weight, hold_first):
    model, (blurry, sharp) = toy(), noisy()
    statistics = head_statistics(model, [(blurry, sharp)])
    weights = hypothesis_weights(model.network.with_num_heads(3), True)
    objective = Objective(statistics, weights, 1e-3, mean_weight, hold_first)
    changes, _ = _solve(objective, restarts=1, tolerance=1e-14)
    network = model.network.with_num_heads(3)
    base = mhd.losses.PSNRLoss(weight=np.log(10) / 10)
    loss = mhd.losses.HypothesisLoss(base)
    metric = tf.constant(objective.metric[:, None], "float32")

    def gradient(changes):
        set_head_parameters(network.head_layer, statistics.reference + changes)
        with tf.GradientTape() as tape:
            stack = network(blurry)
            value = tf.reduce_mean(loss(sharp, [stack]))
            mean = tf.reduce_mean(stack, axis=1)
            value += mean_weight * tf.reduce_mean(base(sharp, mean))
            kernel, bias = network.head_layer.conv.weights
            rows = tf.concat([tf.reshape(kernel, (-1, 9)), bias[None]], axis=0)
            change = tf.reshape(rows, (-1, 3, 3)) - statistics.reference[:, None]
            penalty = tf.reduce_sum(metric[..., None] * tf.square(change))
            value += 1e-3 / 3 * penalty
        slopes = tape.gradient(value, [kernel.value, bias.value])
        slopes = np.concatenate([slope.numpy().reshape(-1, 3, 3) for slope in slopes])
        return value.numpy(), slopes[:, int(hold_first) :]

    value, slope = gradient(changes)
    assert value == pytest.approx(objective.value(changes, objective.errors(changes)),
                                  abs=1e-4)  # fmt: skip
    _, elsewhere = gradient(1.05 * changes)
    assert np.abs(slope).max() < 2e-3 * np.abs(elsewhere).max()


def test_the_first_head_is_held():
    model, crops = toy(), noisy()
    fitted = fit_heads(model, [crops], 3, hold_first=True)
    head = fitted.network.with_folded_heads([1, 0, 0]).get_layer("heads")
    published = model.network.head_layer.get_weights()
    for found, expected in zip(head.get_weights(), published):
        np.testing.assert_array_equal(found, expected)
    found = fitted.predict(crops[0], verbose=0)
    expected = model.predict(crops[0], verbose=0)[:, 0]
    np.testing.assert_allclose(found[:, 0], expected, atol=1e-6)
    assert np.abs(found[:, 1:] - expected[:, None]).max(axis=(0, 2, 3, 4)).min() > 0.01


@pytest.mark.quick_kinds("NAFNet", "HINet")
def test_copies_with_several_heads_make_the_same_images(kind):
    network, image = kind.small(num_heads=1), images(2, 9, 14)
    copy = network.with_num_heads(3)
    assert type(copy) is type(network) and copy.num_heads == 3
    stacks, singles = map(keras.tree.flatten, (copy(image), network(image)))
    for stack, expected in zip(stacks, singles, strict=True):
        assert stack.shape[1] == 3 * expected.shape[1]
        expected = np.repeat(expected, 3, axis=1)
        np.testing.assert_allclose(stack, expected, rtol=1e-4, atol=1e-5)
    before = network.get_weights()
    for weight in copy.weights:
        weight.assign(0 * weight)
    for weight, expected in zip(network.get_weights(), before):
        np.testing.assert_array_equal(weight, expected)


@pytest.mark.quick_kinds("NAFNet", "HINet")
def test_copies_with_as_many_heads(kind):
    network = kind.small()
    copy = network.with_num_heads(2)
    for weight, expected in zip(copy.weights, network.weights, strict=True):
        assert weight is not expected
        np.testing.assert_array_equal(weight, expected)
    with pytest.raises(ValueError, match="must be 2.*Received: num_heads=3"):
        network.with_num_heads(3)


@pytest.fixture(scope="module")
def family(kind):
    """A model of one head of each kind, crops of odd sizes, their statistics."""
    size = kind.statistics(16)
    model = mhd.Deblurrer(kind.small(num_heads=1), tlc_train_size=size)
    blurry, sharp = noisy(16)
    blurry, sharp = blurry[:, :9], sharp[:, :9]
    data = [(blurry[:5], sharp[:5]), (blurry[5:], sharp[5:])]
    return model, blurry, sharp, head_statistics(model, data)


@pytest.mark.quick_kinds("NAFNet")
def test_statistics_tell_the_errors_of_the_network(family):
    model, blurry, sharp, statistics = family
    found = statistics.evaluate(model)
    expected = squared_errors(np.array(model(blurry)), sharp)
    np.testing.assert_allclose(found.hypotheses, expected, rtol=1e-5)
    np.testing.assert_allclose(found.mean, statistics.squares, rtol=1e-12)
    several = mhd.Deblurrer(
        model.network.with_num_heads(3), tlc_train_size=model.tlc_train_size
    )
    layer = several.network.head_layer
    set_head_parameters(layer, changed(head_parameters(layer), 1))
    found = statistics.evaluate(several)
    hypotheses = np.array(several(blurry))
    expected = squared_errors(hypotheses, sharp)
    np.testing.assert_allclose(found.hypotheses, expected, rtol=1e-4)
    mean = hypotheses.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(found.mean, squared_errors(mean, sharp)[:, 0], rtol=1e-4)


@pytest.mark.quick_kinds("NAFNet")
def test_fits_every_network(family):
    model, blurry, sharp, statistics = family
    fitted = fit_heads(model, statistics, 2, ridge=0.01, mean_weight=0.1)
    assert fitted.network.num_heads == 2 and fitted.select == "mean"
    assert fitted.tlc_train_size == model.tlc_train_size
    hypotheses = np.array(fitted(blurry))
    errors = squared_errors(hypotheses, sharp)
    expected = statistics.evaluate(fitted)
    np.testing.assert_allclose(errors, expected.hypotheses, rtol=1e-4)
    best, single = errors.min(axis=1), errors[:, errors.shape[1] // 2]
    published = squared_errors(np.array(model(blurry)), sharp)[:, 0]
    assert np.log(best).mean() < np.log(published).mean() - 0.1
    assert np.log(best).mean() < np.log(single).mean()
    pairs = fitted.head_info.pairs.indices
    assert fitted.best_pair == pairs[np.log(errors).mean(axis=0).argmin()]


def test_the_mean_counts_as_much_as_is_wanted():
    model = toy()
    statistics = head_statistics(model, [noisy(64)])
    means = []
    for mean_weight in (0, 0.3, 3):
        fitted = fit_heads(model, statistics, 3, mean_weight=mean_weight)
        means.append(np.log(statistics.evaluate(fitted).mean).mean())
    assert means[0] > means[1] > means[2]


@pytest.mark.slow
def test_heads_that_are_there_become_better():
    model, crops = toy(), noisy(48)
    first = fit_heads(model, [crops], 3, ridge=1)
    statistics = head_statistics(first, [crops])
    second = fit_heads(first, statistics, 3, ridge=1e-6)
    before, after = (
        np.log(statistics.evaluate(each).hypotheses.min(axis=1)).mean()
        for each in (first, second)
    )
    assert after < before


def test_one_head_is_fitted_anew():
    model, crops = toy(), noisy()
    fitted = fit_heads(model, [crops], 1, ridge=1e-6)
    statistics = head_statistics(model, [crops])
    before, after = (statistics.evaluate(each) for each in (model, fitted))
    assert np.log(after.mean).mean() < np.log(before.mean).mean()


def test_a_head_without_crops_is_revived():
    """All crops are in one head, which suits half of them."""
    model = toy()
    (head,) = head_parameters(model.network.head_layer)
    blurry = images(16)
    heads = [head, changed(head, 1)]
    labels = labels_of(model, blurry, heads, [(0, 0), (1, 1)] * 8)
    statistics = head_statistics(model, [(blurry, labels)])
    weights = hypothesis_weights(model.network.with_num_heads(2), False)
    objective = Objective(statistics, weights, 1e-8, 0)
    candidates = np.stack([0 * head, heads[1] - head])
    start = np.stack([0 * head, 0 * head + 100])
    errors = objective.errors(start)
    changes, errors = _revived(objective, start, errors, candidates)
    np.testing.assert_array_equal(changes, candidates)
    assert errors.min(axis=1).max() < 1e-9


def test_the_same_again_and_no_more_crops_than_wanted():
    def endless():
        while True:
            yield noisy(8)

    model = toy()
    first, second = (
        fit_heads(model, endless(), 2, crops=20, seed=seed) for seed in (1, 1)
    )
    for weight, expected in zip(first.get_weights(), second.get_weights()):
        np.testing.assert_array_equal(weight, expected)
    assert len(head_statistics(model, endless(), 20).squares) == 20


def test_a_fitted_model_is_saved(tmp_path):
    fitted = fit_heads(toy(), [noisy()], 2)
    fitted.save_to_preset(tmp_path / "preset")
    again = mhd.from_preset(tmp_path / "preset")
    assert again.best_pair == fitted.best_pair
    image = images(1)
    np.testing.assert_array_equal(
        again.predict(image, verbose=0), fitted.predict(image, verbose=0)
    )


@pytest.mark.parametrize("options, message", [
    ({"num_heads": 1, "hold_first": True}, "2 with `hold_first`.*num_heads=1, hold_f"),
    ({"num_heads": 0}, "Received: num_heads=0"),
    ({"restarts": 0}, "Received: restarts=0"),
    ({"ridge": 0.0}, "Received: ridge=0.0"),
    ({"ridge": float("nan")}, "Received: ridge=nan"),
    ({"mean_weight": -1}, "Received: mean_weight=-1"),
    ({"num_heads": 7}, "4 crops per head. Received: data with 24 crops, num_heads=7"),
    ({"data": []}, "at least one crop. Received: data=none"),
    ({"data": [images(4)]}, "batches .* Received: data with a ndarray"),
    ({"data": [(images(4), images(4, 9))]}, r"the same shape. Received: .*\(4, 9, 11"),
    ({"data": [(images(4)[..., :1], images(4)[..., :1])]}, "Received: .*12, 11, 1"),
    ({"data": [2 * ((images(4) * 255).astype("uint8"),)]}, "float.*blurry=uint8"),
    ({"data": [(images(4), images(4) * np.nan)]}, "finite. Received: .*crop 0"),
])  # fmt: skip
def test_refusals(options, message):
    with pytest.raises(ValueError, match=message):
        fit_heads(**{"model": toy(), "data": [noisy()], **options})


def test_refuses_other_models():
    model = toy()
    statistics = head_statistics(model, [noisy()])
    other = toy()
    layer = other.network.head_layer
    set_head_parameters(layer, changed(head_parameters(layer), 1))
    with pytest.raises(ValueError, match="of `model`. Received: data=HeadStatistics"):
        fit_heads(other, statistics)
    wide = mhd.Deblurrer(mhd.networks.NAFNet(8, (), 1, (), num_heads=1))
    with pytest.raises(ValueError, match="`model` must have the trunk"):
        statistics.evaluate(wide)
    with pytest.raises(ValueError, match="hold_first=True, model.network.num_heads=2"):
        fit_heads(
            mhd.Deblurrer(model.network.with_num_heads(2)),
            [noisy()],
            2,
            hold_first=True,
        )
    image = keras.Input((None, None, 3))
    plain = keras.Model(image, mhd.layers.MultiHeadOutput(1)(image, image))
    plain.num_heads = 1
    with pytest.raises(ValueError, match="Received: model.network=Functional"):
        head_statistics(mhd.Deblurrer(plain), [noisy()])
