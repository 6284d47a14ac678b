import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_mhdeblur as mhd
from keras_mhdeblur.convert import load_torch_state_dict
from keras_mhdeblur.networks.nafnet.official_names import nafnet_entries


@pytest.fixture(
    params=[True, pytest.param(False, marks=pytest.mark.slow)], ids=["eager", "graph"]
)
def eager(request):
    """Whether steps run eagerly; a graph takes longer to make than a few steps."""
    return request.param


def tiny(num_heads=3, blocks=(), **kwargs):
    network = mhd.networks.NAFNet(4, blocks, 1, blocks, num_heads=num_heads)
    return mhd.Deblurrer(network, **kwargs)


def pairs(count=8, size=16):
    sharp = np.random.default_rng(0).random((count, size, size, 3), "float32")
    return 0.5 * (sharp + np.roll(sharp, 1, axis=2)), sharp


def all_metrics():
    m = mhd.metrics
    return [m.PSNROverall(), m.PSNRSingleHead(), m.PSNRMean(), m.PSNRPerHypothesis(),
            m.HypothesisUsage()]  # fmt: skip


def weights_of(model):
    return [keras.ops.convert_to_numpy(w) for w in model.weights]


# Blur in the training step.


def test_sharp_patches_need_a_synthesis_and_pairs_do_not(eager):
    def halved(patches, seeds):
        sharp = keras.ops.cast(patches[:, 4:-4, 4:-4], "float32") / 255
        return 0.5 * sharp, sharp

    patches = np.full((4, 24, 24, 3), 255, "uint8")
    data = tf.data.Dataset.from_tensor_slices((patches, np.arange(4))).batch(2)
    model = tiny(blocks=(1,), select="mean")
    model.compile(keras.optimizers.SGD(0.0), mhd.losses.MSELoss(), run_eagerly=eager)
    with pytest.raises(ValueError, match="need `synthesis` in `compile`"):
        model.fit(data, verbose=0)
    optimizer = keras.optimizers.SGD(0.0)
    model.compile(optimizer, mhd.losses.MSELoss(), synthesis=halved, run_eagerly=eager)
    black = np.zeros((2, 16, 16, 3), "float32")
    for sharp in (data, data.map(lambda *batch: (*halved(*batch), tf.ones([2])))):
        history = model.fit(sharp, validation_data=(black, black + 0.1), verbose=0)
        # Heads start near their input: the errors are 0.5 and 0.1.
        assert abs(history.history["loss"][0] - 0.25) < 0.05
        assert abs(history.history["val_loss"][0] - 0.01) < 0.005
    assert model.evaluate(data, verbose=0) == pytest.approx(history.history["loss"][0])


# The official training step.


def official_model(file):
    kwargs = file.config["kwargs"]
    network = mhd.networks.NAFNet(
        kwargs["width"],
        kwargs["enc_blk_nums"],
        kwargs["middle_blk_num"],
        kwargs["dec_blk_nums"],
        num_heads=kwargs["n_heads"],
    )
    model = mhd.Deblurrer(network)
    load_torch_state_dict(model, file.state())
    return model


def recipe_optimizer(file, clip):
    settings = file.config["optimizer"]
    return mhd.training.TorchAdamW(
        settings["lr"],
        weight_decay=settings["weight_decay"],
        beta_1=settings["betas"][0],
        beta_2=settings["betas"][1],
        epsilon=settings["eps"],
        global_clipnorm=0.01 if clip else None,
    )


def test_official_gradients(golden):
    file = golden("train_step_nafnet_mhc_k4")
    model = official_model(file)
    model.compile()
    with tf.GradientTape() as tape:
        loss = model.compute_loss(y=file["y"], y_pred=model(file["x"], training=True))
    variables = model.trainable_weights
    gradients = dict(zip((v.path for v in variables), tape.gradient(loss, variables)))
    np.testing.assert_allclose(loss, file.arrays["loss"], atol=1e-5)
    tolerance = 10 * file.config["grad_f32_vs_f64_maxabs"]
    entries = nafnet_entries(model.network)
    assert len(entries) == len(variables)
    for name, expected in file.state("grad/").items():
        variable, to_keras = entries[name]
        np.testing.assert_allclose(
            gradients[variable.path], to_keras(expected), rtol=0, atol=tolerance,
            err_msg=name,
        )  # fmt: skip


