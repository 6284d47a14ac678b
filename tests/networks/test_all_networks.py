"""What holds for every network; what is special is in the file of each."""

import inspect
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from keras_mhdeblur import Deblurrer, export
from keras_mhdeblur.layers import HeadCombination
from keras_mhdeblur.networks import HINet, MPRNet
from keras_mhdeblur.networks.mprnet.halves import JoinHalves, SplitHalves


@pytest.mark.parametrize(
    "name",
    [
        "nafnet_baseline",
        "nafnet_baseline_37x51",
        "nafnet_baseline_local_37x51",
        "nafnet_mh_k3",
        "nafnet_mhc_k4",
        "nafnet_mhc_k4_37x51",
        "nafnet_mhc_k4_local",
        "nafnet_mhc_k4_local_37x51",
        "nafnet_mhc_k4_local_one_dim",
        "restormer_baseline",
        "restormer_mhc_k4",
        "restormer_mhc_k4_biasfree",
        "hinet_baseline",
        "hinet_mhc_k4",
        "hinet_mhc_k4_local",
        "mprnet_baseline",
        "mprnet_mhc_k4",
    ],
)
def test_official_output(official, stages, name):
    file, network = official(name)
    assert network.count_params() == file.config["n_params"]
    train_size = file.config["kwargs"].get("train_size")
    # The official "local" class converts average pools; HINet has none, so that its
    # file holds what the plain network gives.
    if train_size and not isinstance(network, HINet):
        network = network.with_local_statistics(train_size[2:])
    found = stages(network(file["x"]))
    if file.config["kwargs"].get("combinate_heads"):
        found = [HeadCombination()(stack) for stack in found]
    if isinstance(network, HINet):  # stage 1 first
        found = found[::-1]
    assert len(found) == len(file.config["f32_vs_f64_maxabs"])
    for index, stack in enumerate(found):
        expected = file[f"out/{index}"].reshape(stack.shape)
        tolerance = 10 * file.config["f32_vs_f64_maxabs"][index]
        np.testing.assert_allclose(stack, expected, rtol=0, atol=tolerance)


@pytest.mark.quick_kinds("NAFNet", "HINet")
def test_graph_of_known_size_equals_eager_calls(network, images, stages):
    image = images(2, 9, 14)
    fixed = keras.Input(batch_shape=image.shape)
    model = keras.Model(fixed, network(fixed))
    found, expected = stages(tf.function(model)(image)), stages(network(image))
    for stack, known, right in zip(found, keras.tree.flatten(model.output), expected):
        assert known.shape == stack.shape == right.shape
        np.testing.assert_allclose(stack, right, atol=1e-5)


