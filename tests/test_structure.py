"""The package has one direction: a module imports only what lies below it."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import keras_mhdeblur

ROOT = Path(keras_mhdeblur.__file__).parent
# From low to high. A room imports rooms before it, and itself.
ROOMS = (
    "utils",
    "photos",
    "hypotheses",
    "layers",
    "losses",
    "metrics",
    "networks",
    "engines",
    "export",
    "presets",
    "inference",
    "trainers",
    "deblurrer",
    "diffusion",
    "data",
    "convert",
    "training",
    "evaluation",
    "experimental",
    "app",
    "cli",
)
# They import Keras or TensorFlow nowhere at their top: the command restores photos with
# LiteRT without waiting for either.
LIGHT = (
    "utils",
    "photos",
    "hypotheses",
    "engines/litert_ensemble.py",
    "engines/litert_model.py",
    "engines/rgb.py",
    "engines/tiling.py",
    "presets/__init__.py",
    "presets/card.py",
    "presets/files.py",
    "presets/hub.py",
    "presets/litert.py",
    "presets/members.py",
    "presets/publishing.py",
    "presets/zoo.py",
    "inference",
    "app",
    "cli",
    "__init__.py",
)


def modules():
    """Path of every module below the package's folder."""
    return sorted(ROOT.rglob("*.py"))


def imports(path):
    """(name, whether at the top) of every module or object that a file imports."""
    tree = ast.parse(path.read_text("utf-8"))
    top = set(tree.body)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            yield name, node in top


def room_of(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def upward(path):
    """Imports of a file that run upwards."""
    own = ROOMS.index(room_of(path))
    for name, _ in imports(path):
        package, *rest = name.split(".")
        if package == "keras_mhdeblur" and rest and rest[0] in ROOMS:
            if ROOMS.index(rest[0]) > own:
                yield f"{path.relative_to(ROOT)} imports {name}"


def circles(graph):
    """A path of modules that leads back to its first one, or None."""
    done, path = set(), []

    def visit(module):
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return None
        path.append(module)
        for other in graph[module]:
            if found := visit(other):
                return found
        path.pop()
        done.add(module)
        return None

    for module in graph:
        if found := visit(module):
            return found
    return None


@pytest.mark.parametrize("room", ROOMS)
def test_no_import_runs_upwards(room):
    files = [path for path in modules() if room_of(path) == room]
    assert files
    assert [line for path in files for line in upward(path)] == []


def test_every_module_is_in_a_room():
    rooms = {room_of(path) for path in modules()}
    assert rooms == {*ROOMS, "__init__", "__main__"}


def test_no_circle_of_modules():
    names = {
        ".".join(path.relative_to(ROOT.parent).with_suffix("").parts): path
        for path in modules()
    }
    names = {name.removesuffix(".__init__"): path for name, path in names.items()}
    graph = {}
    for name, path in names.items():
        found = set()
        for imported, at_top in imports(path):
            module = imported if imported in names else imported.rpartition(".")[0]
            if at_top and module in names and module != name:
                found.add(module)
        graph[name] = found
    assert circles(graph) is None


def test_circles_are_found():
    assert circles({"a": ["b"], "b": ["c"], "c": ["b"]}) == ["b", "c", "b"]
    assert circles({"a": ["b", "c"], "b": ["c"], "c": []}) is None


@pytest.mark.parametrize("part", LIGHT)
def test_light_modules_need_neither_keras_nor_tensorflow(part):
    place = ROOT / part
    for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
        heavy = {
            name
            for name, at_top in imports(path)
            if at_top and name.split(".")[0] in ("keras", "tensorflow")
        }
        assert not heavy, f"{path.relative_to(ROOT)} imports {heavy}"


LAZY = """
import sys
import keras_mhdeblur
heavy = {"keras", "tensorflow", "numpy", "PIL"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
assert set(keras_mhdeblur.__all__) < set(dir(keras_mhdeblur))
names = {}
exec("from keras_mhdeblur import *", names)
assert set(keras_mhdeblur.__all__) <= set(names)
assert names["from_preset"] is keras_mhdeblur.from_preset
"""


def test_the_package_loads_nothing_before_it_is_asked_for():
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", LAZY], env=environment, check=True)


def test_unknown_names_are_refused():
    name = "restore_photo"
    with pytest.raises(AttributeError, match="no attribute 'restore_photo'"):
        getattr(keras_mhdeblur, name)
