"""Official parameter names of MAXIM, as the published Flax checkpoints have them.

Every function gives the entries of one block: official name, which begins with the
prefix, to (Keras variable, function from Flax' array to Keras').
"""

import numpy as np

from keras_mhdeblur.networks.maxim.maxim import LEVELS


def maxim_entries(network):
    """The entries of a whole network."""
    layer = network.get_layer
    entries = {}
    for stage in range(network.stages):
        prefix = f"stage_{stage}_"
        for level in range(LEVELS):
            for official, ours in (
                (f"{prefix}input_conv_{level}/", f"{prefix}input_{level}"),
                (f"{prefix}encoder_block_{level}/Conv_1/", f"{prefix}down_{level}"),
            ):
                entries.update(weight_entries(layer(ours), official))
            entries.update(
                unet_block_entries(
                    layer(f"{prefix}encoder_{level}"), f"{prefix}encoder_block_{level}/"
                )
            )
            if stage:
                entries.update(
                    cross_gating_entries(
                        layer(f"{prefix}input_fusion_{level}"),
                        f"{prefix}input_fuse_sam_{level}/",
                    )
                )
        for index in range(network.num_bottlenecks):
            entries.update(
                bottleneck_entries(
                    layer(f"{prefix}bottleneck_{index}"),
                    f"{prefix}global_block_{index}/",
                )
            )
        # The convolutions before fusions are numbered in the order of their use.
        number = 2 * LEVELS**2 * stage
        for ours, official, entries_of in (
            ("skip", "cross_gating_block", cross_gating_entries),
            ("decoder", "decoder_block", decoder_entries),
        ):
            for level in reversed(range(LEVELS)):
                block = layer(f"{prefix}{ours}_{level}")
                entries.update(entries_of(block, f"{prefix}{official}_{level}/"))
                for conv in block.fusion.convs:
                    name = f"UpSampleRatio_{number}/Conv_0/"
                    entries.update(weight_entries(conv, name))
                    number += 1
        last = stage == network.stages - 1
        for level in range(LEVELS):
            if last and level and not network.scale_outputs:
                break
            heads = layer(f"{prefix}heads_{level}")
            if last:
                name = f"{prefix}output_conv_{level}/"
                entries.update(weight_entries(heads.conv, name))
            else:
                entries.update(
                    supervised_attention_entries(
                        layer(f"{prefix}attention_{level}"),
                        heads,
                        f"{prefix}supervised_attention_module_{level}/",
                    )
                )
    return entries


def weight_entries(layer, prefix):
    """Entries of a dense layer, a convolution or a token mixing."""
    return {
        f"{prefix}kernel": (layer.kernel, np.asarray),
        f"{prefix}bias": (layer.bias, np.asarray),
    }


def transposed_conv_entries(conv, prefix):
    """Entries of a transposed convolution, whose kernel Flax mirrors."""
    entries = weight_entries(conv, prefix)
    entries[f"{prefix}kernel"] = (conv.kernel, _mirrored)
    return entries


def _mirrored(kernel):
    return kernel[::-1, ::-1].transpose(0, 1, 3, 2)


def norm_entries(norm, prefix):
    """Entries of a layer normalization."""
    return {
        f"{prefix}scale": (norm.gamma, np.asarray),
        f"{prefix}bias": (norm.beta, np.asarray),
    }


def gated_mlp_entries(block, prefix):
    """Entries of a `GatedMLP`."""
    unit = f"{prefix}{block.axis.title()}GatingUnit/"
    return {
        **norm_entries(block.norm_in, f"{prefix}LayerNorm/"),
        **weight_entries(block.project_in, f"{prefix}in_project/"),
        **norm_entries(block.norm_gate, f"{unit}intermediate_layernorm/"),
        **weight_entries(block.mixing, f"{unit}Dense_0/"),
        **weight_entries(block.project_out, f"{prefix}out_project/"),
    }


def multi_axis_entries(block, prefix):
    """Entries of a `MultiAxisBlock`."""
    return {
        **norm_entries(block.norm_in, f"{prefix}LayerNorm_in/"),
        **weight_entries(block.project_in, f"{prefix}in_project/"),
        **gated_mlp_entries(block.grid, f"{prefix}GridGmlpLayer/"),
        **gated_mlp_entries(block.block, f"{prefix}BlockGmlpLayer/"),
        **weight_entries(block.project_out, f"{prefix}out_project/"),
    }


