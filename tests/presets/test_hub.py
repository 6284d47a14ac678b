import os
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from keras_mhdeblur import from_preset
from keras_mhdeblur.presets import PresetError, upload_preset
from keras_mhdeblur.presets.hub import parse_uri

URI = "hf://me/small"

pytestmark = pytest.mark.filterwarnings("ignore:The preset records no")


def weights(model):
    return np.concatenate([np.ravel(weight) for weight in model.get_weights()])


def test_revision(hub, preset, tmp_path, make_model):
    upload_preset(URI, preset)
    first = hub.resolve("me/small", "main")
    other = make_model(seed=1)
    other.save_to_preset(tmp_path / "other")
    upload_preset(URI, tmp_path / "other", revision="v2")
    assert np.array_equal(weights(from_preset(f"{URI}@v2")), weights(other))
    assert np.array_equal(weights(from_preset(URI)), weights(other))
    pinned = from_preset(f"{URI}@{first}")
    assert np.array_equal(weights(pinned), weights(make_model()))
    # A branch.
    hub.repos["me/small"]["refs"]["better"] = first
    pinned = from_preset(f"{URI}@better")
    assert np.array_equal(weights(pinned), weights(make_model()))


def test_only_files_of_a_preset_are_downloaded(hub, preset):
    upload_preset(URI, preset)
    files = hub.commits[hub.resolve("me/small", "main")]
    files["training.ckpt"] = b"large"
    from_preset(URI)
    from_preset(URI)
    downloads = [request for request in hub.requests if request.startswith("GET /me")]
    assert len(downloads) == len(set(downloads)) == 4
    assert not any("training" in request for request in downloads)


def test_bit_flipped_on_the_server(hub, preset):
    upload_preset(URI, preset)
    files = hub.commits[hub.resolve("me/small", "main")]
    damaged = bytearray(files["model.weights.h5"])
    damaged[len(damaged) // 2] ^= 1
    files["model.weights.h5"] = bytes(damaged)
    message = "hf://me/small.*weights.h5 is damaged.*models--me--small.*again"
    with pytest.raises(PresetError, match=message):
        from_preset(URI)


def test_not_a_preset(hub):
    hub.create("me/empty")
    with pytest.raises(PresetError, match="hf://me/empty.*metadata.json is missing"):
        from_preset("hf://me/empty")


def test_missing_repository(hub):
    with pytest.raises(PresetError, match="there is no repository me/nothing"):
        from_preset("hf://me/nothing")


def test_missing_revision(hub, preset):
    upload_preset(URI, preset)
    with pytest.raises(PresetError, match="me/small has no revision 'v9'"):
        from_preset(f"{URI}@v9")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_unreachable(hub, preset, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    start = time.monotonic()
    with pytest.raises(PresetError, match="cannot be reached.*cache does not hold it"):
        from_preset(URI)
    with pytest.raises(PresetError, match="was not uploaded to hf://me/small"):
        upload_preset(URI, preset)
    assert time.monotonic() - start < 5


def test_silent_server(hub, monkeypatch):
    # It accepts the connection and never answers.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
        start = time.monotonic()
        with pytest.raises(PresetError, match="cannot be reached.*no answer"):
            from_preset(URI)
        assert time.monotonic() - start < 5


def test_name_resolution_that_hangs(hub, monkeypatch):
    resolved = threading.Event()

    def getaddrinfo(*_, **__):
        resolved.wait(60)
        raise socket.gaierror("no such name")

    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    start = time.monotonic()
    with pytest.raises(PresetError, match="cannot be reached.*no answer"):
        from_preset(URI)
    assert time.monotonic() - start < 5
    resolved.set()


def test_cache_serves_when_unreachable(hub, preset, monkeypatch, make_model):
    upload_preset(URI, preset)
    from_preset(URI)
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    assert np.array_equal(weights(from_preset(URI)), weights(make_model()))


def test_offline(hub, preset, monkeypatch, make_model):
    upload_preset(URI, preset)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hub.requests.clear()
    with pytest.raises(PresetError, match="HF_HUB_OFFLINE is set.*cache"):
        from_preset(URI)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    from_preset(URI)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hub.requests.clear()
    assert np.array_equal(weights(from_preset(URI)), weights(make_model()))
    assert hub.requests == []


@pytest.mark.parametrize("uri", ["hf://me", "hf://me/a/b", "hf:///a", "hf://me/a@"])
def test_malformed_uri(uri):
    with pytest.raises(PresetError, match="user/repo"):
        parse_uri(uri)


@pytest.mark.slow
def test_keras_opens_it(hub, preset, tmp_path, make_model):
    upload_preset(URI, preset)
    # The Hub's client reads HF_ENDPOINT when it is imported: a new interpreter.
    code = (
        "import keras, numpy, keras_mhdeblur\n"
        f"model = keras.saving.load_model({URI!r})\n"
        "print(repr(float(sum(abs(w).astype('float64').sum()"
        " for w in model.get_weights()))))"
    )
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path / "cache")}
    printed = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    expected = sum(abs(w).astype("float64").sum() for w in make_model().get_weights())
    assert float(printed) == expected