@pytest.mark.parametrize(
    "variant, eager",
    [
        ("step1", True),
        ("step1_clip", True),
        ("step3", True),
        ("step3_clip", False),
        pytest.param("step1", False, marks=pytest.mark.slow),
        pytest.param("step1_clip", False, marks=pytest.mark.slow),
        pytest.param("step3", False, marks=pytest.mark.slow),
    ],
)
def test_official_training_steps(golden, variant, eager):
    file = golden("train_step_nafnet_mhc_k4")
    info = file.config[variant]
    model = official_model(file)
    optimizer = recipe_optimizer(file, info["clip_grad_norm"])
    model.compile(optimizer, run_eagerly=eager)
    losses = [model.train_on_batch(file["x"], file["y"]) for _ in range(info["steps"])]
    np.testing.assert_allclose(losses[0], info["losses"][0], atol=1e-5)
    tolerance = 10 * info["params_f32_vs_f64_maxabs"]
    entries = nafnet_entries(model.network)
    for name, expected in file.state(f"{variant}/").items():
        variable, to_keras = entries[name]
        np.testing.assert_allclose(
            variable, to_keras(expected), rtol=0, atol=tolerance, err_msg=name
        )


# Keras' training interface.


def test_call_gives_hypotheses_and_in_training_heads():
    model = tiny()
    x, _ = pairs(2)
    (heads,), hypotheses = model(x, training=True), model(x)
    assert heads.shape == (2, 3, 16, 16, 3)
    assert hypotheses.shape == (2, 6, 16, 16, 3) == (2, model.num_hypotheses, 16, 16, 3)
    np.testing.assert_allclose(model.predict(x, verbose=0), hypotheses, atol=1e-6)
    expected = (np.array(heads)[:, 2] + np.array(heads)[:, 1]) / 2
    np.testing.assert_allclose(hypotheses[:, 4], expected, atol=1e-6)


@pytest.mark.parametrize("num_heads, combine", [(3, True), (3, False), (1, True)])
def test_fit_and_evaluate_agree_on_loss_and_metrics(num_heads, combine, eager):
    model = tiny(num_heads, combine_heads=combine)
    x, y = pairs()
    model.compile(keras.optimizers.SGD(0.0), metrics=all_metrics(), run_eagerly=eager)
    fitted = model.fit(x, y, batch_size=4, verbose=0, validation_data=(x, y)).history
    assert len([k for k in fitted if k.startswith("usage_")]) == model.num_hypotheses
    for key, (value,) in fitted.items():
        if not key.startswith("val_"):
            np.testing.assert_allclose(value, fitted[f"val_{key}"][0], rtol=1e-4)
    # The known answer: minus the PSNR of the best hypothesis, not clipped.
    mse = np.mean((np.array(model(x)) - y[:, None]) ** 2, axis=(2, 3, 4)).min(axis=1)
    np.testing.assert_allclose(
        fitted["loss"][0], np.mean(10 * np.log10(mse + 1e-8)), rtol=1e-5
    )


def test_fit_improves():
    model = tiny()
    x, y = pairs()
    model.compile(mhd.training.TorchAdamW(1e-2, global_clipnorm=0.01))
    losses = model.fit(x, y, batch_size=4, epochs=40, verbose=0).history["loss"]
    assert losses[-1] < losses[0] - 3


def test_sample_weight(eager):
    x, y = pairs(4)
    weighted, doubled = tiny(), tiny()
    doubled.set_weights(weighted.get_weights())
    for model in (weighted, doubled):
        model.compile(
            keras.optimizers.SGD(1e-4),
            metrics=[mhd.metrics.PSNRMean()],
            run_eagerly=eager,
        )
    weight = np.array([2.0, 1, 1, 0], "float32")
    weighted.train_on_batch(x, y, sample_weight=weight)
    order = [0, 0, 1, 2]
    doubled.train_on_batch(x[order], y[order])
    for a, b in zip(weights_of(weighted), weights_of(doubled)):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("loss", ["mse", "mae", mhd.losses.CharbonnierLoss()])
def test_other_losses(loss, eager):
    model = tiny()
    x, y = pairs(4)
    model.compile("adam", loss=loss, run_eagerly=eager)
    value = model.evaluate(x, y, verbose=0)
    difference = np.array(model(x)) - y[:, None]
    if loss == "mse":
        expected = np.mean(difference**2, axis=(2, 3, 4))
    else:
        expected = np.mean(np.abs(difference), axis=(2, 3, 4))
    np.testing.assert_allclose(value, expected.min(axis=1).mean(), rtol=2e-3)


