"""The command `mhdeblur app`."""

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from keras_mhdeblur import cli
from keras_mhdeblur.app.serving import MAX_MEGAPIXELS
from keras_mhdeblur.cli.app import _seconds_per_megapixel
from keras_mhdeblur.cli.common import QUALITIES


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def listening(port):
    """Hexadecimal addresses at which a port of this machine is open."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    places = [line.split()[1] for line in lines if line.split()[3] == "0A"]
    return [place.split(":")[0] for place in places if int(place[-4:], 16) == port]


@pytest.fixture
def start(tmp_path):
    """Starts the command in a process of its own; returns it and its port."""
    started = []

    def start(name):
        (tmp_path / name).mkdir()
        port = free_port()
        process = subprocess.Popen(
            [sys.executable, "-m", "keras_mhdeblur", "app", "--quality", "fast"]
            + ["--port", str(port)],
            env={**os.environ, "TMPDIR": str(tmp_path / name)},
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process, port

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_the_page_is_local_and_its_folder_goes_with_it(start, tmp_path):
    pytest.importorskip("gradio")
    signals = {"interrupted": signal.SIGINT, "ended": signal.SIGTERM}
    running = {name: start(name) for name in signals}
    for name, (process, port) in running.items():
        lines = [process.stderr.readline() for _ in range(3)]
        assert lines[1] == f"The page is at http://127.0.0.1:{port}/\n", lines
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as page:
            assert "Several sharp answers" in page.read().decode()
        if sys.platform == "linux":
            assert listening(port) == ["0100007F"]  # 127.0.0.1
        (folder,) = (tmp_path / name).glob("mhdeblur-app-*")
        assert folder.stat().st_mode & 0o77 == 0  # for this user alone
        process.send_signal(signals[name])
        assert process.wait(60) == 0
        assert list((tmp_path / name).iterdir()) == []


def test_without_gradio_there_is_a_sentence(own_environment, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert cli.main(["app"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        'mhdeblur: error: The app needs Gradio: pip install "keras-mhdeblur[app]"'
    )


def test_wrong_presets_and_taken_ports_are_sentences(own_environment, capsys):
    pytest.importorskip("gradio")
    assert cli.main(["app", "--preset", "nowhere"]) == 2
    assert "--preset nowhere: Unknown preset" in capsys.readouterr().err
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert cli.main(["app", "--quality", "fast", "--port", str(port)]) == 2
    assert "the port is taken" in capsys.readouterr().err


def test_seconds_of_the_qualities_are_those_of_their_metadata():
    seconds = [_seconds_per_megapixel(QUALITIES[name], None) for name in QUALITIES]
    assert seconds == sorted(seconds) and 0 < seconds[0] < 5 < seconds[1]
    assert _seconds_per_megapixel("/a/folder", None) is None


def test_the_limit_in_the_help_is_that_of_launch(capsys):
    with pytest.raises(SystemExit):
        cli.main(["app", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert f"refuse larger photos (default: {MAX_MEGAPIXELS})" in text
