"""Official parameter names of NAFNet and its multi-head variants."""

import numpy as np

from keras_mhdeblur.networks.torch_layouts import (
    conv_entries,
    depthwise_conv,
    shuffled_conv,
)


def nafnet_entries(network):
    """Official parameter name to (Keras variable, function from PyTorch's array)."""
    entries = {}

    def add_blocks(name, prefix, count):
        for index in range(count):
            block = network.get_layer(f"{prefix}_block_{index}")
            entries.update(nafblock_entries(block, f"{name}.{index}."))

    entries.update(conv_entries("intro", network.get_layer("intro")))
    entries.update(conv_entries("ending", network.get_layer("heads").conv))
    for level, count in enumerate(network.encoder_blocks):
        add_blocks(f"encoders.{level}", f"encoder_{level}", count)
        down = network.get_layer(f"down_{level}")
        entries.update(conv_entries(f"downs.{level}", down))
    add_blocks("middle_blks", "middle", network.middle_blocks)
    for index, count in enumerate(network.decoder_blocks):
        up = network.get_layer(f"up_{index}")
        entries.update(conv_entries(f"ups.{index}.0", up, shuffled_conv))
        add_blocks(f"decoders.{index}", f"decoder_{index}", count)
    return entries


def nafblock_entries(block, prefix=""):
    """The same for one `NAFBlock`; names start with the prefix."""
    entries = {
        f"{prefix}beta": (block.beta, np.ravel),
        f"{prefix}gamma": (block.gamma, np.ravel),
        **conv_entries(f"{prefix}conv1", block.conv1),
        **conv_entries(f"{prefix}conv2", block.conv2, depthwise_conv),
        **conv_entries(f"{prefix}conv3", block.conv3),
        **conv_entries(f"{prefix}sca.1", block.attention),
        **conv_entries(f"{prefix}conv4", block.conv4),
        **conv_entries(f"{prefix}conv5", block.conv5),
    }
    for name, norm in (("norm1", block.norm1), ("norm2", block.norm2)):
        entries[f"{prefix}{name}.weight"] = (norm.gamma, np.asarray)
        entries[f"{prefix}{name}.bias"] = (norm.beta, np.asarray)
    return entries
