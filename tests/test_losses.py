import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_mhdeblur import losses
from keras_mhdeblur.layers import bilinear_downsample
from keras_mhdeblur.losses import assignment

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


def in_graph(loss, label, stacks, shape):
    """Value and gradients in a graph that knows this much of the label's shape."""

    @tf.function(
        input_signature=[
            tf.TensorSpec(shape),
            [tf.TensorSpec((None, 3, None, None, 3))] * 3,
        ]
    )
    def graph(label, stacks):
        value = loss(label, stacks)
        return value, tf.gradients(value, stacks)

    return graph(label, stacks)


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


def random_stages(count=1, heads=3):
    rng = np.random.default_rng(0)
    label = rng.random((2, 5, 4, 3), "float32")
    return label, list(rng.random((count, 2, heads, 5, 4, 3), "float32"))


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


def test_epsilon_bounds_what_a_nearly_right_image_counts():
    # Constant errors at 30, 47 and 60 dB: the gradient is longest at sqrt(epsilon).
    loss = losses.PSNRLoss(epsilon=2e-5)
    loss = type(loss).from_config(loss.get_config())
    errors = np.array([1e-3, 2e-5, 1e-6]) ** 0.5
    label = np.zeros((3, 4, 4, 3), "float32")
    values = loss.call(label, label + errors[:, None, None, None].astype("float32"))
    np.testing.assert_allclose(values, 10 * np.log10(errors**2 + 2e-5), rtol=1e-6)
    step = 0.02 * errors
    higher, lower = (
        np.array(loss.from_mse(((errors + side) ** 2).astype("float32")), "float64")
        for side in (step, -step)
    )
    slope = (higher - lower) / (2 * step)
    expected = 20 / np.log(10) * errors / (errors**2 + 2e-5)
    np.testing.assert_allclose(slope, expected, rtol=2e-3)
    assert slope[1] == max(slope) and slope[2] < 2 * slope[0]
    with pytest.raises(ValueError, match="Received: epsilon=0"):
        losses.PSNRLoss(epsilon=0)


# Fourier transform.


def test_frequency_loss_of_one_cosine():
    # Two coefficients of 0.3 / 2 sqrt(H W) are not zero, in one of two channels.
    height, width = 12, 20
    y, x = np.mgrid[:height, :width]
    wave = np.cos(2 * np.pi * (3 * y / height + 7 * x / width) + 0.4)
    label = np.random.default_rng(0).random((1, height, width, 2), "float32")
    image = label.copy()
    image[..., 1] += 0.3 * wave
    value = losses.FrequencyLoss().call(label, image)
    expected = 0.3 / np.sqrt(height * width) / 2
    np.testing.assert_allclose(value, [expected], rtol=0, atol=2e-6)


def test_frequency_loss_of_a_constant():
    label = np.zeros((2, 6, 10, 3), "float32")
    constant = np.array([0.2, -0.5], "float32")[:, None, None, None]
    value = losses.FrequencyLoss(weight=0.1).call(label, label + constant)
    expected = 0.1 * np.abs(constant.ravel()) / np.sqrt(60)
    np.testing.assert_allclose(value, expected, rtol=0, atol=1e-6)


def test_frequency_loss_is_the_scaled_sum_of_moduli():
    label, (stack,) = random_stages()
    value = losses.FrequencyLoss().call(label[:, None], stack)
    coefficients = np.fft.fft2(stack - label[:, None], axes=(2, 3))
    total = np.abs(coefficients).sum(axis=(2, 3, 4))
    height, width, channels = label.shape[1:]
    expected = total / (channels * (height * width) ** 1.5)
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_frequency_loss_of_noise_does_not_depend_on_the_size():
    for side in 32, 128:
        noise = np.random.default_rng(0).normal(0, 0.1, (1, side, side, 3))
        value = losses.FrequencyLoss().call(0 * noise, noise)
        np.testing.assert_allclose(value, 0.1 * np.sqrt(np.pi) / 2, rtol=0.02)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_frequency_loss_computes_in_float32(dtype):
    label, (stack,) = random_stages()
    label, stack = tf.cast(label[:, None], dtype), tf.cast(stack, dtype)
    loss = losses.FrequencyLoss()
    value = loss.call(label, stack)
    assert value.dtype == "float32"
    expected = loss.call(tf.cast(label, "float32"), tf.cast(stack, "float32"))
    np.testing.assert_array_equal(value, expected)
    both = losses.CombinedLoss([losses.L1Loss(), loss]).call(label, stack)
    assert both.dtype == "float32"


