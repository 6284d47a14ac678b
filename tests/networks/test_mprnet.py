import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from keras import ops

from keras_mhdeblur import Deblurrer, losses
from keras_mhdeblur.convert import load_torch_state_dict
from keras_mhdeblur.convert.mprnet import mprnet_entries
from keras_mhdeblur.layers import HeadCombination, channel_attention
from keras_mhdeblur.networks import MPRNet


def official_network(file):
    kwargs = file.config["kwargs"]
    network = MPRNet(
        width=kwargs["n_feat"],
        unet_step=kwargs["scale_unetfeats"],
        orsnet_step=kwargs["scale_orsnetfeats"],
        num_cab=kwargs["num_cab"],
        reduction=kwargs["reduction"],
        use_bias=kwargs["bias"],
        num_heads=kwargs.get("n_heads", 1),
    )
    load_torch_state_dict(network, file.state())
    return network


def tiny(**kwargs):
    kwargs = {"width": 4, "unet_step": 2, "orsnet_step": 2, "num_cab": 1, **kwargs}
    network = MPRNet(**{"num_heads": 2, "reduction": 2, **kwargs})
    for index, weight in enumerate(network.weights):
        noise = keras.random.normal(weight.shape, seed=index)
        scale = 0.8 / np.prod(weight.shape[:-1]) ** 0.5
        # Biases and the slope are vectors.
        weight.assign(weight + 0.2 * noise if len(weight.shape) == 1 else scale * noise)
    return network


@pytest.fixture(scope="module")
def network():
    return tiny()


def images(*shape):
    return np.random.default_rng(0).random((*shape, 3), "float32")


def hypotheses(file, stages):
    """The stages as the file has them."""
    if file.config["kwargs"].get("combinate_heads"):
        return [HeadCombination()(stack) for stack in stages]
    return stages


