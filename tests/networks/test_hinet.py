import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from keras import ops

from keras_mhdeblur import Deblurrer, losses
from keras_mhdeblur.convert import load_torch_state_dict
from keras_mhdeblur.layers import HeadCombination
from keras_mhdeblur.networks import HINet

# The official "local" class converts average pools; HINet has none, so that this
# file holds what the plain network gives.
GOLDEN_FILES = ["hinet_baseline", "hinet_mhc_k4", "hinet_mhc_k4_local"]


def official_network(file):
    kwargs = file.config["kwargs"]
    network = HINet(
        width=kwargs["wf"],
        depth=kwargs["depth"],
        hin_start=kwargs["hin_position_left"],
        hin_end=kwargs["hin_position_right"],
        relu_slope=kwargs["relu_slope"],
        num_heads=kwargs.get("n_heads", 1),
    )
    load_torch_state_dict(network, file.state())
    return network


def tiny(**kwargs):
    kwargs = {"width": 4, "depth": 3, "hin_start": 1, "hin_end": 2, **kwargs}
    network = HINet(**{"num_heads": 2, **kwargs})
    for index, weight in enumerate(network.weights):
        fan_in = np.prod(weight.shape[:-1])  # 1 of vectors
        noise = keras.random.normal(weight.shape, seed=index)
        weight.assign(0.9 * noise / fan_in**0.5 if fan_in > 1 else weight + 0.2 * noise)
    return network


def images(*shape):
    return np.random.default_rng(0).random((*shape, 3), "float32")


def hypotheses(file, stages):
    """The stages as the file has them: combined, stage 1 first."""
    if file.config["kwargs"].get("combinate_heads"):
        stages = [HeadCombination()(stack) for stack in stages]
    return stages[::-1]


@pytest.mark.parametrize("name", GOLDEN_FILES)
@pytest.mark.parametrize("mode", ["eager", "known size", "unknown size"])
def test_official_output(golden, name, mode):
    file = golden(name)
    network = official_network(file)
    assert network.count_params() == file.config["n_params"]
    if mode == "eager":
        stages = network(file["x"])
    elif mode == "known size":
        stages = network.predict(file["x"], verbose=0)
    else:
        stages = tf.function(network, [tf.TensorSpec((None, None, None, 3))])(file["x"])
    for index, stack in enumerate(hypotheses(file, stages)):
        expected = file[f"out/{index}"].reshape(stack.shape)
        tolerance = 10 * file.config["f32_vs_f64_maxabs"][index]
        np.testing.assert_allclose(stack, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("num_heads, parameters", [(1, 88_668_806), (4, 88_684_376)])
def test_parameter_count(num_heads, parameters):
    assert HINet(num_heads=num_heads).count_params() == parameters


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (21, 14)])
def test_any_size_is_padded_by_reflection(size):
    network, image = tiny(), images(1, *size)
    padding = [(0, -n % 4) for n in size]
    padded = np.pad(image, [(0, 0), *padding, (0, 0)], mode="reflect")
    for stack, whole in zip(network(image), network(padded)):
        assert stack.shape == (1, 2, *size, 3)
        expected = np.array(whole)[:, :, : size[0], : size[1]]
        np.testing.assert_allclose(stack, expected, atol=1e-6)


def test_local_statistics_share_weights_and_equal_global_ones_on_small_images():
    network = tiny()
    local = network.with_local_statistics(16)
    assert all(a is b for a, b in zip(network.weights, local.weights))
    small, large = images(1, 16, 24), images(1, 16, 48)
    for found, expected in zip(local(small), network(small)):
        np.testing.assert_allclose(found, expected, atol=1e-5)
    for found, expected in zip(local(large), network(large)):
        assert np.abs(np.array(found) - np.array(expected)).max() > 1e-3
    again = local.with_local_statistics(None)
    for found, expected in zip(again(large), network(large)):
        np.testing.assert_array_equal(found, expected)


def test_folded_heads_are_the_weighted_mean_of_the_final_stage():
    network = tiny(num_heads=3)
    folded = network.with_folded_heads([0.5, 0.2, 0.3])
    image = images(1, 13, 10)
    expected = np.tensordot([0.5, 0.2, 0.3], np.array(network(image)[0]), (0, 1))
    np.testing.assert_allclose(folded(image)[:, 0], expected, atol=1e-5)