def test_relaxed_loss_is_the_same_in_evaluation(eager):
    model = tiny()
    x, y = pairs(4)
    loss = mhd.losses.HypothesisLoss("mse", relaxation=0.3)
    model.compile(keras.optimizers.SGD(0.0), loss=loss, run_eagerly=eager)
    fitted = model.fit(x, y, verbose=0).history["loss"][0]
    np.testing.assert_allclose(model.evaluate(x, y, verbose=0), fitted, rtol=1e-5)


def test_reduction_is_the_same_in_evaluation():
    model = tiny()
    x, y = pairs(4)
    model.compile(loss=mhd.losses.HypothesisLoss("mse", reduction="sum"))
    stacks, hypotheses = model(x, training=True), model(x)
    expected = model.compute_loss(x, y, stacks)
    np.testing.assert_allclose(
        model.compute_loss(x, y, hypotheses), expected, rtol=1e-5
    )


def test_loss_that_combines_otherwise_than_the_model():
    with pytest.raises(ValueError, match="Received: loss.combine=False"):
        tiny().compile(loss=mhd.losses.HypothesisLoss("mse", combine=False))


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(policy):
    keras.config.set_dtype_policy(policy)
    try:
        model = tiny()
    finally:
        keras.config.set_dtype_policy("float32")
    x, y = pairs(4)
    optimizer = mhd.training.TorchAdamW(1e-2, global_clipnorm=0.01)
    if policy == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    model.compile(optimizer)
    losses = model.fit(x, y, epochs=10, verbose=0).history["loss"]
    assert losses[-1] < losses[0] - 1
    assert model.predict(x, verbose=0).dtype == "float32"


def test_mixed_precision_does_not_round_the_image():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = tiny()
    finally:
        keras.config.set_dtype_policy("float32")
    for weight in model.network.get_layer("heads").weights:
        weight.assign(keras.ops.zeros(weight.shape))
    x, _ = pairs(1)
    np.testing.assert_array_equal(model(x)[:, 0], x)


def test_loss_under_a_global_mixed_policy():
    x, y = pairs(4)
    stack = np.stack([x, y], axis=1)
    loss = mhd.losses.HypothesisLoss(mhd.losses.L1Loss())
    expected = np.asarray(loss(y, stack))
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        found = loss(y, stack)
    finally:
        keras.config.set_dtype_policy("float32")
    np.testing.assert_array_equal(found, expected)


def test_loss_scaling_does_not_change_the_clipped_step(eager):
    x, y = pairs(4)
    plain, scaled, fixed = tiny(), tiny(), tiny()
    sgd = keras.optimizers.SGD(1.0, global_clipnorm=0.01)
    plain.compile(sgd, run_eagerly=eager)
    scaled.compile(
        keras.optimizers.LossScaleOptimizer(
            keras.optimizers.SGD(1.0, global_clipnorm=0.01), initial_scale=1024.0
        ),
        run_eagerly=eager,
    )
    fixed.compile(
        keras.optimizers.SGD(1.0, global_clipnorm=0.01, loss_scale_factor=1024.0),
        run_eagerly=eager,
    )
    before = weights_of(plain)
    for model in (plain, scaled, fixed):
        model.set_weights(before)
        model.train_on_batch(x, y)
    moved = np.concatenate([(a - b).ravel() for a, b in zip(weights_of(plain), before)])
    np.testing.assert_allclose(np.linalg.norm(moved), 0.01, rtol=1e-3)
    for model in (scaled, fixed):
        for a, b in zip(weights_of(plain), weights_of(model)):
            np.testing.assert_allclose(a, b, atol=1e-7)
    assert sgd.global_clipnorm == 0.01


def test_weights_that_the_loss_does_not_reach(eager):
    class Network(keras.Model):
        num_heads = 1

        def build(self, shape=None):
            self.gain = self.add_weight((), "ones")
            self.unused = self.add_weight((3,), "ones")

        def call(self, images, training=False):
            return (self.gain * images)[:, None]

    network = Network()
    network.build()
    model = mhd.Deblurrer(network)
    model.compile(keras.optimizers.SGD(1.0, global_clipnorm=0.01), run_eagerly=eager)
    x, _ = pairs(4)
    model.train_on_batch(x, x / 2)
    np.testing.assert_allclose(network.gain, 0.99, rtol=1e-5)
    np.testing.assert_array_equal(network.unused, np.ones(3))


