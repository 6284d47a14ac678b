"""MAXIM's spatial mixing: gated perceptrons over the pixels of blocks and of grids."""

import keras
from keras import ops

from keras_mhdeblur.layers.channel_normalization import ChannelNormalization
from keras_mhdeblur.layers.static_shapes import reshape

# MAXIM, arXiv 2201.02973. Some of its features have variances below 1e-6.
EPSILON = 1e-6


class Branch(keras.layers.Layer):
    """Base of MAXIM's blocks that keep the shape (B, H, W, C) of their input."""

    def norm(self, name):
        """A `ChannelNormalization` with MAXIM's epsilon."""
        return ChannelNormalization(epsilon=EPSILON, dtype=self.dtype_policy, name=name)

    def dense(self, units, name, initializer="small"):
        """A dense layer over channels, for `project`."""
        if initializer == "small":
            initializer = keras.initializers.RandomNormal(stddev=0.02)
        return keras.layers.Dense(
            units, kernel_initializer=initializer, dtype=self.dtype_policy, name=name
        )

    def compute_output_shape(self, x_shape):
        return x_shape


def project(dense, x, norm=None):
    """A dense layer over channels, (B, H, W, C) to (B, H, W, units).

    Args:
        dense: built `keras.layers.Dense`, or `Conv2D` of kernel size 1.
        x: features, or with `norm` what `norm.standardize` made of them.
        norm: `ChannelNormalization` before the layer, or None.
    """
    kernel, bias = _folded(dense, norm)
    return _affine(x, kernel, bias, dense.compute_dtype)


def _folded(dense, norm):
    """Kernel (C, units) and bias of a dense layer with a norm's scale and shift."""
    kernel, bias = dense.kernel, dense.bias
    if len(kernel.shape) == 4:
        kernel = kernel[0, 0]
    if norm is not None:
        kernel = ops.cast(kernel, "float32")
        # A matrix of one row: of a vector, `ops.matmul` makes ten operators.
        bias = ops.cast(bias, "float32") + ops.matmul(norm.beta[None], kernel)[0]
        kernel = kernel * norm.gamma[:, None]
    return kernel, bias


def _affine(x, kernel, bias, dtype):
    x, kernel, bias = (ops.cast(each, dtype) for each in (x, kernel, bias))
    return product(x, kernel) + bias


def product(x, kernel):
    """(B, H, W, C) times (C, D): a 1x1 convolution, the fastest form on every runtime.

    `ops.matmul` of more than two axes reshapes, which LiteRT copies.
    """
    return ops.conv(x, kernel[None, None])


def gelu(x):
    """GELU in its tanh form, which MAXIM uses."""
    return ops.gelu(x, approximate=True)