@pytest.mark.quick_kinds("NAFNet", "HINet", "Restormer", "XYDeblur")
@pytest.mark.parametrize(
    "size", [(1, 1), pytest.param((2, 5), marks=pytest.mark.slow), (21, 14)]
)
def test_any_size_is_padded(kind, network, images, stages, size):
    image = padded = images(1, *size)
    # An odd size becomes even first where both sides are padded.
    for multiple in (2, kind.multiple) if kind.centered else (kind.multiple,):
        added = [-n % multiple for n in padded.shape[1:3]]
        top, left = (n // 2 if kind.centered else 0 for n in added)
        padding = [(top, added[0] - top), (left, added[1] - left)]
        padded = np.pad(padded, [(0, 0), *padding, (0, 0)], mode=kind.padding)
    for stack, whole in zip(stages(network(image)), stages(network(padded))):
        assert stack.shape == (1, network.num_head_images, *size, 3)
        expected = whole[:, :, top : top + size[0], left : left + size[1]]
        np.testing.assert_allclose(stack, expected, atol=1e-5)


@pytest.mark.quick_kinds("NAFNet", "HINet", "Restormer", "XYDeblur")
def test_images_of_a_batch_do_not_mix(network, images, stages):
    batch = images(3, 16, 24)
    for stack, single in zip(stages(network(batch)), stages(network(batch[1:2]))):
        np.testing.assert_allclose(stack[1:2], single, atol=1e-5)


def test_local_statistics_share_weights_and_equal_global_ones_on_small_images(
    kind, network, local, images, stages, monkeypatch
):
    if not kind.has_statistics:
        assert local is network
        return
    assert all(a is b for a, b in zip(network.weights, local.weights, strict=True))
    assert local.tlc_train_size == 16
    # MPRNet's windows are those of patches, half as large.
    small = images(1, 8, 8) if kind.cls is MPRNet else images(1, 16, 24)
    large = images(1, 16, 48)
    large[:, :, 24:] *= 0.1
    found = stages(local(small))
    with monkeypatch.context() as patch:
        # MPRNet cuts images with global statistics only.
        for layer in network.layers:
            if isinstance(layer, (SplitHalves, JoinHalves)):
                patch.setattr(layer, "call", lambda x: x)
        expected = stages(network(small))
    for stack, same in zip(found, expected, strict=True):
        np.testing.assert_allclose(stack, same, atol=1e-5)
    whole = stages(network(large))
    for stack, other in zip(stages(local(large)), whole):
        assert np.abs(stack - other).max() > 1e-3
    again = local.with_local_statistics(None)
    for stack, expected in zip(stages(again(large)), whole):
        np.testing.assert_array_equal(stack, expected)


@pytest.mark.quick_kinds("NAFNet", "HINet", "Restormer", "XYDeblur")
def test_folded_heads_are_the_weighted_mean_of_the_final_stage(network, images, stages):
    count = network.num_head_images
    weights = np.arange(1, count + 1) / sum(range(1, count + 1))
    image = images(1, 13, 10)
    expected = np.tensordot(weights, stages(network(image))[0], (0, 1))
    folded = network.with_folded_heads(weights)
    np.testing.assert_allclose(folded(image)[:, 0], expected, atol=1e-5)
    with pytest.raises(ValueError, match="Received: head_weights="):
        network.with_folded_heads([1.0] + [0.0] * count)
    with pytest.raises(ValueError, match="Received: head_weights="):
        network.with_folded_heads(2 * weights)


@pytest.mark.quick_kinds("NAFNet", "HINet", "XYDeblur")
def test_saved_network_has_the_same_config_and_output(kind, images, stages, tmp_path):
    changes = {**kind.others, "image_channels": 1, "name": "deblur"}
    if kind.has_statistics:
        changes["tlc_train_size"] = (12, 16)
    network = kind.small(**changes, trainable=False)
    config = network.get_config()
    given = {**kind.arguments, **changes, "num_heads": 2, "trainable": False}
    assert config == {**config, **given}
    for name, parameter in inspect.signature(kind.cls).parameters.items():
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
            assert config[name] != parameter.default, name
    network.save(tmp_path / "network.keras")
    copy = keras.saving.load_model(tmp_path / "network.keras")
    assert copy.get_config() == config
    assert copy.name == "deblur" and not copy.trainable_weights
    image = images(1, 9, 30, 1)
    expected = stages(network(image))
    for stack, right in zip(stages(copy(image)), expected, strict=True):
        np.testing.assert_array_equal(stack, right)


def test_wrong_arguments(kind):
    for name, value in ("widht", 3), ("dtype", "mixed_bfloat16"):
        with pytest.raises(TypeError, match=f"'{name}'"):
            kind.cls(**kind.arguments, **{name: value})
    if not kind.has_statistics:
        return
    for wrong in (0, "abc", True, 256.0, (16,), (16, 0), (16, None)):
        received = re.escape(f"Received: tlc_train_size={wrong!r}")
        with pytest.raises(ValueError, match=received):
            kind.cls(**kind.arguments, tlc_train_size=wrong)


@pytest.mark.quick_kinds("NAFNet", "HINet", "Restormer", "XYDeblur")
def test_sizes_of_numpy_are_numbers(kind):
    if kind.has_statistics:
        size = np.int64(16)
        for given, number in (size, 16), ([size, 12], (16, 12)):
            local = kind.small(tlc_train_size=given)
            assert repr(local.tlc_train_size) == repr(number)


@pytest.mark.quick_kinds("NAFNet", "HINet", "Restormer", "XYDeblur")
def test_local_statistics_leave_frozen_layers_frozen(kind):
    network = kind.small()
    network.head_layer.trainable = False
    count = len(network.trainable_weights)
    local = network.with_local_statistics(kind.statistics(16))
    assert len(local.trainable_weights) == count
    assert count < len(network.weights)


@pytest.mark.quick_kinds("NAFNet", "HINet")
@pytest.mark.parametrize(
    "policy, bound",
    [
        pytest.param("mixed_bfloat16", 0.1, marks=pytest.mark.slow),
        ("mixed_float16", 0.0125),
    ],
)
def test_mixed_precision_keeps_the_image(
    kind, network, local, images, stages, policy, bound
):
    keras.config.set_dtype_policy(policy)
    try:
        mixed = kind.cls.from_config(network.get_config())
        mixed.set_weights(network.get_weights())
        mixed_local = mixed.with_local_statistics(kind.statistics(16))
    finally:
        keras.config.set_dtype_policy("float32")
    image = images(1, 24, 32)
    for half, exact in ((mixed, network), (mixed_local, local)):
        for stack, expected in zip(stages(half(image)), stages(exact(image))):
            assert stack.dtype == "float32"
            # Residuals have 8 or 11 significant bits.
            error = np.abs(stack - expected).max()
            assert error < bound * np.std(expected - image[:, None])
    for layer in mixed.layers:
        if "heads" in layer.name:
            layer.set_weights([0 * weight for weight in layer.get_weights()])
    for stack in stages(mixed(image * 0 + 1 / 3)):
        np.testing.assert_allclose(stack, 1 / 3, atol=1e-7)


@pytest.fixture
def exported(kind, network, local):
    """The network that LiteRT files are made of.

    Local statistics need what global ones need, and more; MPRNet's, which take long
    to convert, are NAFNet's.
    """
    return network if kind.cls is MPRNet else local


@pytest.mark.slow
def test_litert_plans_memory_ahead(exported, adaptive, images, tmp_path):
    """Before it runs, LiteRT knows the sizes of all tensors."""
    path = tmp_path / "model.tflite"
    model = adaptive(exported)
    export.to_litert(model, path, "all", photo=images(1, 16, 24)[0])
    interpreter = Interpreter(
        str(path),
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    (argument,) = interpreter.get_input_details()
    interpreter.resize_tensor_input(argument["index"], (2, 21, 30, 3))
    interpreter.allocate_tensors()
    planned = sizes_of_tensors(interpreter)
    interpreter.set_tensor(argument["index"], images(2, 21, 30))
    interpreter.invoke()
    surprises = {
        index
        for index, size in sizes_of_tensors(interpreter).items()
        if size != planned.get(index)
    }
    names = [
        entry["op_name"]
        for entry in interpreter._get_ops_details()
        if surprises & set(entry["outputs"])
    ]
    assert names == []
    expected = export.output_graph(model, "all")(images(2, 21, 30))
    found = [
        interpreter.get_tensor(output["index"])
        for output in interpreter.get_output_details()
    ]
    for name, value in expected.items():
        (same,) = (array for array in found if array.shape == value.shape)
        np.testing.assert_allclose(same, value, rtol=0, atol=1e-5, err_msg=name)


def sizes_of_tensors(interpreter):
    return {
        entry["index"]: tuple(entry["shape"])
        for entry in interpreter.get_tensor_details()
    }


@pytest.mark.quick_kinds("NAFNet", "HINet", "Restormer", "XYDeblur")
def test_training_step_moves_all_weights(kind, images):
    model = Deblurrer(kind.small(**kind.others, num_heads=3))
    network = model.network
    for weight in network.weights:
        if "squeeze/bias" in weight.path:  # of a ReLU that must not be dead
            weight.assign(3 * keras.ops.ones_like(weight))
    # In a graph, which takes long to make, one network of several stages.
    eager = kind.cls is not HINet
    model.compile(keras.optimizers.SGD(1.0), kind.loss, run_eagerly=eager)
    before = network.get_weights()
    # A label is made as small as images of coarser scales, which are not cropped.
    size = (16, 16) if "scale_outputs" in kind.others else (9, 12)
    batch = images(4, *size)
    history = model.fit(batch, batch[:, ::-1], epochs=1, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    for weight, old in zip(network.weights, before):
        assert np.isfinite(weight).all(), weight.path
        assert not np.array_equal(weight, old), weight.path


@pytest.mark.slow
def test_litert(exported, images, stages, tmp_path):
    """All stages, no Flex operators, sizes unknown when the file was made."""
    path = str(tmp_path / "model.tflite")
    exported.export(
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
    for shape in (1, 16, 24), (2, 27, 30), (1, 1, 3):
        image = images(*shape)
        found, expected = run(**{name: image}), stages(exported(image))
        assert len(found) == len(expected)
        for index, stack in enumerate(expected):
            np.testing.assert_allclose(
                found[f"output_{index}"], stack, rtol=0, atol=1e-5
            )
            # What the layers do is seen, or the test says nothing about them.
            assert np.abs(stack - image[:, None]).mean() > 0.01