def gating_weights_entries(block, prefix):
    """Entries of a `SpatialGatingWeights`."""
    return {
        **norm_entries(block.norm_in, f"{prefix}LayerNorm_in/"),
        **weight_entries(block.project_in, f"{prefix}in_project/"),
        **weight_entries(block.grid, f"{prefix}Dense_0/"),
        **weight_entries(block.block, f"{prefix}Dense_1/"),
        **weight_entries(block.project_out, f"{prefix}out_project/"),
    }


def channel_attention_entries(attention, prefix):
    """Entries of a `ChannelAttention`."""
    return {
        **weight_entries(attention.squeeze, f"{prefix}Conv_0/"),
        **weight_entries(attention.excite, f"{prefix}Conv_1/"),
    }


def residual_attention_entries(block, prefix):
    """Entries of a `ResidualChannelAttention`."""
    return {
        **norm_entries(block.norm_in, f"{prefix}LayerNorm/"),
        **weight_entries(block.conv1, f"{prefix}conv1/"),
        **weight_entries(block.conv2, f"{prefix}conv2/"),
        **channel_attention_entries(block.attention, f"{prefix}channel_attention/"),
    }


def residual_dense_attention_entries(block, prefix):
    """Entries of a `ResidualDenseChannelAttention`."""
    return {
        **norm_entries(block.norm_in, f"{prefix}LayerNorm/"),
        **weight_entries(block.dense1, f"{prefix}channel_mixing/Dense_0/"),
        **weight_entries(block.dense2, f"{prefix}channel_mixing/Dense_1/"),
        **channel_attention_entries(block.attention, f"{prefix}channel_attention/"),
    }


def cross_gating_entries(block, prefix):
    """Entries of a `CrossGating`, without the convolutions of its fusion."""
    entries = {
        **weight_entries(block.conv_x, f"{prefix}Conv_0/"),
        **weight_entries(block.conv_y, f"{prefix}Conv_1/"),
    }
    if block.up_y:
        entries.update(transposed_conv_entries(block.up, f"{prefix}ConvTranspose_0/"))
    for side in "xy":
        part = {
            f"LayerNorm_{side}/": (norm_entries, f"norm_{side}"),
            f"in_project_{side}/": (weight_entries, f"project_in_{side}"),
            f"SplitHeadMultiAxisGating_{side}/": (
                gating_weights_entries,
                f"gate_{side}",
            ),
            f"out_project_{side}/": (weight_entries, f"project_out_{side}"),
        }
        for name, (entries_of, attribute) in part.items():
            entries.update(entries_of(getattr(block, attribute), prefix + name))
    return entries


def unet_block_entries(block, prefix):
    """Entries of a `UNetBlock` of an encoder."""
    entries = weight_entries(block.merge, f"{prefix}Conv_0/")
    for index, (mixer, attention) in enumerate(zip(block.mixers, block.attentions)):
        name = f"{prefix}SplitHeadMultiAxisGmlpLayer_{index}/"
        entries.update(multi_axis_entries(mixer, name))
        name = f"{prefix}channel_attention_block_1{index}/"
        entries.update(residual_attention_entries(attention, name))
    if block.gated:
        entries.update(
            cross_gating_entries(block.gating, f"{prefix}cross_gating_block/")
        )
    return entries


def decoder_entries(block, prefix):
    """Entries of a decoder's `UNetBlock`, without the convolutions of its fusion."""
    return {
        **transposed_conv_entries(block.up, f"{prefix}ConvTranspose_0/"),
        **unet_block_entries(block, f"{prefix}UNetEncoderBlock_0/"),
    }


def bottleneck_entries(block, prefix):
    """Entries of a `Bottleneck`."""
    entries = weight_entries(block.conv, f"{prefix}input_proj/")
    for index, (mixer, attention) in enumerate(zip(block.mixers, block.attentions)):
        name = f"{prefix}SplitHeadMultiAxisGmlpLayer_{index}/"
        entries.update(multi_axis_entries(mixer, name))
        name = f"{prefix}channel_attention_block_1_{index}/"
        entries.update(residual_dense_attention_entries(attention, name))
    return entries


def supervised_attention_entries(attention, heads, prefix):
    """Entries of a `SupervisedAttention` and of the heads that make its images."""
    return {
        **weight_entries(attention.conv, f"{prefix}Conv_0/"),
        **weight_entries(heads.conv, f"{prefix}Conv_1/"),
        **weight_entries(attention.mask, f"{prefix}Conv_2/"),
    }
