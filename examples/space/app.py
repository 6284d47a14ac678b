"""A Hugging Face Space that restores photos, with the models in the package."""

import os

from keras_mhdeblur.app import Choice, launch
from keras_mhdeblur.presets.litert import litert_from_preset

# Name on the page -> preset, seconds per megapixel on two cores.
MODELS = {"fast": ("nafnet_mh_c", 1), "good": ("nafnet_maxim_mh_c", 18)}


def load_model(name):
    preset, _ = MODELS[name]
    return litert_from_preset(preset), {}


if __name__ == "__main__":
    launch(
        load_model,
        [Choice(name, seconds) for name, (_, seconds) in MODELS.items()],
        host=os.environ.get("GRADIO_SERVER_NAME", "0.0.0.0"),
        port=int(os.environ.get("GRADIO_SERVER_PORT", 7860)),
        max_megapixels=12,
        ready=lambda address: print(address, flush=True),
    )
