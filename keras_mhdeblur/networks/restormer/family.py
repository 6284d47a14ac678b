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
    numbers="num_heads image_channels width num_refinement_blocks ffn_expansion",
    others="tlc_train_size num_blocks attention_heads use_bias norm",
    # Measured at the published width (`benchmarks/inference.py`), taken as
    # proportional to the width.
    peak_bytes=(0, 163),
    paper={"gopro": {"tlc_train_size": None}, "hide": {"tlc_train_size": None}},
)