def test_frequency_loss_has_a_gradient_where_nothing_differs():
    label, _ = random_stages()
    loss = losses.FrequencyLoss()
    value, (gradient,) = loss_and_gradients(loss, label, [label])
    assert 0 <= value < 2e-6
    np.testing.assert_array_equal(gradient, 0)
    image = label.copy()
    image[0, 0, 0, 0] += 0.5  # all coefficients have the same modulus
    value, (gradient,) = loss_and_gradients(loss, label[:1], [image[:1]])
    np.testing.assert_allclose(value, 0.5 / np.sqrt(20) / 3, rtol=1e-4)
    expected = np.zeros_like(label[:1])
    expected[0, 0, 0, 0] = 1 / np.sqrt(20) / 3
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "name", ["MSELoss", "PSNRLoss", "L1Loss", "EdgeLoss", "FrequencyLoss"]
)
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


# Stacks at lower resolution.

MAXIM = losses.CombinedLoss(
    [losses.CharbonnierLoss(), losses.FrequencyLoss(weight=0.1)], name="maxim"
)


def scales(batch=2, heads=3, height=16, width=24):
    """Label, and stacks of full, half and quarter size, with different winners."""
    rng = np.random.default_rng(0)
    label = rng.random((batch, height, width, 3), "float32")
    stacks = [
        rng.random((batch, heads, height // f, width // f, 3), "float32")
        for f in (1, 2, 4)
    ]
    for index, stack in enumerate(stacks):
        stack[:, index] = 0.5
    return label, stacks


def smaller_labels(label):
    return [label, *(np.array(bilinear_downsample(label, f)) for f in (2, 4))]


def losses_of_scales(base, label, stacks):
    """(scales, B, K), image by image."""
    return np.stack(
        [
            np.stack([base.call(small, stack[:, k]) for k in range(3)], axis=1)
            for small, stack in zip(smaller_labels(label), stacks)
        ]
    )


@pytest.mark.parametrize("base", [losses.MSELoss(), MAXIM], ids=["mse", "maxim"])
def test_every_scale_has_its_own_label_and_winner(base):
    label, stacks = scales()
    loss = losses.HypothesisLoss(base, combine=False)
    value, gradients = loss_and_gradients(loss, label, stacks)
    values = losses_of_scales(base, label, stacks)
    assert (values.argmin(axis=2) == [[0], [1], [2]]).all()
    expected = values.min(axis=2).sum(axis=0).mean()
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    for index, gradient in enumerate(gradients):
        trained = np.abs(gradient).max(axis=(0, 2, 3, 4)) > 0
        assert trained.tolist() == [index == head for head in range(3)]


def test_pairs_at_lower_resolution():
    label, stacks = scales()
    found = losses.HypothesisLoss(losses.MSELoss())(label, stacks)
    expected = sum(
        losses.HypothesisLoss(losses.MSELoss())(small, stack)
        for small, stack in zip(smaller_labels(label), stacks)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_perfect_stacks_at_lower_resolution():
    label, _ = scales()
    stacks = [np.stack([small, 0 * small], 1) for small in smaller_labels(label)]
    loss = losses.HypothesisLoss(losses.L1Loss(), combine=False)
    np.testing.assert_allclose(loss(label, stacks), 0, atol=1e-7)


@pytest.mark.parametrize(
    "known",
    [
        (None, None),
        pytest.param((16, None), marks=pytest.mark.slow),
        pytest.param((16, 24), marks=pytest.mark.slow),
    ],
)
def test_scales_of_unknown_size(known):
    label, stacks = scales()
    loss = losses.HypothesisLoss(MAXIM)
    expected, gradients = loss_and_gradients(loss, label, stacks)

    value, found = in_graph(loss, label, stacks, (None, *known, 3))
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    for a, b in zip(found, gradients):
        # The Charbonnier loss magnifies rounding by 1 / epsilon = 1000.
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)


def test_labels_of_unknown_size_that_only_fit_whole():
    # Known to be odd: no branch of the graph makes them smaller.
    label, stack = np.zeros((1, 5, 7, 3), "float32"), np.ones((1, 2, 5, 7, 3))
    loss = losses.HypothesisLoss(losses.MSELoss())
    unknown = tf.TensorSpec((None, 2, None, None, 3))
    graph = tf.function(lambda y: loss(label, y), input_signature=[unknown])
    np.testing.assert_allclose(graph(stack.astype("float32")), 1)


@pytest.mark.parametrize("size", [(5, 8), (2, 3), (8, 24), (4, 12), (32, 48)])
def test_wrong_size_of_stacks(size):
    label = np.zeros((1, 16, 24, 3), "float32")
    stack = np.zeros((1, 2, *size, 3), "float32")
    loss = losses.HypothesisLoss(losses.MSELoss())
    received = r"Received: y_true.shape=\(1, 16, 24, 3\), y_pred.shape=\(1, 2, "
    with pytest.raises(ValueError, match=received):
        loss(label, stack)


@pytest.mark.parametrize("relaxation", [-0.1, 1.0])
def test_wrong_relaxation(relaxation):
    with pytest.raises(ValueError, match=f"Received: relaxation={relaxation}$"):
        losses.HypothesisLoss("mse", relaxation=relaxation)


@pytest.mark.parametrize(
    "parts", [[], ["mae"], [losses.L1Loss(), keras.losses.MeanAbsoluteError()]]
)
def test_combined_losses_are_image_losses(parts):
    with pytest.raises(ValueError, match=r"Received: losses=\["):
        losses.CombinedLoss(parts)


def test_parts_do_not_reduce_the_batch():
    total = losses.L1Loss(reduction="sum")
    with pytest.raises(ValueError, match="Received: base.reduction='sum'$"):
        losses.HypothesisLoss(total)
    with pytest.raises(ValueError, match="Received: losses.reduction='sum'$"):
        losses.CombinedLoss([losses.PSNRLoss(), total])


def test_luma_needs_colours():
    gray = np.zeros((1, 4, 4, 1), "float32")
    with pytest.raises(ValueError, match=r"Received: images.shape=\(1, 4, 4, 1\)"):
        losses.PSNRLoss(to_luma=True)(gray, gray)


@pytest.mark.parametrize(
    "name",
    ["MSELoss", "PSNRLoss", "L1Loss", "CharbonnierLoss", "EdgeLoss", "FrequencyLoss"],
)
def test_weight_comes_first(name):
    assert getattr(losses, name)(0.05).weight == 0.05


@pytest.mark.parametrize("base", [MPRNET, MAXIM], ids=["mprnet", "maxim"])
def test_config_round_trip(base):
    loss = losses.HypothesisLoss(base, combine=False, relaxation=0.1, reduction="sum")
    copy = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(loss)
    )
    label, stages = random_stages(2)
    np.testing.assert_array_equal(copy(label, stages), loss(label, stages))
    assert copy.get_config() == loss.get_config()


def test_a_loss_saved_before_annealing_had_its_own_class():
    loss = losses.HypothesisLoss("mse", relaxation=0.1)
    former = {
        "assignment": "hard",
        "annealing_steps": None,
        "balance": 0.0,
        "stage_assignment": "independent",
    }
    copy = losses.HypothesisLoss.from_config({**loss.get_config(), **former})
    assert copy.get_config() == loss.get_config()
    with pytest.raises((TypeError, ValueError), match="assignment"):
        losses.HypothesisLoss.from_config({**loss.get_config(), "assignment": "other"})


def test_the_loss_is_the_same_at_every_step():
    loss = losses.HypothesisLoss("mse")
    assert loss.at_step(0) is loss.at_step(7) is loss


# Several targets per sample.


def targets_and_stack(targets=3, heads=2, shape=(8, 12, 3)):
    """Targets around a picture, and heads 60 dB from the first ones."""
    rng = np.random.default_rng(0)
    picture = rng.random((2, 1, *shape))
    labels = picture + 0.03 * rng.standard_normal((2, targets, *shape))
    heads = labels[:, :heads] + 1e-3 * rng.standard_normal((2, heads, *shape))
    return labels.astype("float32"), heads.astype("float32")


def one_by_one(loss, labels, stacks):
    """Values (B, T) of every target as the label of its sample."""
    targets = np.moveaxis(labels, 1, 0)
    return np.stack([loss.call(target, stacks) for target in targets], axis=1)


@pytest.mark.parametrize("combine", [True, False])
@pytest.mark.parametrize(
    "base",
    [losses.MSELoss(0.5), losses.PSNRLoss(), losses.PSNRLoss(to_luma=True)],
    ids=["mse", "psnr", "luma"],
)
def test_targets_of_squared_errors_equal_one_label_each(base, combine):
    labels, stack = targets_and_stack()
    loss = losses.HypothesisLoss(base, combine)
    values = loss.call(labels, stack)
    assert values.shape == (2, 3)
    expected = one_by_one(loss, labels, stack)
    atol = 2e-3 if isinstance(base, losses.PSNRLoss) else 1e-9
    np.testing.assert_allclose(values, expected, rtol=1e-3, atol=atol)
    assert np.abs(np.diff(expected)).max() > 10 * atol
    value, (gradient,) = loss_and_gradients(loss, labels, [stack])
    np.testing.assert_allclose(value, expected.mean(), rtol=1e-3, atol=atol)
    gradients = [
        loss_and_gradients(loss, labels[:, t], [stack])[1][0] for t in range(3)
    ]
    expected = np.mean(gradients, axis=0)
    atol = 1e-3 * np.abs(expected).max()
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=atol)


