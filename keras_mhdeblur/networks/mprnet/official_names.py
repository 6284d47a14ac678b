"""Official parameter names of MPRNet and its multi-head variant."""

import numpy as np

from keras_mhdeblur.networks.mprnet.mprnet import LEVELS
from keras_mhdeblur.networks.torch_layouts import conv_entries


def mprnet_entries(network):
    """Official parameter name to (Keras variable, function from PyTorch's array).

    The slope that all PReLUs share has a name for each of them.
    """
    layer = network.get_layer
    slope = layer("slope").slope
    entries = {}

    def add_conv(name, ours):
        entries.update(conv_entries(name, layer(ours)))

    def add_block(name, ours):
        entries.update(channel_attention_block_entries(layer(ours), slope, f"{name}."))

    for stage in (1, 2):
        for level in range(LEVELS):
            for part in ("encoder", "decoder"):
                for index in range(2):
                    add_block(
                        f"stage{stage}_{part}.{part}_level{level + 1}.{index}",
                        f"stage_{stage}_{part}_{level}_block_{index}",
                    )
                if stage == 2:
                    add_conv(
                        f"stage2_encoder.csff_{part[:3]}{level + 1}",
                        f"stage_2_encoder_{level}_from_{part}",
                    )
        for level in range(LEVELS - 1):
            high, low = level + 1, level + 2
            encoder, decoder = f"stage{stage}_encoder", f"stage{stage}_decoder"
            add_conv(f"{encoder}.down{high}{low}.down.1", f"stage_{stage}_down_{high}")
            add_conv(f"{decoder}.up{low}{high}.up.1", f"stage_{stage}_up_{level}")
            add_block(f"{decoder}.skip_attn{high}", f"stage_{stage}_skip_{level}_block")
        sam, attention = f"sam{stage}{stage + 1}", layer(f"stage_{stage}_attention")
        heads = layer(f"stage_{stage}_heads")
        entries.update(conv_entries(f"{sam}.conv1", attention.conv))
        entries.update(conv_entries(f"{sam}.conv2", heads.conv))
        entries.update(conv_entries(f"{sam}.conv3", attention.mask))
        add_conv(f"concat{stage}{stage + 1}", f"stage_{stage + 1}_merge")
    for stage in (1, 2, 3):
        add_conv(f"shallow_feat{stage}.0", f"stage_{stage}_intro")
        add_block(f"shallow_feat{stage}.1", f"stage_{stage}_intro_block")
    for level in range(LEVELS):
        name = f"stage3_orsnet.orb{level + 1}."
        block = layer(f"stage_3_block_{level}")
        entries.update(original_resolution_block_entries(block, slope, name))
        for part in ("encoder", "decoder"):
            name = f"stage3_orsnet.conv_{part[:3]}{level + 1}"
            add_conv(name, f"stage_3_from_{part}_{level}")
            name = f"stage3_orsnet.up_{part[:3]}{level}"
            for index in range(level):
                position = f".{index}" if level > 1 else ""
                ours = f"stage_3_{part}_{level}_up_{index}"
                add_conv(f"{name}{position}.up.1", ours)
    entries.update(conv_entries("tail", layer("heads").conv))
    return entries


def channel_attention_block_entries(block, slope, prefix=""):
    """The same for one `ChannelAttentionBlock`; names start with the prefix."""
    return {
        **conv_entries(f"{prefix}body.0", block.conv1),
        f"{prefix}body.1.weight": (slope, np.asarray),
        **conv_entries(f"{prefix}body.2", block.conv2),
        **channel_attention_entries(block.attention, f"{prefix}CA."),
    }


def channel_attention_entries(attention, prefix=""):
    """The same for one `ChannelAttention`."""
    return {
        **conv_entries(f"{prefix}conv_du.0", attention.squeeze),
        **conv_entries(f"{prefix}conv_du.2", attention.excite),
    }


def original_resolution_block_entries(block, slope, prefix=""):
    """The same for one `OriginalResolutionBlock`."""
    entries = conv_entries(f"{prefix}body.{block.num_blocks}", block.conv)
    for index, inner in enumerate(block.blocks):
        name = f"{prefix}body.{index}."
        entries.update(channel_attention_block_entries(inner, slope, name))
    return entries
