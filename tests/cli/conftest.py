"""Fixtures of other folders: a Hub on the loopback, and checkpoint files."""

import importlib.util
from pathlib import Path


def _conftest(folder):
    path = Path(__file__).parents[1] / folder / "conftest.py"
    spec = importlib.util.spec_from_file_location(f"conftest_of_{folder}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


hub = _conftest("presets").hub
_files = _conftest("convert")
checkpoints, official_file, bait = _files.checkpoints, _files.official_file, _files.bait