def halves(x, dense, norm):
    """Both halves of GELU(dense(norm(x))), computed one by one: none is copied."""
    x = norm.standardize(x)
    kernel, bias = _folded(dense, norm)
    return [
        gelu(_affine(x, *part, dense.compute_dtype))
        for part in zip(ops.split(kernel, 2, axis=1), ops.split(bias, 2))
    ]


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class TokenMixing(keras.layers.Layer):
    """A dense layer over side * side pixels, the same for all channels.

    "block" mixes the pixels of every block of side x side pixels. "grid" divides the
    whole image into side x side cells and mixes the pixels that have the same place
    in their cells: they are H / side rows and W / side columns apart.
    Source: MAXIM, arXiv 2201.02973, section 3.2.

    Input and output: (B, H, W, C); H and W are multiples of `side`.

    Args:
        side: side b of blocks, or number g of cells along a side.
        axis: "block" or "grid".
        bias: initial value of the bias, one number for each pixel of a block or
            each cell.

    Raises:
        ValueError: `side` is less than 2, or `axis` neither.
    """

    def __init__(self, side, axis, bias=0.0, **kwargs):
        super().__init__(**kwargs)
        if side < 2:
            raise ValueError(f"`side` must be at least 2. Received: side={side}")
        if axis not in ("block", "grid"):
            raise ValueError(
                f'`axis` must be "block" or "grid". Received: axis={axis!r}'
            )
        self.side = side
        self.axis = axis
        self.initial_bias = bias

    def build(self, input_shape):
        tokens = self.side**2
        normal = keras.initializers.RandomNormal(stddev=0.02)
        constant = keras.initializers.Constant(self.initial_bias)
        self.kernel = self.add_weight((tokens, tokens), normal, name="kernel")
        self.bias = self.add_weight((tokens,), constant, name="bias")

    def call(self, x, offset=0.0):
        """The mixed features plus a number, which goes into the bias."""
        mix = self._mix_blocks if self.axis == "block" else self._mix_grid
        kernel = ops.cast(ops.transpose(self.kernel), x.dtype)
        bias = ops.cast(self.bias + offset, x.dtype)[:, None]
        return mix(x, lambda tokens: ops.matmul(kernel, tokens) + bias)

    def _mix_blocks(self, x, mix):
        side, channels = self.side, x.shape[-1]
        # The channels of a block are (row, column, channel): tokens in their order.
        x = ops.nn.space_to_depth(x, side)
        rows, columns = ops.shape(x)[1:3]
        x = mix(ops.reshape(x, (-1, side**2, channels)))
        x = reshape(x, (-1, rows, columns, side**2 * channels))
        return ops.nn.depth_to_space(x, side)

    def _mix_grid(self, x, mix):
        side, channels = self.side, x.shape[-1]
        batch, height, width = ops.shape(x)[:3]
        # Sizes of cells are read off a tensor, see `static_shapes`: its slices begin
        # behind 0, as OpenVINO (2026.4) takes those that begin at 0 for whole axes.
        last = side - 1
        rows, columns = ops.shape(x[:, last::side, last::side])[1:3]
        x = reshape(x, (-1, rows, side, columns, channels))
        x = ops.transpose(x, (0, 2, 1, 3, 4))
        # All that is not a cell is one long axis: one product for the whole image.
        x = mix(reshape(x, (batch, side**2, -1)))
        x = reshape(x, (-1, side, rows, columns, channels))
        x = ops.transpose(x, (0, 2, 1, 3, 4))
        return reshape(x, (-1, height, width, channels))

    def compute_output_shape(self, x_shape):
        return x_shape

    def get_config(self):
        return {
            **super().get_config(),
            "side": self.side,
            "axis": self.axis,
            "bias": self.initial_bias,
        }


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class GatedMLP(Branch):
    """A residual gated perceptron whose gate mixes pixels (gMLP, arXiv 2105.08050).

    GELU of a dense layer makes u and v; x + dense(u * (mixing(norm(v)) + 1)).

    Input and output: (B, H, W, C).

    Args:
        side, axis: see `TokenMixing`.
    """

    def __init__(self, side, axis, **kwargs):
        super().__init__(**kwargs)
        self.side = side
        self.axis = axis

    def build(self, input_shape):
        channels = input_shape[-1]
        self.norm_in = self.norm("norm_in")
        self.project_in = self.dense(2 * channels, "project_in")
        self.norm_gate = self.norm("norm_gate")
        self.mixing = TokenMixing(
            self.side, self.axis, dtype=self.dtype_policy, name="mixing"
        )
        self.project_out = self.dense(channels, "project_out")
        for layer in (
            self.norm_in,
            self.project_in,
            self.norm_gate,
            self.mixing,
            self.project_out,
        ):
            layer.build(input_shape)

    def call(self, x):
        u, v = halves(x, self.project_in, self.norm_in)
        gate = self.mixing(self.norm_gate(v), offset=1.0)
        return x + project(self.project_out, u * gate)

    def get_config(self):
        return {**super().get_config(), "side": self.side, "axis": self.axis}


class _TwoAxes(Branch):
    """Mixes half of the channels over the grid and the other half over blocks.

    A subclass makes the layer of each axis in `mixer`.

    Args:
        side: see `TokenMixing`.
    """

    def __init__(self, side, **kwargs):
        super().__init__(**kwargs)
        self.side = side

    def build(self, input_shape):
        channels = input_shape[-1]
        self.norm_in = self.norm("norm_in")
        self.project_in = self.dense(2 * channels, "project_in")
        self.grid, self.block = (self.mixer(axis) for axis in ("grid", "block"))
        self.project_out = self.dense(channels, "project_out")
        for layer in (self.norm_in, self.project_in, self.grid, self.block):
            layer.build(input_shape)
        self.project_out.build((*input_shape[:-1], 2 * channels))

    def call(self, x):
        u, v = halves(x, self.project_in, self.norm_in)
        y = ops.concatenate([self.grid(u), self.block(v)], axis=-1)
        return project(self.project_out, y)

    def get_config(self):
        return {**super().get_config(), "side": self.side}


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class MultiAxisBlock(_TwoAxes):
    """Residual; a grid `GatedMLP` on half of the channels, a block one on the other.

    Source: MAXIM, arXiv 2201.02973, figure 2c.

    Input and output: (B, H, W, C).

    Args:
        side: see `TokenMixing`.
    """

    def mixer(self, axis):
        return GatedMLP(self.side, axis, dtype=self.dtype_policy, name=axis)

    def call(self, x):
        return super().call(x) + x


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class SpatialGatingWeights(_TwoAxes):
    """Gates made of features by mixing pixels of the grid and of blocks.

    Source: MAXIM, arXiv 2201.02973, figure 3 (GetSpatialGatingWeights).

    Input and output: (B, H, W, C).

    Args:
        side: see `TokenMixing`.
    """

    def mixer(self, axis):
        return TokenMixing(self.side, axis, 1.0, dtype=self.dtype_policy, name=axis)