def test_errors_to_far_targets_are_those_of_float64():
    rng = np.random.default_rng(0)
    labels, stack = rng.random((2, 5, 9, 8, 3)), rng.random((2, 3, 9, 8, 3))
    values = assignment.hypothesis_losses(
        losses.MSELoss(), labels.astype("float32"), stack.astype("float32")
    )
    images = [(stack[:, i] + stack[:, j]) / 2 for i in range(3) for j in range(i + 1)]
    errors = np.stack(images, axis=1)[:, None] - labels[:, :, None]
    expected = np.square(errors).mean(axis=(3, 4, 5))
    np.testing.assert_allclose(values, expected, rtol=1e-6)


@pytest.mark.parametrize(
    "base", [losses.L1Loss(), MPRNET, "mse"], ids=["l1", "mprnet", "keras"]
)
@pytest.mark.parametrize("relaxation", [0.0, 0.2])
def test_targets_of_other_losses_equal_one_label_each(base, relaxation):
    labels, stack = targets_and_stack()
    loss = losses.HypothesisLoss(base, relaxation=relaxation)
    values = loss.call(labels, stack)
    np.testing.assert_array_equal(values, one_by_one(loss, labels, stack))


def test_heads_that_are_the_targets_are_right():
    # A bar that moved left or right: both answers count, the mean of them does not.
    bar = np.zeros((1, 6, 8, 1), "float32")
    bar[:, :, 4] = 1
    labels = np.stack([np.roll(bar, shift, axis=2) for shift in (-2, 2)], axis=1)
    loss = losses.HypothesisLoss(losses.MSELoss())
    value, (gradient,) = loss_and_gradients(loss, labels, [labels[:, ::-1]])
    assert value == 0 and not np.any(gradient)
    both = np.repeat(labels.mean(axis=1, keepdims=True), 2, axis=1)
    np.testing.assert_allclose(loss(labels, both), 1 / 16, rtol=1e-6)


