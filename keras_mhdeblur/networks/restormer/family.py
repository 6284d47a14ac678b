"""Facts about Restormer for the rest of the package."""

from keras_mhdeblur.networks.registry import Family
from keras_mhdeblur.networks.restormer.official_names import restormer_entries
from keras_mhdeblur.networks.restormer.recognition import DETECTION
from keras_mhdeblur.networks.restormer.restormer import Restormer

FAMILY = Family(
    name="Restormer",
    network=Restormer,
    entries=restormer_entries,
    detection=DETECTION,
    # Measured at the published width (`benchmarks/inference.py`), taken as
    # proportional to the width.
    peak_bytes=(0, 163),
    paper={"gopro": {"tlc_train_size": None}, "hide": {"tlc_train_size": None}},
)
