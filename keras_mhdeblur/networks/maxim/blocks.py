"""MAXIM's encoder, decoder, bottleneck and cross-gating blocks."""

import keras
from keras import ops

from keras_mhdeblur.layers.conv_transpose import Conv2DTranspose
from keras_mhdeblur.networks.maxim.attention import (
    ResidualChannelAttention,
    ResidualDenseChannelAttention,
)
from keras_mhdeblur.networks.maxim.fusion import ScaleFusion, conv1x1
from keras_mhdeblur.networks.maxim.mixing import (
    Branch,
    MultiAxisBlock,
    SpatialGatingWeights,
    gelu,
    product,
    project,
)


def _up(channels, dtype):
    return Conv2DTranspose(
        channels,
        2,
        kernel_initializer=keras.initializers.LecunNormal(),
        dtype=dtype,
        name="up",
    )


def _up_shape(shape, channels):
    """Shape of what `_up` makes of features."""
    batch, height, width, _ = shape
    return (
        batch,
        height and 2 * height,
        width and 2 * width,
        channels,
    )


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class CrossGating(Branch):
    """Two feature maps that gate each other.

    With x and y after 1x1 convolutions and gates made of their GELU by
    `SpatialGatingWeights`: y + dense(gelu(y) * gate of x), then x + that +
    dense(gelu(x) * gate of y). Source: MAXIM, arXiv 2201.02973, figure 3.

    Call arguments:
        x: (B, H, W, C'), or with `ratios` a list of features of several levels, see
            `ScaleFusion`.
        y: (B, H, W, C''), or with `up` (B, H / 2, W / 2, C'').

    Output: x and y, (B, H, W, channels) each.

    Args:
        channels: channels of both outputs.
        side: see `TokenMixing`.
        up: whether y has half the resolution.
        ratios: see `ScaleFusion`; None where x is one feature map.
    """

    def __init__(self, channels, side, up=False, ratios=None, **kwargs):
        super().__init__(**kwargs)
        self.channels = channels
        self.side = side
        self.up_y = up
        self.ratios = None if ratios is None else tuple(ratios)

    def build(self, x_shape, y_shape):
        channels, dtype = self.channels, self.dtype_policy
        x_channels = x_shape[-1]
        if self.ratios is not None:
            self.fusion = ScaleFusion(channels, self.ratios, dtype=dtype, name="fusion")
            self.fusion.build(x_shape)
            x_channels = channels * len(self.ratios)
        if self.up_y:
            self.up = _up(channels, dtype)
            self.up.build(y_shape)
            y_shape = _up_shape(y_shape, channels)
        shape = (*y_shape[:-1], channels)
        self.conv_x = conv1x1(channels, "conv_x", dtype)
        self.conv_x.build((*y_shape[:-1], x_channels))
        self.conv_y = conv1x1(channels, "conv_y", dtype)
        self.conv_y.build(y_shape)
        lecun = keras.initializers.LecunNormal()
        self.norm_x, self.norm_y = self.norm("norm_x"), self.norm("norm_y")
        self.project_in_x = self.dense(channels, "project_in_x", lecun)
        self.project_in_y = self.dense(channels, "project_in_y", lecun)
        self.gate_x, self.gate_y = (
            SpatialGatingWeights(self.side, dtype=dtype, name=name)
            for name in ("gate_x", "gate_y")
        )
        self.project_out_y = self.dense(channels, "project_out_y", lecun)
        self.project_out_x = self.dense(channels, "project_out_x", lecun)
        for layer in (
            self.norm_x,
            self.norm_y,
            self.project_in_x,
            self.project_in_y,
            self.gate_x,
            self.gate_y,
            self.project_out_y,
            self.project_out_x,
        ):
            layer.build(shape)

    def call(self, x, y):
        if self.ratios is None:
            x = project(self.conv_x, x)
        else:
            x = self.fusion(x, self.conv_x.kernel[0, 0], self.conv_x.bias)
        y = project(self.conv_y, self.up(y) if self.up_y else y)
        inner_x = gelu(
            project(self.project_in_x, self.norm_x.standardize(x), self.norm_x)
        )
        inner_y = gelu(
            project(self.project_in_y, self.norm_y.standardize(y), self.norm_y)
        )
        y = y + project(self.project_out_y, inner_y * self.gate_x(inner_x))
        x = x + y + project(self.project_out_x, inner_x * self.gate_y(inner_y))
        return x, y

    def compute_output_shape(self, x_shape, y_shape):
        shape = _up_shape(y_shape, self.channels) if self.up_y else y_shape
        shape = (*shape[:-1], self.channels)
        return shape, shape

    def get_config(self):
        return {
            **super().get_config(),
            "channels": self.channels,
            "side": self.side,
            "up": self.up_y,
            "ratios": self.ratios,
        }


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class UNetBlock(Branch):
    """Encoder or decoder block: multi-axis blocks and channel attention, residual.

    A 1x1 convolution merges the input with the skip; `num_groups` times a
    `MultiAxisBlock` and a `ResidualChannelAttention` follow, and the sum with what
    they began with. Source: MAXIM, arXiv 2201.02973, figure 2b.

    Call arguments:
        x: (B, H, W, C'), or with `up` (B, H / 2, W / 2, C').
        skip: (B, H, W, C''), or with `ratios` a list of features of several levels,
            see `ScaleFusion`; None to merge x with itself.
        gate: (B, H, W, channels) that gates the output, with `gated`.

    Output: (B, H, W, channels).

    Args:
        channels: channels of the output.
        side: see `TokenMixing`.
        num_groups: how often both blocks follow each other.
        reduction: see `ChannelAttention`.
        up: whether x has half the resolution.
        ratios: see `ScaleFusion`; None where the skip is one feature map.
        gated: whether a `CrossGating` with the gate comes last.
    """

    def __init__(
        self,
        channels,
        side,
        num_groups=2,
        reduction=4,
        up=False,
        ratios=None,
        gated=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.channels = channels
        self.side = side
        self.num_groups = num_groups
        self.reduction = reduction
        self.up_x = up
        self.ratios = None if ratios is None else tuple(ratios)
        self.gated = gated

    def build(self, x_shape, skip_shape=None, gate_shape=None):
        channels, dtype = self.channels, self.dtype_policy
        if self.up_x:
            self.up = _up(channels, dtype)
            self.up.build(x_shape)
            x_shape = _up_shape(x_shape, channels)
        self.x_channels = x_shape[-1]
        if self.ratios is not None:
            self.fusion = ScaleFusion(channels, self.ratios, dtype=dtype, name="fusion")
            self.fusion.build(skip_shape)
            skip_channels = channels * len(self.ratios)
        else:
            skip_channels = (skip_shape or x_shape)[-1]
        shape = (*x_shape[:-1], channels)
        self.merge = conv1x1(channels, "merge", dtype)
        self.merge.build((*x_shape[:-1], self.x_channels + skip_channels))
        self.mixers = [
            MultiAxisBlock(self.side, dtype=dtype, name=f"mixer_{index}")
            for index in range(self.num_groups)
        ]
        self.attentions = [
            ResidualChannelAttention(
                self.reduction, dtype=dtype, name=f"attention_{index}"
            )
            for index in range(self.num_groups)
        ]
        for layer in (*self.mixers, *self.attentions):
            layer.build(shape)
        if self.gated:
            self.gating = CrossGating(channels, self.side, dtype=dtype, name="gating")
            self.gating.build(shape, gate_shape)

    def call(self, x, skip=None, gate=None):
        if self.up_x:
            x = self.up(x)
        x = long = self._merged(x, skip)
        for mixer, attention in zip(self.mixers, self.attentions):
            x = attention(mixer(x))
        x = x + long
        return self.gating(x, gate)[0] if self.gated else x

    def _merged(self, x, skip):
        """The 1x1 convolution of x and skip, side by side."""
        kernel, bias = self.merge.kernel[0, 0], self.merge.bias
        of_x, of_skip = kernel[: self.x_channels], kernel[self.x_channels :]
        if skip is None:
            return product(x, of_x + of_skip) + bias
        if self.ratios is None:
            return project(self.merge, ops.concatenate([x, skip], axis=-1))
        return product(x, of_x) + self.fusion(skip, of_skip, bias)

    def compute_output_shape(self, x_shape, skip_shape=None, gate_shape=None):
        shape = _up_shape(x_shape, self.channels) if self.up_x else x_shape
        return (*shape[:-1], self.channels)

    def get_config(self):
        return {
            **super().get_config(),
            "channels": self.channels,
            "side": self.side,
            "num_groups": self.num_groups,
            "reduction": self.reduction,
            "up": self.up_x,
            "ratios": self.ratios,
            "gated": self.gated,
        }


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class Bottleneck(Branch):
    """Multi-axis blocks and dense channel attention at the lowest resolution, residual.

    Source: MAXIM, arXiv 2201.02973, figure 2a.

    Input: (B, H, W, C'). Output: (B, H, W, channels).

    Args:
        channels: channels of the output.
        side: see `TokenMixing`.
        num_groups: how often both blocks follow each other.
        reduction: see `ChannelAttention`.
    """

    def __init__(self, channels, side, num_groups=2, reduction=4, **kwargs):
        super().__init__(**kwargs)
        self.channels = channels
        self.side = side
        self.num_groups = num_groups
        self.reduction = reduction

    def build(self, input_shape):
        dtype = self.dtype_policy
        self.conv = conv1x1(self.channels, "conv", dtype)
        self.conv.build(input_shape)
        shape = (*input_shape[:-1], self.channels)
        self.mixers = [
            MultiAxisBlock(self.side, dtype=dtype, name=f"mixer_{index}")
            for index in range(self.num_groups)
        ]
        self.attentions = [
            ResidualDenseChannelAttention(
                self.reduction, dtype=dtype, name=f"attention_{index}"
            )
            for index in range(self.num_groups)
        ]
        for layer in (*self.mixers, *self.attentions):
            layer.build(shape)

    def call(self, x):
        x = long = project(self.conv, x)
        for mixer, attention in zip(self.mixers, self.attentions):
            x = attention(mixer(x))
        return x + long

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.channels)

    def get_config(self):
        return {
            **super().get_config(),
            "channels": self.channels,
            "side": self.side,
            "num_groups": self.num_groups,
            "reduction": self.reduction,
        }