def test_one_target_is_a_label():
    label, stages = random_stages(2)
    for base in losses.PSNRLoss(), losses.L1Loss():
        loss = losses.HypothesisLoss(base, relaxation=0.1)
        for weight in None, [2.0, 0.5]:
            found = loss(label[:, None], stages, weight)
            np.testing.assert_allclose(found, loss(label, stages, weight), rtol=1e-6)


@pytest.mark.parametrize("base", [losses.MSELoss(), MAXIM], ids=["mse", "maxim"])
def test_targets_of_smaller_stacks(base):
    label, stacks = scales()
    labels = np.stack([label, label[::-1], 1 - label], axis=1)
    loss = losses.HypothesisLoss(base)
    values = loss.call(labels, stacks)
    expected = one_by_one(loss, labels, stacks)
    np.testing.assert_allclose(values, expected, rtol=1e-6)


def test_targets_of_unknown_size():
    label, stacks = scales()
    labels = np.stack([label, 1 - label], axis=1)
    loss = losses.HypothesisLoss(losses.PSNRLoss())
    expected, gradients = loss_and_gradients(loss, labels, stacks)

    value, found = in_graph(loss, labels, stacks, (None, 2, None, None, 3))
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    for a, b in zip(found, gradients):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)


def test_weights_of_samples_and_of_targets():
    labels, stack = targets_and_stack(targets=2)  # as many targets as samples
    loss = losses.HypothesisLoss(losses.MSELoss())
    values = np.array(loss.call(labels, stack))
    of_targets = np.array([[0, 2], [1, 3]], "float32")
    expected = np.mean(of_targets * values)
    np.testing.assert_allclose(loss(labels, stack, of_targets), expected, rtol=1e-6)
    for of_samples in [3.0, 1.0], [[3.0], [1.0]]:
        expected = np.mean([[3], [1]] * values)
        found = loss(labels, stack, np.array(of_samples))
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    with pytest.raises(ValueError, match=r"Received: sample_weight.shape=\(2, 3\)"):
        loss(labels, stack, np.ones((2, 3)))


