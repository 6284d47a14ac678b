"""Facts about XYDeblur for the rest of the package."""

from keras_mhdeblur.networks.registry import Family
from keras_mhdeblur.networks.xydeblur.official_names import xydeblur_entries
from keras_mhdeblur.networks.xydeblur.recognition import DETECTION
from keras_mhdeblur.networks.xydeblur.xydeblur import XYDeblur

FAMILY = Family(
    name="XYDeblur",
    network=XYDeblur,
    entries=xydeblur_entries,
    detection=DETECTION,
    numbers="num_heads image_channels width num_res_blocks",
    # Measured at the published width (`benchmarks/inference.py`), taken as
    # proportional to the width.
    peak_bytes=(0, 45),
)
