import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_mhdeblur import Deblurrer
from keras_mhdeblur.networks import NAFNet

pytest.importorskip("ray")

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "examples" / "restore_cluster.py"
PHOTOS = 40


@pytest.fixture(scope="module")
def model():
    return Deblurrer(NAFNet(width=4, encoder_blocks=(1,), decoder_blocks=(1,)))


@pytest.fixture(scope="module")
def preset(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("presets") / "tiny"
    model.save_to_preset(folder, litert=True)
    return folder


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(PHOTOS):
        pixels = rng.integers(0, 256, (240, 361, 3), "uint8")
        Image.fromarray(pixels).save(folder / f"{index:02}.png")
    return folder


def start(*arguments, log):
    """The example with a worker per core, in a cluster of this machine alone."""
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    return subprocess.Popen(
        [sys.executable, SCRIPT, *arguments, "--cores", "1"],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "RAY_ADDRESS": "local",
            "RAY_USAGE_STATS_ENABLED": "0",
        },
        stdout=log,
        stderr=log,
    )


def workers(ancestor):
    """Process ids of the workers that descend from a process."""
    listing = subprocess.check_output(["ps", "-eo", "pid=,ppid=,args="], text=True)
    rows = [line.split(None, 2) for line in listing.splitlines()]
    family = {str(ancestor)}
    # A child can be listed before its parent.
    for _ in range(3):
        family |= {pid for pid, parent, *_ in rows if parent in family}
    return [
        int(pid)
        for pid, _, *args in rows
        if pid in family and args and args[0].startswith("ray::MapWorker")
    ]


def outputs(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("[!.]*.png")}


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="kills by signal")
def test_a_killed_worker_loses_nothing(model, preset, photos, tmp_path):
    (photos / "broken.png").write_bytes(b"no picture")
    output, log = tmp_path / "out", tmp_path / "log.txt"
    times = {}
    killed = False
    with open(log, "w") as file:
        process = start(photos, output, "--preset", preset, log=file)
        try:
            while process.poll() is None:
                for name, written in outputs(output).items():
                    times.setdefault(name, set()).add(written)
                if len(times) >= 3 and not killed:
                    worker = workers(process.pid)[0]
                    # Stopped first, it has a photo for sure when it dies.
                    os.kill(worker, signal.SIGSTOP)
                    time.sleep(0.3)
                    os.kill(worker, signal.SIGKILL)
                    killed = len(outputs(output)) < PHOTOS
                time.sleep(0.01)
        finally:
            process.terminate()
    assert killed
    assert process.returncode == 1, log.read_text()
    (failure,) = (output / "failed.txt").read_text().splitlines()
    assert failure.startswith(f"{photos / 'broken.png'}: it is not an image")

    final = outputs(output)
    assert sorted(final) == [f"{index:02}.png" for index in range(PHOTOS)]
    for name, written in final.items():
        assert times.get(name, {written}) == {written}
        expected = model.restore(photos / name, hypotheses=False).image
        restored = np.asarray(Image.open(output / name))
        np.testing.assert_allclose(restored, expected, atol=1)
        assert np.ptp(restored) > 200

    # Nothing is left to do, of a list of paths neither.
    paths = tmp_path / "paths.txt"
    paths.write_text("".join(f"{photos / name}\n\n" for name in final))
    with open(log, "w") as file:
        process = start(paths, output, "--preset", "no_such_preset", log=file)
        assert process.wait(120) == 0, log.read_text()
    assert outputs(output) == final
    assert (output / "failed.txt").read_text() == ""


def test_a_photo_given_again_is_not_restored_again(preset, photos, tmp_path):
    restorer = runpy.run_path(str(SCRIPT))["Restorer"](str(preset))
    target = tmp_path / "new" / "00.png"
    job = {"path": str(photos / "00.png"), "target": str(target)}
    assert restorer(job) == {**job, "reason": ""}
    assert Image.open(target).size == (361, 240)
    target.write_bytes(b"done before")
    assert restorer(job) == {**job, "reason": ""}
    assert target.read_bytes() == b"done before"