@pytest.mark.slow
def test_jit_compile():
    model = tiny(2)
    x, y = pairs(4)
    model.compile(mhd.training.TorchAdamW(1e-2), jit_compile=True)
    losses = model.fit(x, y, epochs=3, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_non_finite_step_leaves_the_weights(value, eager):
    model = tiny()
    x, y = pairs(2)
    model.compile(mhd.training.TorchAdamW(1e-2), run_eagerly=eager)
    before = weights_of(model)
    x[0, 0, 0, 0] = value
    model.train_on_batch(x, y)
    for a, b in zip(weights_of(model), before):
        np.testing.assert_array_equal(a, b)


def test_save_and_load_goes_on_training(tmp_path, eager):
    model = tiny(select=(1, 0), best_pair=(2, 1), tlc_train_size=16)
    x, y = pairs(4)
    model.compile(
        mhd.training.TorchAdamW(1e-2),
        metrics=[mhd.metrics.PSNROverall()],
        run_eagerly=eager,
    )
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "model.keras")
    copy = keras.saving.load_model(tmp_path / "model.keras")
    assert copy.get_config() == model.get_config()
    assert copy.loss.get_config() == model.loss.get_config()
    np.testing.assert_array_equal(copy(x), model(x))
    for other in (model, copy):
        other.train_on_batch(x, y)
    for a, b in zip(weights_of(model), weights_of(copy)):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("wrong", [
    {"combine_heads": "maybe"},
    {"select": "foo"},
    {"select": "adaptive"},
    {"select": (9, 9)},
    {"best_pair": (9, 9)},
    {"best_pair": 1},
    {"best_pair": (1, 0), "combine_heads": False},
    {"adaptive_weights": 3},
    {"adaptive_weights": np.zeros((3, 9))},
    {"tlc_train_size": "abc"},
])  # fmt: skip
def test_wrong_arguments(wrong):
    name = "adaptive_weights" if wrong == {"select": "adaptive"} else next(iter(wrong))
    with pytest.raises(ValueError, match=f"Received: {name}="):
        tiny(**wrong)


def test_callbacks(tmp_path, eager):
    x, y = pairs(4)
    model = tiny()
    model.compile(mhd.training.TorchAdamW(1e-2, use_ema=True), run_eagerly=eager)
    best = tmp_path / "best.keras"
    callbacks = [
        keras.callbacks.ModelCheckpoint(best, monitor="val_loss", save_best_only=True),
        keras.callbacks.BackupAndRestore(tmp_path / "backup"),
        keras.callbacks.SwapEMAWeights(swap_on_epoch=True),
        keras.callbacks.EarlyStopping(patience=5),
    ]
    model.fit(x, y, validation_data=(x, y), epochs=3, verbose=0, callbacks=callbacks)
    saved = keras.saving.load_model(best)
    assert saved.evaluate(x, y, verbose=0) < tiny_loss_of_input(x, y)


def tiny_loss_of_input(x, y):
    return np.mean(10 * np.log10(np.mean((x - y) ** 2, axis=(1, 2, 3)))) + 1


def test_local_statistics_are_used_at_inference_only():
    model = tiny(tlc_train_size=16)
    for weight in model.weights:
        weight.assign(0.3 * keras.random.normal(weight.shape, seed=3))
    x = np.random.default_rng(0).random((1, 32, 64, 3), "float32")
    heads = np.array(model(x, training=True)[0])
    assert np.abs(np.array(model(x))[:, 0] - heads[:, 0]).max() > 1e-4
    local = model.network.with_local_statistics(16)
    np.testing.assert_allclose(np.array(model(x))[:, 0], local(x)[:, 0], atol=1e-6)
    assert len(model.weights) == len(model.network.weights)


# The method.


def shift_dataset(probability, count=1600, seed=0):
    """A bar, blurred by two shifts; the label is shifted left or right."""
    rng = np.random.default_rng(seed)
    bars = np.zeros((count, 8, 16, 1), "float32")
    positions = rng.integers(4, 12, count)
    bars[np.arange(count), :, positions] = 1
    left, right = np.roll(bars, -2, axis=2), np.roll(bars, 2, axis=2)
    go_left = rng.random(count) < probability
    return bars, np.where(go_left[:, None, None, None], left, right), left, right


def biases(num_heads):
    """The least network there is: heads without kernel, of images without content."""
    image = keras.Input((1, 1, 1))
    heads = mhd.layers.MultiHeadOutput(num_heads, 1, 1, name="heads")
    network = keras.Model(image, heads(image, image))
    network.num_heads = num_heads
    heads.conv.bias.assign([-0.1, 0.1][:num_heads])
    return mhd.Deblurrer(network, combine_heads=False), heads


