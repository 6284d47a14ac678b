import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_mhdeblur import assignment, losses

MPRNET = losses.CombinedLoss(
    [losses.CharbonnierLoss(), losses.EdgeLoss(weight=0.05)], name="mprnet"
)
SINGLE = {
    "PSNRLoss": losses.PSNRLoss(),
    "PSNRLoss_w0.5": losses.PSNRLoss(weight=0.5),
    "PSNRLoss_toY": losses.PSNRLoss(to_luma=True),
    "L1Loss": losses.L1Loss(),
    "CharbonnierLoss": losses.CharbonnierLoss(),
    "EdgeLoss": losses.EdgeLoss(),
}
# The official L1 loss ignores its weight (0.5).
MULTI_HEAD = {
    "MultiHeadPSNRLoss": losses.PSNRLoss(),
    "MultiHeadPSNRLoss_w0.5": losses.PSNRLoss(weight=0.5),
    "MultiHeadPSNRLoss_toY": losses.PSNRLoss(to_luma=True),
    "MultiHeadL1Loss": losses.L1Loss(),
    "MPRNetMultiHeadLoss": MPRNET,
}
STAGES = {
    "HINet_train_multihead": (losses.PSNRLoss(0.5), ["pred_stage1", "pred"]),
    "MPRNet_train_multihead": (MPRNET, ["pred", "pred_stage2", "pred_stage1"]),
}


def loss_and_gradients(loss, target, predictions):
    predictions = [tf.constant(p) for p in predictions]
    with tf.GradientTape() as tape:
        tape.watch(predictions)
        value = loss(target, predictions if len(predictions) > 1 else predictions[0])
    return value, tape.gradient(value, predictions)


def check(file, name, value, gradients):
    """Within ten times the official float32 error where it is known.

    It is not for the edge loss: its gradient magnifies the rounding of the Laplacian
    (about 1e-7) by 1 / epsilon = 1000.
    """
    info = file.config["losses"][name]
    atol = max(10 * (info["f32_vs_f64_loss"] or 0), 1e-6)
    np.testing.assert_allclose(value, file[f"{name}/loss"], rtol=2e-7, atol=atol)
    names = ["grad"] if len(gradients) == 1 else [f"grad{i}" for i in range(3)]
    for key, gradient in zip(names, gradients):
        atol = 10 * (info["f32_vs_f64_grad"] or 1e-5 * info["grad_absmax"])
        np.testing.assert_allclose(gradient, file[f"{name}/{key}"], rtol=0, atol=atol)


@pytest.mark.parametrize("name", SINGLE)
def test_loss(golden, name):
    file = golden("losses")
    prediction = file["pred"][:, 0]
    value, gradients = loss_and_gradients(SINGLE[name], file["target"], [prediction])
    check(file, name, value, gradients)


@pytest.mark.parametrize("name", MULTI_HEAD)
def test_multi_head_loss(golden, name):
    file = golden("losses")
    loss = losses.HypothesisLoss(MULTI_HEAD[name], combine=False)
    value, gradients = loss_and_gradients(loss, file["target"], [file["pred"]])
    check(file, name, value, gradients)


@pytest.mark.parametrize("name", STAGES)
def test_every_stage_has_its_own_winner(golden, name):
    file = golden("losses")
    base, stages = STAGES[name]
    loss = losses.HypothesisLoss(base, combine=False)
    predictions = [file[stage] for stage in stages]
    value, gradients = loss_and_gradients(loss, file["target"], predictions)
    check(file, name, value, gradients)


def test_mprnet_single_head_training(golden):
    file = golden("losses")
    loss = losses.HypothesisLoss(MPRNET, combine=False)
    names = ["pred", "pred_stage2", "pred_stage1"]
    stages = [file[name][:, :1] for name in names]
    value, gradients = loss_and_gradients(loss, file["target"], stages)
    gradients = [gradient[:, 0] for gradient in gradients]
    check(file, "MPRNet_train_single", value, gradients)


@pytest.mark.parametrize("kind", ["mse", "l1"])
def test_winner_of_every_sample_and_stage(golden, kind):
    file = golden("losses")
    base = {"mse": losses.MSELoss(), "l1": losses.L1Loss()}[kind]
    expected = file.config["best_head_per_sample_for_pred_stage2_stage1"][kind]
    for row, name in enumerate(["pred", "pred_stage2", "pred_stage1"]):
        values = assignment.hypothesis_losses(base, file["target"], file[name], False)
        best = np.argmax(assignment.winner(values), axis=1)
        assert best.tolist() in (expected[row], [line[row] for line in expected])


def test_perfect_prediction(golden):
    file = golden("losses")
    value = losses.PSNRLoss()(file["target"], file["target"])
    np.testing.assert_allclose(value, file["PSNRLoss_perfect/loss"], atol=1e-5)


@pytest.mark.parametrize("name", ["MSELoss", "PSNRLoss", "L1Loss", "EdgeLoss"])
def test_pair_losses_equal_losses_of_combined_images(name):
    rng = np.random.default_rng(0)
    label = rng.random((2, 9, 8, 3), "float32")
    stack = rng.random((2, 4, 9, 8, 3), "float32")
    base = getattr(losses, name)()
    values = np.array(assignment.hypothesis_losses(base, label, stack))
    pairs = [(i, j) for i in range(4) for j in range(i + 1)]
    for index, (i, j) in enumerate(pairs):
        image = (stack[:, i] + stack[:, j]) / 2
        np.testing.assert_allclose(values[:, index], base.call(label, image), rtol=1e-5)


def test_ties_train_one_head():
    stack = tf.zeros((1, 3, 4, 4, 3))
    loss = losses.HypothesisLoss("mse", combine=False)
    _, (gradient,) = loss_and_gradients(loss, tf.ones((1, 4, 4, 3)), [stack])
    trained = np.abs(gradient).max(axis=(0, 2, 3, 4)) > 0
    assert trained.tolist() == [True, False, False]


def test_relaxation_trains_the_losers_a_little():
    label = tf.zeros((1, 2, 2, 3))
    stack = tf.stack([tf.fill((1, 2, 2, 3), v) for v in (0.1, 1.0, 2.0)], axis=1)
    values = np.array([0.01, 1.0, 4.0])
    loss = losses.HypothesisLoss(losses.MSELoss(), combine=False, relaxation=0.2)
    expected = 0.8 * values[0] + 0.1 * values[1] + 0.1 * values[2]
    np.testing.assert_allclose(loss(label, stack), expected, rtol=1e-6)


def test_config_round_trip():
    loss = losses.HypothesisLoss(MPRNET, combine=False, relaxation=0.1)
    copy = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(loss)
    )
    rng = np.random.default_rng(0)
    label, stack = rng.random((1, 8, 8, 3)), rng.random((1, 2, 8, 8, 3))
    np.testing.assert_array_equal(copy(label, stack), loss(label, stack))
    assert copy.get_config() == loss.get_config()
