"""Facts about HINet for the rest of the package."""

from keras_mhdeblur.networks.hinet.hinet import HINet
from keras_mhdeblur.networks.hinet.official_names import hinet_entries
from keras_mhdeblur.networks.hinet.recognition import DETECTION
from keras_mhdeblur.networks.registry import Family

# Overlapping crops of the training size, averaged; its TLC class changed nothing.
_PAPER = {"tlc_train_size": None, "crop_size": 256}

FAMILY = Family(
    name="HINet",
    network=HINet,
    entries=hinet_entries,
    detection=DETECTION,
    numbers="num_heads image_channels width depth hin_start hin_end relu_slope",
    others="tlc_train_size",
    # Measured at the published width (`benchmarks/inference.py`), taken as
    # proportional to the width.
    peak_bytes=(0, 31),
    paper={"gopro": _PAPER, "hide": _PAPER},
)
