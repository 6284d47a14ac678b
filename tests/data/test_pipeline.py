import keras
import pytest
import tensorflow as tf

from keras_mhdeblur.data.pipeline import keep_gpus_free


@pytest.mark.parametrize(
    "backend, hidden", [("jax", [([], "GPU")]), ("tensorflow", [])]
)
def test_tensorflow_leaves_the_gpus_to_other_backends(monkeypatch, backend, hidden):
    calls = []

    def note(*arguments):
        calls.append(arguments)
        raise RuntimeError("devices cannot be modified after being initialized")

    monkeypatch.setattr(keras.backend, "backend", lambda: backend)
    monkeypatch.setattr(tf.config, "set_visible_devices", note)
    keep_gpus_free()
    assert calls == hidden
