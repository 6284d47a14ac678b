"""Official parameter names of Restormer and its multi-head variant."""

import numpy as np

from keras_mhdeblur.networks.torch_layouts import (
    conv_entries,
    depthwise_conv,
    shuffled_conv,
)


def restormer_entries(network):
    """Official parameter name to (Keras variable, function from PyTorch's array)."""
    layer = network.get_layer
    entries = {
        **conv_entries("patch_embed.proj", layer("intro")),
        **conv_entries("output", layer("heads").conv),
    }

    def add_blocks(name, prefix, count):
        for index in range(count):
            block = layer(f"{prefix}_block_{index}")
            entries.update(transformer_block_entries(block, f"{name}.{index}."))

    # Official levels count from 1.
    *upper, lowest = network.num_blocks
    for level, count in enumerate(upper):
        number, below = level + 1, level + 2
        add_blocks(f"encoder_level{number}", f"encoder_{level}", count)
        add_blocks(f"decoder_level{number}", f"decoder_{level}", count)
        down, up = layer(f"down_{level}"), layer(f"up_{level}")
        entries.update(conv_entries(f"down{number}_{below}.body.0", down))
        entries.update(conv_entries(f"up{below}_{number}.body.0", up, shuffled_conv))
        if level:
            merge = layer(f"merge_{level}")
            entries.update(conv_entries(f"reduce_chan_level{number}", merge))
    add_blocks("latent", "latent", lowest)
    add_blocks("refinement", "refinement", network.num_refinement_blocks)
    return entries


def transformer_block_entries(block, prefix=""):
    """The same for one `TransformerBlock`; names start with the prefix."""
    return {
        **channel_normalization_entries(block.norm1, f"{prefix}norm1."),
        **attention_entries(block.attention, f"{prefix}attn."),
        **channel_normalization_entries(block.norm2, f"{prefix}norm2."),
        **feed_forward_entries(block.feed_forward, f"{prefix}ffn."),
    }


def channel_normalization_entries(norm, prefix=""):
    """The same for one `ChannelNormalization`."""
    entries = {f"{prefix}body.weight": (norm.gamma, np.asarray)}
    if norm.center:
        entries[f"{prefix}body.bias"] = (norm.beta, np.asarray)
    return entries


def attention_entries(attention, prefix=""):
    """The same for one `TransposedAttention`."""
    pointwise, depthwise = (
        attention.projection.pointwise,
        attention.projection.depthwise,
    )
    return {
        f"{prefix}temperature": (attention.temperature, np.asarray),
        **conv_entries(f"{prefix}qkv", pointwise),
        **conv_entries(f"{prefix}qkv_dwconv", depthwise, depthwise_conv),
        **conv_entries(f"{prefix}project_out", attention.out),
    }


def feed_forward_entries(feed_forward, prefix=""):
    """The same for one `GatedFeedForward`."""
    projection = feed_forward.projection
    return {
        **conv_entries(f"{prefix}project_in", projection.pointwise),
        **conv_entries(f"{prefix}dwconv", projection.depthwise, depthwise_conv),
        **conv_entries(f"{prefix}project_out", feed_forward.out),
    }
