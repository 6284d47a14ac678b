"""The notebooks of the examples, run from a copy of the examples."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "examples"
NOTEBOOKS = sorted((EXAMPLES / "notebooks").glob("*.ipynb"))


def executed(name, tmp_path):
    """The folder of a notebook that has run, its printed text and its pictures."""
    for part in ("notebooks", "pairs", "photos"):
        shutil.copytree(EXAMPLES / part, tmp_path / part)
    folder = tmp_path / "notebooks"
    notebook = nbformat.read(folder / f"{name}.ipynb", as_version=4)
    resources = {"metadata": {"path": str(folder)}}
    nbclient.NotebookClient(notebook, timeout=300, resources=resources).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    text = "".join(o["text"] for o in outputs if o.get("name") == "stdout")
    pictures = sum("image/png" in output.get("data", {}) for output in outputs)
    return folder, text, pictures


def test_all_notebooks_are_tested():
    assert [path.stem for path in NOTEBOOKS] == [
        *("export_and_serve", "restore_and_choose", "train_on_your_photos")
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_valid_and_stored_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None


def test_restore_and_choose(tmp_path):
    folder, text, pictures = executed("restore_and_choose", tmp_path)
    assert pictures == 5
    (levels,) = re.findall(r"on average ([\d.]+) of 255 levels", text)
    assert 0.1 < float(levels) < 10
    restored = Image.open(folder / "restored.jpg")
    photo = Image.open(tmp_path / "photos" / "gopro_street.jpg")
    assert restored.size == photo.size
    change = np.abs(np.asarray(restored, "int16") - np.asarray(photo, "int16"))
    assert 0.2 < change.mean() < 20
    # A scale lies below the picture.
    assert Image.open(folder / "uncertainty.png").size[0] == photo.size[0]


def test_train_on_your_photos(tmp_path):
    _, text, pictures = executed("train_on_your_photos", tmp_path)
    assert pictures == 2
    scores = dict(re.findall(r"^(\w+ \w+) +([\d.]+) dB$", text, re.MULTILINE))
    before, now = float(scores["model before"]), float(scores["model now"])
    # Four small steps: another model, of nearly the same scores.
    assert 0 < abs(now - before) < 1
    assert before > float(scores["blurry photos"])


def test_export_and_serve(tmp_path):
    _, text, pictures = executed("export_and_serve", tmp_path)
    assert pictures == 2
    assert text.count("within the bound") == 2
    assert re.search(r"largest difference: [01] of 255 levels", text)
