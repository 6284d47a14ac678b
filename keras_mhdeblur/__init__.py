"""Deblurring with several hypotheses: a Keras 3 model zoo."""

import sys

__version__ = "0.1.0"

# The command `mhdeblur` imports the modules it needs by itself: where LiteRT restores a
# photo, it need not wait for Keras.
if "mhdeblur" not in sys.modules:
    from keras_mhdeblur import (
        convert,
        data,
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
    from keras_mhdeblur.deblurrer import Deblurrer
    from keras_mhdeblur.presets import from_preset, list_presets, upload_preset
    from keras_mhdeblur.winner_predictor import WinnerPredictor

__all__ = [
    "Deblurrer",
    "WinnerPredictor",
    "convert",
    "data",
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
