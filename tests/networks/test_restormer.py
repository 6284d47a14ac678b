import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from keras import ops

from keras_mhdeblur import Deblurrer, losses
from keras_mhdeblur.convert import load_torch_state_dict
from keras_mhdeblur.layers import HeadCombination
from keras_mhdeblur.networks import Restormer

GOLDEN_FILES = [
    "restormer_baseline",
    "restormer_mhc_k4",
    "restormer_mhc_k4_biasfree",
]


def official_network(file):
    kwargs = file.config["kwargs"]
    norms = {"WithBias": "with_bias", "BiasFree": "bias_free"}
    network = Restormer(
        width=kwargs["dim"],
        num_blocks=kwargs["num_blocks"],
        num_refinement_blocks=kwargs["num_refinement_blocks"],
        attention_heads=kwargs["heads"],
        ffn_expansion=kwargs["ffn_expansion_factor"],
        use_bias=kwargs["bias"],
        norm=norms[kwargs["LayerNorm_type"]],
        num_heads=kwargs.get("n_heads", 1),
    )
    load_torch_state_dict(network, file.state())
    return network


def tiny(levels=3, **kwargs):
    network = Restormer(
        width=4,
        num_blocks=(1,) * levels,
        num_refinement_blocks=1,
        attention_heads=(1, 2, 2)[:levels],
        **{"num_heads": 2, **kwargs},
    )
    for index, weight in enumerate(network.weights):
        weight.assign(weight + 0.1 * keras.random.normal(weight.shape, seed=index))
    return network


def images(*shape):
    return np.random.default_rng(0).random((*shape, 3), "float32")


def hypotheses(file, stack):
    combine = file.config["kwargs"].get("combinate_heads")
    return HeadCombination()(stack) if combine else stack


@pytest.mark.parametrize("name", GOLDEN_FILES)
@pytest.mark.parametrize("mode", ["eager", "graph", "fixed size"])
def test_official_output(golden, name, mode):
    file = golden(name)
    network = official_network(file)
    assert network.count_params() == file.config["n_params"]
    if mode == "eager":
        stack = network(file["x"])
    elif mode == "graph":
        stack = network.predict(file["x"], verbose=0)
    else:
        image = keras.Input(file["x"].shape[1:])
        stack = keras.Model(image, network(image)).predict(file["x"], verbose=0)
    stack = hypotheses(file, stack)
    expected = file["out/0"].reshape(stack.shape)
    tolerance = 10 * file.config["f32_vs_f64_maxabs"][0]
    np.testing.assert_allclose(stack, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("num_heads, parameters", [(1, 26_126_644), (4, 26_134_420)])
def test_parameter_count(num_heads, parameters):
    assert Restormer(num_heads=num_heads).count_params() == parameters


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (21, 14)])
def test_any_size_is_padded_by_reflection(size):
    network, image = tiny(), images(1, *size)
    padding = [(0, -n % 4) for n in size]
    padded = np.pad(image, [(0, 0), *padding, (0, 0)], mode="reflect")
    stack = network(image)
    assert stack.shape == (1, 2, *size, 3)
    expected = np.array(network(padded))[:, :, : size[0], : size[1]]
    np.testing.assert_allclose(stack, expected, atol=1e-5)


def test_local_statistics_share_weights_and_equal_global_ones_on_small_images():
    network = tiny()
    local = network.with_local_statistics(16)
    assert all(a is b for a, b in zip(network.weights, local.weights))
    assert local.local_statistics == 16
    small, large = images(1, 16, 24), images(1, 16, 48)
    np.testing.assert_allclose(local(small), network(small), atol=1e-5)
    assert np.abs(np.array(local(large)) - np.array(network(large))).max() > 1e-3
    np.testing.assert_array_equal(
        local.with_local_statistics(None)(large), network(large)
    )


def test_folded_heads_are_the_weighted_mean():
    network = tiny(num_heads=3)
    folded = network.with_folded_heads([0.5, 0.2, 0.3])
    image = images(1, 13, 10)
    expected = np.tensordot([0.5, 0.2, 0.3], np.array(network(image)), (0, 1))
    np.testing.assert_allclose(folded(image)[:, 0], expected, atol=1e-5)


def test_saved_network_has_the_same_config_and_output(tmp_path):
    network = tiny(
        ffn_expansion=2,
        use_bias=True,
        norm="bias_free",
        local_statistics=16,
        name="deblur",
    )
    network.save(tmp_path / "network.keras")
    copy = keras.saving.load_model(tmp_path / "network.keras")
    assert copy.get_config() == network.get_config()
    assert copy.name == "deblur"
    image = images(1, 9, 30)
    np.testing.assert_array_equal(copy(image), network(image))


def test_levels_must_match():
    with pytest.raises(ValueError, match=r"Received: num_blocks=\(1, 1\), attention"):
        Restormer(4, (1, 1), 1, (1,))


@pytest.mark.parametrize(
    "policy, bound", [("mixed_bfloat16", 0.1), ("mixed_float16", 0.02)]
)
def test_mixed_precision_keeps_the_image(golden, policy, bound):
    file = golden("restormer_mhc_k4")
    keras.config.set_dtype_policy(policy)
    try:
        network = official_network(file)
        stack = network(file["x"])
        local = network.with_local_statistics(16)(file["x"])
    finally:
        keras.config.set_dtype_policy("float32")
    assert stack.dtype == "float32"
    # The residuals are about 0.5 and have 8 or 11 significant bits.
    difference = np.array(HeadCombination()(stack)) - file["out/0"]
    assert np.abs(difference).max() < bound
    exact = official_network(file).with_local_statistics(16)(file["x"])
    assert np.abs(np.array(local) - np.array(exact)).max() < bound
    for weight in network.get_layer("heads").weights:
        weight.assign(ops.zeros_like(weight))
    np.testing.assert_allclose(network(file["x"] * 0 + 1 / 3), 1 / 3, atol=1e-7)


def test_training_step_moves_all_weights():
    model = Deblurrer(tiny(levels=2, use_bias=True, num_heads=3))
    model.compile(keras.optimizers.Adam(1e-3), losses.L1Loss())
    before = [np.array(weight) for weight in model.network.weights]
    blurry = images(4, 9, 12)
    history = model.fit(blurry, blurry[:, ::-1], epochs=1, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    still = [
        weight.path
        for weight, old in zip(model.network.weights, before)
        if np.array_equal(weight, old)
    ]
    assert not still
    assert model(blurry).shape == (4, 6, 9, 12, 3)


@pytest.mark.parametrize("train_size", [None, (16, 24)])
def test_litert(train_size, tmp_path):
    network = tiny(levels=2).with_local_statistics(train_size)
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
    for shape in (1, 32, 48), (2, 37, 51), (1, 1, 3):
        image = images(*shape)
        (found,) = run(**{name: image}).values()
        np.testing.assert_allclose(found, network(image), rtol=0, atol=1e-5)
