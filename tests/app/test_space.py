"""The folder of a Hugging Face Space."""

import configparser
import os
import socket
import subprocess
import sys

import pytest
import yaml

from keras_mhdeblur.presets.litert import litert_from_preset


@pytest.fixture
def folder(pytestconfig):
    return pytestconfig.rootpath / "examples" / "space"


def front_matter(folder):
    text = (folder / "README.md").read_text("utf-8")
    _, matter, _ = text.split("---\n", 2)
    return yaml.safe_load(matter)


def test_front_matter(folder, pytestconfig):
    matter = front_matter(folder)
    assert matter["sdk"] == "gradio" and matter["license"] == "apache-2.0"
    assert (folder / matter["app_file"]).is_file()
    assert matter["suggested_hardware"] == "cpu-basic"
    assert len(matter["short_description"]) <= 60  # the Hub's limit
    setup = configparser.ConfigParser()
    setup.read(pytestconfig.rootpath / "setup.cfg")
    least = setup["options.extras_require"]["app"].removeprefix("gradio>=")
    versions = [
        tuple(map(int, version.split(".")[:2]))
        for version in (matter["sdk_version"], least)
    ]
    assert versions[0] >= versions[1]
    python = setup["options"]["python_requires"].removeprefix(">=")
    assert matter["python_version"] == python
    (requirement,) = (folder / "requirements.txt").read_text().split()
    assert requirement == setup["metadata"]["name"]


def test_its_models_come_with_the_package(folder):
    pytest.importorskip("ai_edge_litert")
    names = {}
    exec((folder / "app.py").read_text("utf-8"), names)
    for name, (preset, seconds) in names["MODELS"].items():
        model, options = names["load_model"](name)
        assert type(model) is type(litert_from_preset(preset))
        assert options == {} and seconds > 0


@pytest.mark.slow
def test_it_restores_a_photo(folder, new_page, photo, tmp_path):
    pytest.importorskip("gradio")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, folder / "app.py"],
        env={
            **os.environ,
            "TMPDIR": str(tmp_path),
            "GRADIO_SERVER_NAME": "127.0.0.1",
            "GRADIO_SERVER_PORT": str(port),
        },
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        url = process.stdout.readline().strip()
        assert url == f"http://127.0.0.1:{port}/"
        app = new_page(url)
        app.restore(photo)
        assert app.page.locator("#mh-gallery .caption-label").count() == 11
        assert "12 megapixels" in app.page.locator("#mh-limits").inner_text()
        process.terminate()
        assert process.wait(60) == 0
        assert list(tmp_path.glob("mhdeblur-app-*")) == []
    finally:
        process.kill()
        process.wait()
