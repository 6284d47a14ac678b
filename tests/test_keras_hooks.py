"""Private parts of Keras that the package overrides or reads, by name.

A Keras without one of them fails here, in one place.
"""

import inspect

import keras
import numpy as np
import pytest
from keras.src.saving import saving_lib


@pytest.mark.parametrize(
    "owner, names",
    [
        (keras.optimizers.Optimizer, ["_get_variable_index", "_use_weight_decay"]),
        (saving_lib.H5IOStore, ["_get_h5_file", "_create_h5_group", "close"]),
    ],
)
def test_methods_are_there(owner, names):
    assert [name for name in names if not callable(getattr(owner, name, None))] == []


def test_tensorflow_optimizer_steps_are_overridable():
    optimizer = keras.optimizers.AdamW()
    hook = getattr(optimizer, "_backend_update_step", None)
    if keras.backend.backend() != "tensorflow":
        pytest.skip("TensorFlow's optimizer has the hook")
    assert list(inspect.signature(hook).parameters) == [
        "grads",
        "trainable_variables",
        "learning_rate",
    ]


def test_state_of_the_optimizer_has_its_names():
    variable = keras.Variable(np.ones(2, "float32"))
    optimizer = keras.optimizers.AdamW(use_ema=True)
    optimizer.build([variable])
    for name in ("_momentums", "_velocities", "_model_variables_moving_average"):
        assert len(getattr(optimizer, name)) == 1


def test_saving_walks_with_these_arguments():
    assert list(inspect.signature(saving_lib._save_state).parameters) == [
        "saveable",
        "weights_store",
        "assets_store",
        "inner_path",
        "visited_saveables",
    ]
    store = inspect.signature(saving_lib.H5IOStore)
    assert list(store.parameters)[:1] == ["path_or_io"]
