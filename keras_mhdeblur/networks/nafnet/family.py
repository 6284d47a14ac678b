"""Facts about NAFNet for the rest of the package."""

from keras_mhdeblur.networks.nafnet.nafnet import NAFNet
from keras_mhdeblur.networks.nafnet.official_names import nafnet_entries
from keras_mhdeblur.networks.nafnet.recognition import DETECTION
from keras_mhdeblur.networks.registry import Family

FAMILY = Family(
    name="NAFNet",
    network=NAFNet,
    entries=nafnet_entries,
    detection=DETECTION,
    numbers="num_heads image_channels width middle_blocks",
    others="tlc_train_size encoder_blocks decoder_blocks",
    # Measured on TensorFlow on a CPU: encoder (1, 1, 1, 28), with local statistics, 676
    # at width 16 and 1142 at width 32.
    peak_bytes=(250, 30),
    paper={
        # MHNAFNetLocal: TLC for crops of 256 pixels, so windows of 384.
        "gopro": {"tlc_train_size": 256},
        # MHNAFNet: no TLC, for the baseline of 31.22 dB either.
        "hide": {"tlc_train_size": None},
    },
)