def test_biases_find_both_labels_and_a_single_one_their_mean():
    def trained(num_heads):
        model, heads = biases(num_heads)
        loss = mhd.losses.HypothesisLoss("mse", combine=False)
        metrics = [mhd.metrics.HypothesisUsage()]
        model.compile(keras.optimizers.SGD(0.5), loss=loss, metrics=metrics)
        model.fit(
            0 * labels, labels, batch_size=10, epochs=20, shuffle=False, verbose=0
        )
        usage = model.evaluate(0 * labels, labels, verbose=0, return_dict=True)
        return heads.conv.bias.numpy(), [usage[f"usage_{k}"] for k in range(num_heads)]

    labels = np.array([3.0] * 7 + [-1.0] * 3, "float32").reshape(-1, 1, 1, 1)
    found, usage = trained(2)
    np.testing.assert_allclose(found, [-1, 3], atol=1e-3)
    np.testing.assert_allclose(usage, [0.3, 0.7], atol=1e-6)
    found, usage = trained(1)
    np.testing.assert_allclose(found, [0.7 * 3 - 0.3], atol=1e-3)


def test_heads_find_all_targets_of_every_sample(eager):
    # One step is enough: half of a sample's targets are each head's own.
    targets = np.tile(np.array([3, -1], "float32"), (4, 1))[..., None, None, None]
    model, heads = biases(2)
    model.compile(
        keras.optimizers.SGD(1.0),
        mhd.losses.MSELoss(),
        metrics=[mhd.metrics.PSNROverall(), mhd.metrics.HypothesisUsage()],
        run_eagerly=eager,
    )
    model.fit(0 * targets[:, 0], targets, verbose=0)
    np.testing.assert_allclose(heads.conv.bias, [-1, 3], atol=1e-6)
    scores = model.evaluate(0 * targets[:, 0], targets, verbose=0, return_dict=True)
    assert scores["loss"] == pytest.approx(0, abs=1e-10)
    assert scores["usage_0"] == scores["usage_1"] == 0.5
    # Filling of weight zero is no answer.
    weights = mhd.losses.target_weights([1, 1, 1, 1], 2)
    model.compile(keras.optimizers.SGD(0.5), mhd.losses.MSELoss(), run_eagerly=eager)
    heads.conv.bias.assign([-0.1, 0.1])
    model.fit(0 * targets[:, 0], targets, sample_weight=np.array(weights), verbose=0)
    np.testing.assert_allclose(heads.conv.bias, [-0.1, 3], atol=1e-6)


def test_the_step_makes_several_targets(eager):
    blur = mhd.data.MotionBlur(4, num_frames=4, num_targets=3)
    patches = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype("uint8")
    seeds = np.arange(2)
    model = tiny(select="mean")
    model.compile(keras.optimizers.SGD(0.0), synthesis=blur, run_eagerly=eager)
    data = tf.data.Dataset.from_tensor_slices((patches, seeds)).batch(2)
    found = model.fit(data, verbose=0).history["loss"][0]
    blurry, targets = blur(patches, seeds)
    assert targets.shape == (2, 3, 16, 16, 3)
    assert model.evaluate(blurry, targets, verbose=0) == pytest.approx(found, abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("probability", [0.7, 0.4])
def test_two_heads_find_both_labels_and_one_finds_their_mean(probability):
    x, y, left, right = shift_dataset(probability)

    def trained(num_heads):
        network = mhd.networks.NAFNet(
            8, (1,), 1, (1,), num_heads=num_heads, image_channels=1
        )
        model = mhd.Deblurrer(network, combine_heads=False)
        model.compile(
            keras.optimizers.Adam(5e-3),
            loss=mhd.losses.HypothesisLoss("mse", combine=False, relaxation=0.02),
            metrics=[mhd.metrics.HypothesisUsage()],
        )
        model.fit(x, y, batch_size=32, epochs=6, verbose=0)
        return model

    two = trained(2)
    usage = two.evaluate(x, y, verbose=0, return_dict=True)
    heads = two.predict(x[:32], verbose=0)
    to_left = [np.mean((heads[:, k] - left[:32]) ** 2) for k in range(2)]
    to_right = [np.mean((heads[:, k] - right[:32]) ** 2) for k in range(2)]
    first = int(np.argmin(to_left))
    # A bar at the wrong place has a mean squared error of 0.125.
    assert to_left[first] < 0.01 and to_right[1 - first] < 0.01
    share = np.mean(np.all(y == left, axis=(1, 2, 3)))
    assert abs(usage[f"usage_{first}"] - share) < 0.05
    assert abs(usage[f"usage_{first}"] - probability) < 0.05

    mean = probability * left[:32] + (1 - probability) * right[:32]
    single = trained(1).predict(x[:32], verbose=0)[:, 0]
    assert np.mean((single - mean) ** 2) < 0.003
