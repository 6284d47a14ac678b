"""Facts about MAXIM for the rest of the package."""

from keras_mhdeblur.networks.maxim.maxim import MAXIM
from keras_mhdeblur.networks.maxim.official_names import maxim_entries
from keras_mhdeblur.networks.maxim.recognition import DETECTION
from keras_mhdeblur.networks.registry import Family

FAMILY = Family(
    name="MAXIM",
    network=MAXIM,
    entries=maxim_entries,
    detection=DETECTION,
    numbers="num_heads image_channels "
    "width stages num_groups num_bottlenecks bottleneck_side reduction",
    others="sides scale_outputs",
)
