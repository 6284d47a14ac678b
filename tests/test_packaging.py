import configparser
import email
import os
import re
import runpy
import shutil
import subprocess
import sys
import zipfile
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import keras_mhdeblur

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
SOURCES = ("keras_mhdeblur", "zoo")
FILES = ("LICENSE", "README.md", "pyproject.toml", "setup.cfg", "setup.py")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel, built from a source distribution of a copy of this checkout."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in SOURCES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, copy / name, ignore=ignored)
    for name in FILES:
        shutil.copy(ROOT / name, copy)
    subprocess.run([sys.executable, "-m", "build", str(copy)], check=True)
    return next((copy / "dist").glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Runs a Python command outside the checkout with the installed wheel."""
    target = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--target", str(target), str(wheel)], check=True)

    def run(*arguments):
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=target.parent,
            env={**os.environ, "PYTHONPATH": str(target)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    assert run("-c", "import keras_mhdeblur as m; print(m.__file__)").strip() == str(
        target / "keras_mhdeblur" / "__init__.py"
    )
    return run


def test_wheel_holds_the_package_and_the_zoo(wheel):
    expected = {
        path.relative_to(ROOT).as_posix(): path
        for path in ROOT.glob("keras_mhdeblur/**/*.py")
    }
    for name in ("app/icon.svg", "app/style.css", "export/photo.jpg", "py.typed"):
        name = f"keras_mhdeblur/{name}"
        expected[name] = ROOT / name
    for metadata in ROOT.glob("zoo/*/metadata.json"):
        for path in metadata.parent.iterdir():
            expected[f"keras_mhdeblur/{path.relative_to(ROOT).as_posix()}"] = path
    with zipfile.ZipFile(wheel) as archive:
        contents = {
            name: sha256(archive.read(name)).hexdigest()
            for name in archive.namelist()
            if ".dist-info/" not in name
        }
    assert contents == {
        name: sha256(path.read_bytes()).hexdigest() for name, path in expected.items()
    }


def test_metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith("/METADATA"))
        metadata = email.message_from_bytes(archive.read(name))
    assert metadata["Name"] == "keras-mhdeblur"
    assert metadata["Version"] == keras_mhdeblur.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    tensorflow = [
        line
        for line in metadata.get_all("Requires-Dist")
        if line.startswith("tensorflow") and "extra" not in line
    ]
    # Not pinned above, and not a build of its own.
    assert tensorflow == ["tensorflow>=2.18"]
    assert metadata["Author"] == "The keras_mhdeblur authors"
    assert "Paper, https://arxiv.org/abs/2208.13029" in metadata.get_all("Project-URL")
    for minor in (11, 12, 13):
        python = f"Programming Language :: Python :: 3.{minor}"
        assert python in metadata.get_all("Classifier")


def test_the_index_takes_it(wheel):
    subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", *wheel.parent.iterdir()],
        check=True,
    )
    assert wheel.stat().st_size < 90e6


LINK = re.compile(r"\]\((?!https?:|#)[^)]*\)")


def test_the_page_on_the_index_has_no_dead_links(wheel):
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith("/METADATA"))
        page = email.message_from_bytes(archive.read(name)).get_payload()
    assert page.startswith("# keras_mhdeblur\n") and "mhdeblur restore" in page
    assert not LINK.search(page) and "<!--" not in page


def test_links_of_the_page():
    described = runpy.run_path(str(ROOT / "setup.py"))["long_description"]
    text = (
        "Top\n\n![a, b](x/y.jpg)\n\n*Left: d. Right:\ne.*\n\n"
        "[c](d.md#e), [f](https://g.h), [i](#j)\n<!-- ci: k -->\n"
    )
    assert described(text) == "Top\n\nc, [f](https://g.h), [i](#j)\n"
    assert described(text, "https://l.m/n", "1.2") == (
        "Top\n\n![a, b](https://l.m/n/raw/v1.2/x/y.jpg)\n\n*Left: d. Right:\ne.*\n\n"
        "[c](https://l.m/n/blob/v1.2/d.md#e), [f](https://g.h), [i](#j)\n"
    )


def test_project_table_stays_in_setup_cfg():
    assert "[project]" not in (ROOT / "pyproject.toml").read_text()
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert setup["metadata"]["name"] == "keras-mhdeblur"


def test_installed_wheel_works_elsewhere(installed, tmp_path):
    assert "restore" in installed("-m", "keras_mhdeblur", "--help")
    listed = installed(
        "-c",
        "from keras_mhdeblur.presets import list_presets; print(*list_presets())",
    )
    assert set(listed.split()) == {
        path.parent.name for path in ROOT.glob("zoo/*/metadata.json")
    }
    uri = "hf://me/nafnet_mh_c"
    plan = ("-m", "keras_mhdeblur", "publish", "nafnet_mh_c", uri, "--dry-run")
    assert "  LICENSE\n" in installed(*plan)
    if (ROOT / "zoo/nafnet_mh_c/model.weights.h5").exists():
        pixels = np.random.default_rng(0).integers(0, 256, (24, 31, 3), "uint8")
        Image.fromarray(pixels).save(tmp_path / "photo.jpg")
        command = ("-m", "keras_mhdeblur", "restore", tmp_path / "photo.jpg")
        installed(*command, "--output", tmp_path / "restored")
        restored = Image.open(tmp_path / "restored" / "photo.png")
        assert restored.size == (31, 24)
