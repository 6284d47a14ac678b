"""Official parameter names of HINet and its multi-head variant."""

import numpy as np

from keras_mhdeblur.networks.torch_layouts import conv_entries


def hinet_entries(network):
    """Official parameter name to (Keras variable, function from PyTorch's array)."""
    layer = network.get_layer
    entries = {}
    for stage in (1, 2):
        prefix = f"stage_{stage}"
        entries.update(conv_entries(f"conv_0{stage}", layer(f"{prefix}_intro")))
        for level in range(network.depth):
            name, ours = f"down_path_{stage}.{level}.", f"{prefix}_encoder_{level}"
            entries.update(hinblock_entries(layer(ours), name))
            if level == network.depth - 1:
                break
            down = layer(f"{prefix}_down_{level}")
            entries.update(conv_entries(f"{name}downsample", down))
            if stage == 2:
                encoder, decoder = f"{ours}_from_encoder", f"{ours}_from_decoder"
                entries.update(conv_entries(f"{name}csff_enc", layer(encoder)))
                entries.update(conv_entries(f"{name}csff_dec", layer(decoder)))
        for index, level in enumerate(reversed(range(network.depth - 1))):
            name = f"up_path_{stage}.{index}."
            block = layer(f"{prefix}_decoder_{level}")
            skip = layer(f"{prefix}_skip_{level}")
            entries.update(conv_entries(f"{name}up", layer(f"{prefix}_up_{level}")))
            entries.update(hinblock_entries(block, f"{name}conv_block."))
            entries.update(conv_entries(f"skip_conv_{stage}.{index}", skip))
    attention = layer("stage_1_attention")
    return {
        **entries,
        **conv_entries("sam12.conv1", attention.conv),
        **conv_entries("sam12.conv2", layer("stage_1_heads").conv),
        **conv_entries("sam12.conv3", attention.mask),
        **conv_entries("cat12", layer("stage_2_merge")),
        **conv_entries("last", layer("heads").conv),
    }


def hinblock_entries(block, prefix=""):
    """The same for one `HINBlock`; names start with the prefix."""
    entries = {
        **conv_entries(f"{prefix}conv_1", block.conv1),
        **conv_entries(f"{prefix}conv_2", block.conv2),
        **conv_entries(f"{prefix}identity", block.identity),
    }
    if block.normalize:
        entries[f"{prefix}norm.weight"] = (block.norm.gamma, np.asarray)
        entries[f"{prefix}norm.bias"] = (block.norm.beta, np.asarray)
    return entries