def test_filling_does_not_count():
    labels, stack = targets_and_stack()
    weights = losses.target_weights([3, 2], 3)
    np.testing.assert_array_equal(weights, [[1, 1, 1], [1.5, 1.5, 0]])
    assert not np.any(losses.target_weights([0], 3))
    loss = losses.HypothesisLoss(losses.PSNRLoss())
    values = np.array(loss.call(labels, stack))
    expected = (values[0].mean() + values[1, :2].mean()) / 2
    labels[1, 2] = 0.5
    np.testing.assert_allclose(loss(labels, stack, weights), expected, rtol=1e-5)


@pytest.mark.parametrize(
    "labels, message",
    [
        ((2, None, 8, 8, 3), "must have a known number of targets T, at least 1"),
        ((2, 0, 8, 8, 3), "must have a known number of targets T, at least 1"),
        ((2, 4, 8, 8, 1), r"must be of shape \(B, H, W, C\), or \(B, T, H, W, C\)"),
        ((2, 4, 2, 8, 8, 3), r"must be of shape \(B, H, W, C\), or \(B, T, H, W, C\)"),
        ((2, 4, 8, 6, 3), "Stacks must have the label's height and width"),
        (None, "`y_true` must have a known rank"),
    ],
)
def test_wrong_targets(labels, message):
    loss = losses.HypothesisLoss(losses.MSELoss())
    signature = tf.TensorSpec(labels), tf.TensorSpec((2, 3, 8, 8, 3))
    with pytest.raises(ValueError, match=f"{message}.* Received: y_true.shape="):
        tf.function(loss).get_concrete_function(*signature)