@pytest.mark.parametrize("name", ["mprnet_baseline", "mprnet_mhc_k4"])
@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_official_output(golden, name, mode):
    file = golden(name)
    network = official_network(file)
    assert network.count_params() == file.config["n_params"]
    if mode == "eager":
        stages = network(file["x"])
    else:
        stages = network.predict(file["x"], verbose=0)
    for index, stack in enumerate(hypotheses(file, stages)):
        expected = file[f"out/{index}"].reshape(stack.shape)
        tolerance = 10 * file.config["f32_vs_f64_maxabs"][index]
        np.testing.assert_allclose(stack, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("num_heads, parameters", [(1, 20_127_073), (4, 20_140_897)])
def test_parameter_count(num_heads, parameters):
    network = MPRNet(num_heads=num_heads)
    assert network.count_params() == parameters
    slope = network.get_layer("slope").slope
    entries = mprnet_entries(network).values()
    assert sum(variable is slope for variable, _ in entries) == 55
    assert {id(variable) for variable, _ in entries} == set(map(id, network.weights))


def test_all_names_of_the_slope_must_have_one_value(golden):
    file = golden("mprnet_mhc_k4")
    network, state = official_network(file), file.state()
    before = [np.array(weight) for weight in network.weights]
    name = "stage3_orsnet.orb2.body.0.body.1.weight"
    state["concat12.weight"] = state["concat12.weight"] + 1
    state[name] = state[name] + 1
    with pytest.raises(ValueError, match=f"unequal: {name} and .*body.1.weight"):
        load_torch_state_dict(network, state)
    del state[name]
    with pytest.raises(ValueError, match=f"missing: {name}"):
        load_torch_state_dict(network, state)
    for weight, old in zip(network.weights, before):
        np.testing.assert_array_equal(weight, old)


@pytest.mark.parametrize("size", [(1, 1), (21, 14)])
def test_any_size_is_padded_by_reflection(network, size):
    image = images(1, *size)
    padding = [(0, -n % 8) for n in size]
    padded = np.pad(image, [(0, 0), *padding, (0, 0)], mode="reflect")
    for stack, whole in zip(network(image), network(padded)):
        assert stack.shape == (1, 2, *size, 3)
        expected = np.array(whole)[:, :, : size[0], : size[1]]
        np.testing.assert_allclose(stack, expected, atol=1e-5)


def test_images_of_a_batch_do_not_mix(network):
    batch = images(3, 16, 24)
    for stack, single in zip(network(batch), network(batch[1:2])):
        np.testing.assert_allclose(stack[1:2], single, atol=1e-5)


def test_local_statistics_share_weights_and_equal_global_ones_on_small_images(network):
    local = network.with_local_statistics(16)
    assert all(a is b for a, b in zip(network.weights, local.weights))
    small, large = images(1, 16, 24), images(1, 16, 48)
    large[:, :, 24:] *= 0.1
    for found, expected in zip(local(small), network(small)):
        np.testing.assert_allclose(found, expected, atol=1e-5)
    for found, expected in zip(local(large), network(large)):
        assert np.abs(np.array(found) - np.array(expected)).max() > 1e-3
    again = local.with_local_statistics(None)
    for found, expected in zip(again(large), network(large)):
        np.testing.assert_array_equal(found, expected)


def test_local_windows_are_one_and_a_half_of_what_was_seen_in_training(monkeypatch):
    network, seen = tiny(local_statistics=(24, 32)), []
    original = channel_attention.average_pool

    def recording(x, window_size):
        seen.append((x.shape, window_size))
        return original(x, window_size)

    monkeypatch.setattr(channel_attention, "average_pool", recording)
    network(images(1, 24, 32))
    # The patches of stage 1 and 2 are images of the batch.
    assert {shape[0] for shape, _ in seen} == {1, 2, 4}
    assert len(seen) == 34
    for (_, height, width, _), window in seen:
        assert window == (3 * height // 2, 3 * width // 2)


def test_folded_heads_are_the_weighted_mean_of_the_final_stage():
    network = tiny(num_heads=3)
    folded = network.with_folded_heads([0.5, 0.2, 0.3])
    image = images(1, 13, 10)
    expected = np.tensordot([0.5, 0.2, 0.3], np.array(network(image)[0]), (0, 1))
    np.testing.assert_allclose(folded(image)[:, 0], expected, atol=1e-5)


@pytest.mark.parametrize("form", ["model", "weights"])
def test_saved_network_holds_the_slope_once(tmp_path, form):
    network = tiny(use_bias=True, name="deblur").with_local_statistics(16)
    network.get_layer("slope").slope.assign([0.125])
    if form == "model":
        network.save(tmp_path / "network.keras")
        copy = keras.saving.load_model(tmp_path / "network.keras")
        assert copy.get_config() == network.get_config()
    else:
        path, stored = tmp_path / "network.weights.h5", []

        def store(name, item):
            if isinstance(item, h5py.Dataset):
                stored.append(item[()])

        network.save_weights(path)
        with h5py.File(path) as file:
            file.visititems(store)
        assert sum(values.size for values in stored) == network.count_params()
        assert sum(np.array_equal(values, [0.125]) for values in stored) == 1
        network = network.with_local_statistics(None)
        copy = MPRNet.from_config(network.get_config())
        copy.load_weights(path)
    image = images(1, 9, 30)
    for found, expected in zip(copy(image), network(image)):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "policy, bound", [("mixed_bfloat16", 0.15), ("mixed_float16", 0.02)]
)
def test_mixed_precision_keeps_the_image(golden, policy, bound):
    file = golden("mprnet_mhc_k4")
    keras.config.set_dtype_policy(policy)
    try:
        network = official_network(file)
        stages = network(file["x"])
        local = network.with_local_statistics(32)(file["x"])
    finally:
        keras.config.set_dtype_policy("float32")
    for index, stack in enumerate(hypotheses(file, stages)):
        assert stack.dtype == "float32"
        expected = file[f"out/{index}"]
        # The residuals have 8 or 11 significant bits.
        error = np.abs(np.array(stack) - expected).max()
        assert error < bound * np.std(expected - file["x"][:, None])
    for stack, whole in zip(local, stages):  # windows of 48 hold the image
        assert np.abs(np.array(stack) - np.array(whole)).max() < bound
    for name in ("heads", "stage_2_heads", "stage_1_heads"):
        for weight in network.get_layer(name).weights:
            weight.assign(ops.zeros_like(weight))
    for stack in network(file["x"] * 0 + 1 / 3):
        np.testing.assert_allclose(stack, 1 / 3, atol=1e-7)


def test_training_step_moves_all_stages():
    network = tiny(num_heads=3, use_bias=True)
    for weight in network.weights:
        if "squeeze/bias" in weight.path:  # of a ReLU that must not be dead
            weight.assign(ops.ones_like(weight))
    model = Deblurrer(network)
    loss = losses.CombinedLoss([losses.CharbonnierLoss(), losses.EdgeLoss(0.05)])
    model.compile(keras.optimizers.Adam(1e-3), loss, run_eagerly=True)
    before = [np.array(weight) for weight in network.weights]
    batch = images(4, 9, 12)
    history = model.fit(batch, batch[:, ::-1], epochs=1, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    still = [
        weight.path
        for weight, old in zip(network.weights, before)
        if np.array_equal(weight, old)
    ]
    assert not still
    assert model(batch).shape == (4, 6, 9, 12, 3)


def test_litert(tmp_path, network):
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
    for shape in (1, 32, 48), (2, 37, 51), (1, 5, 3):
        image = images(*shape)
        found = run(**{name: image})
        for index, expected in enumerate(network(image)):
            np.testing.assert_allclose(
                found[f"output_{index}"], expected, rtol=0, atol=1e-5
            )
