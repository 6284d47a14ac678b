"""Facts about MPRNet for the rest of the package."""

from keras_mhdeblur.networks.mprnet.mprnet import MPRNet
from keras_mhdeblur.networks.mprnet.official_names import mprnet_entries
from keras_mhdeblur.networks.mprnet.recognition import DETECTION
from keras_mhdeblur.networks.registry import Family

FAMILY = Family(
    name="MPRNet",
    network=MPRNet,
    entries=mprnet_entries,
    detection=DETECTION,
    numbers="num_heads image_channels width unet_step orsnet_step num_cab reduction",
    others="tlc_train_size use_bias",
    # Measured at the published width (`benchmarks/inference.py`), taken as
    # proportional to the width.
    peak_bytes=(0, 80),
    paper={"gopro": {"tlc_train_size": None}, "hide": {"tlc_train_size": None}},
)