def test_saved_network_has_the_same_config_and_output(tmp_path):
    network = tiny(local_statistics=16, relu_slope=0.1, name="deblur")
    network.save(tmp_path / "network.keras")
    copy = keras.saving.load_model(tmp_path / "network.keras")
    assert copy.get_config() == network.get_config()
    assert copy.name == "deblur"
    image = images(1, 9, 30)
    for found, expected in zip(copy(image), network(image)):
        np.testing.assert_array_equal(found, expected)


def test_one_level_is_too_few():
    with pytest.raises(ValueError, match="Received: depth=1"):
        HINet(depth=1)


@pytest.mark.parametrize(
    "policy, bound", [("mixed_bfloat16", 0.1), ("mixed_float16", 0.02)]
)
def test_mixed_precision_keeps_the_image(golden, policy, bound):
    file = golden("hinet_mhc_k4")
    keras.config.set_dtype_policy(policy)
    try:
        network = official_network(file)
        stages = network(file["x"])
        local = network.with_local_statistics(32)(file["x"])
    finally:
        keras.config.set_dtype_policy("float32")
    # The residuals are about 0.5 and have 8 or 11 significant bits.
    for index, stack in enumerate(hypotheses(file, stages)):
        assert stack.dtype == "float32"
        assert np.abs(np.array(stack) - file[f"out/{index}"]).max() < bound
    for stack, whole in zip(local, stages):  # windows of 48 hold the image
        assert np.abs(np.array(stack) - np.array(whole)).max() < bound
    for name in ("heads", "stage_1_heads"):
        for weight in network.get_layer(name).weights:
            weight.assign(ops.zeros_like(weight))
    for stack in network(file["x"] * 0 + 1 / 3):
        np.testing.assert_allclose(stack, 1 / 3, atol=1e-7)


def test_stage_losses_of_pairs_add_up_each_with_its_own_winner(golden):
    file = golden("losses")
    stages, label = [file["pred"], file["pred_stage1"]], file["target"]
    expected, winners = 0, []
    for stack in stages:
        errors = np.array(HeadCombination()(stack)) - label[:, None]
        mse = np.mean(errors.astype("float64") ** 2, axis=(2, 3, 4))
        expected += 0.5 * 10 * np.log10(mse.min(axis=1)).mean()
        winners.append(mse.argmin(axis=1))
    assert (winners[0] != winners[1]).all() and len(set(winners[0])) > 1
    found = losses.HypothesisLoss(losses.PSNRLoss(0.5))(label, stages)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_training_step_moves_both_stages():
    model = Deblurrer(tiny(depth=2, num_heads=3))
    network = model.network
    model.compile(keras.optimizers.Adam(1e-3), losses.PSNRLoss(0.5))
    before = [np.array(weight) for weight in network.weights]
    blurry = images(4, 9, 12)
    history = model.fit(blurry, blurry[:, ::-1], epochs=1, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    still = [
        weight.path
        for weight, old in zip(network.weights, before)
        if np.array_equal(weight, old)
    ]
    assert not still
    assert model(blurry).shape == (4, 6, 9, 12, 3)


def test_litert(tmp_path):
    # Local statistics need what global ones need, and more.
    network = tiny(depth=2, num_heads=3, local_statistics=16)
    path = str(tmp_path / "model.tflite")
    network.export(
        path,
        format="litert",
        input_signature=[keras.InputSpec(shape=(None, None, None, 3), dtype="float32")],
        target_spec={"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS]},
        verbose=False,
    )
    interpreter = Interpreter(model_path=path)
    names = {entry["op_name"] for entry in interpreter._get_ops_details()}
    assert "CONV_2D" in names and not [name for name in names if "Flex" in name]
    run = interpreter.get_signature_runner("serving_default")
    (name,) = run.get_input_details()
    for shape in (1, 32, 48), (2, 37, 51):
        image = images(*shape)
        found = run(**{name: image})
        for index, expected in enumerate(network(image)):
            np.testing.assert_allclose(
                found[f"output_{index}"], expected, rtol=0, atol=1e-5
            )
