"""The reset of heads that win no label."""

import numpy as np
import pytest

import keras_mhdeblur as mhd
from keras_mhdeblur.experimental.annealing import AnnealedHypothesisLoss
from keras_mhdeblur.experimental.dead_heads import DeadHeadReset


def test_hard_assignment_leaves_heads_dead(toy):
    heads, history = toy.train()
    np.testing.assert_allclose(heads, [toy.labels.mean(), *toy.start[1:]], atol=1e-4)
    assert [history[f"usage_{k}"][0] for k in range(4)] == [1, 0, 0, 0]


def test_reset_revives_dead_heads(toy):
    heads, history = toy.train(callbacks=[DeadHeadReset()], epochs=8)
    np.testing.assert_allclose(np.sort(heads), toy.labels, atol=0.01)
    assert history["reset_heads"][0] == 3 and history["reset_heads"][-1] == 0


def test_nothing_is_reset_while_annealing(toy):
    loss = AnnealedHypothesisLoss(
        mhd.losses.MSELoss(), combine=False, annealing_steps=4
    )
    _, history = toy.train(loss=loss, callbacks=[DeadHeadReset()], epochs=2, steps=4)
    assert history["reset_heads"][0] == 0 < history["reset_heads"][1]


@pytest.mark.parametrize("network, usage, dead, source", [
    # Pairs (0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2).
    (mhd.networks.NAFNet(4, (), 1, (), num_heads=3), [.5, .04, .46, 0, 0, 0], 2, 0),
    # The axes' heads (2, 0), (2, 1), (3, 0), (3, 1), with 0 and 2, 1 and 3 of one part.
    (mhd.networks.XYDeblur(4, 1, num_heads=2), [.01, .02, .02, .95], 0, 1),
])  # fmt: skip
def test_the_convolution_and_what_the_optimizer_knows_of_it(
    network, usage, dead, source
):
    model = mhd.Deblurrer(network)
    optimizer = mhd.training.TorchAdamW(1e-2, use_ema=True)
    model.compile(optimizer)
    rng = np.random.default_rng(0)
    model.train_on_batch(*rng.random((2, 4, 8, 8, 3), "float32"))
    reset = DeadHeadReset(noise=0.01)
    reset.set_model(model)

    def parts(values):
        heads = (*values.shape[:-1], network.num_heads, 3)
        return np.moveaxis(np.array(values).reshape(heads), -2, 0)

    kernel = network.get_layer("heads").conv.kernel
    index = [v is kernel for v in model.trainable_variables].index(True)
    names = "_momentums", "_velocities", "_model_variables_moving_average"
    slots = [getattr(optimizer, name)[index] for name in names]
    for variable in slots:  # Heads which never won have the same, zeros.
        variable.assign(rng.random(variable.shape))
    untouched = [np.array(v) for v in model.trainable_variables[: index - 2]]
    before = [parts(variable) for variable in (kernel, *slots)]
    logs = {f"usage_{k}": share for k, share in enumerate(usage)}
    reset.on_epoch_end(0, logs)
    assert logs["reset_heads"] == 1
    after = [parts(variable) for variable in (kernel, *slots)]
    for old, new in zip(before, after):
        assert np.abs(old[dead] - old[source]).max() > 0
        for head in set(range(network.num_heads)) - {dead}:
            np.testing.assert_array_equal(new[head], old[head])
    for old, new in zip(before[1:], after[1:]):
        np.testing.assert_array_equal(new[dead], old[source])
    noise = after[0][dead] - before[0][source]
    rms = np.sqrt(np.mean(before[0][source] ** 2))
    np.testing.assert_allclose(noise.std(), 0.01 * rms, rtol=0.3)
    for old, new in zip(untouched, model.trainable_variables):
        np.testing.assert_array_equal(old, new)


def test_an_epoch_whose_metrics_were_emptied_resets_nothing():
    model = mhd.Deblurrer(mhd.networks.NAFNet(4, (), 1, (), num_heads=2))
    model.compile("sgd")
    reset = DeadHeadReset()
    reset.set_model(model)
    logs = {"usage_0": 0.0, "usage_1": 0.0, "usage_2": 0.0}
    reset.on_epoch_end(0, logs)
    assert logs["reset_heads"] == 0


def test_what_the_reset_needs():
    with pytest.raises(ValueError, match="Received: threshold=1.5"):
        DeadHeadReset(threshold=1.5)
    with pytest.raises(ValueError, match="needs `HypothesisUsage` .*'loss'"):
        DeadHeadReset().on_epoch_end(0, {"loss": 1.0})
