"""LiteRT files hold no Flex operators and run at sizes unknown when they were made."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from keras_mhdeblur import Deblurrer
from keras_mhdeblur.networks import NAFNet


def network():
    network = NAFNet(4, (1, 1), 1, (1, 1), num_heads=3)
    for index, weight in enumerate(network.weights):  # beta and gamma start at zero
        weight.assign(0.35 * keras.random.normal(weight.shape, seed=index))
    return network


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(network, id="network"),
        pytest.param(lambda: network().with_local_statistics(16), id="tlc"),
        pytest.param(
            lambda: Deblurrer(network(), local_statistics=(16, 24)), id="deblurrer"
        ),
    ],
)
def test_litert(model, tmp_path):
    model = model()
    path = str(tmp_path / "model.tflite")
    model.export(
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
    for shape in (1, 32, 48, 3), (2, 37, 51, 3):
        images = np.random.default_rng(0).random(shape, "float32")
        (found,) = run(**{name: images}).values()
        expected = np.array(model(images))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
        # What the blocks and the local statistics do is seen in the output, or the
        # test says nothing about them.
        assert np.abs(expected - images[:, None]).mean() > 0.01
        effect = np.abs(expected[:, 0] - np.array(network()(images))[:, 0]).max()
        assert (effect > 1e-4) == (model.local_statistics is not None)
