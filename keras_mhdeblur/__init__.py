"""Deblurring with several hypotheses: a Keras 3 model zoo."""

import importlib
import sys
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from keras_mhdeblur import (
        convert,
        data,
        diffusion,
        evaluation,
        export,
        inference,
        layers,
        losses,
        metrics,
        networks,
        presets,
        training,
    )
    from keras_mhdeblur.deblurrer import Deblurrer, from_preset
    from keras_mhdeblur.presets import list_presets, upload_preset

# Names to the modules that have them. They are imported when they are first used: the
# command answers, and restores with LiteRT, without waiting for Keras.
_OBJECTS = {
    "Deblurrer": "deblurrer",
    "from_preset": "deblurrer",
    "list_presets": "presets",
    "upload_preset": "presets",
}
_MODULES = (
    "convert",
    "data",
    "diffusion",
    "evaluation",
    "export",
    "inference",
    "layers",
    "losses",
    "metrics",
    "networks",
    "presets",
    "training",
)

__all__ = [
    "Deblurrer",
    "convert",
    "data",
    "diffusion",
    "evaluation",
    "export",
    "from_preset",
    "inference",
    "layers",
    "list_presets",
    "losses",
    "metrics",
    "networks",
    "presets",
    "training",
    "upload_preset",
]


def __getattr__(name):
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _OBJECTS:
        module = importlib.import_module(f"{__name__}.{_OBJECTS[name]}")
        return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return [*__all__, "__version__"]


# Keras opens saved models whose classes have been imported. A program that has loaded
# Keras does not wait for it again.
if "keras" in sys.modules:
    importlib.import_module(f"{__name__}.diffusion")
