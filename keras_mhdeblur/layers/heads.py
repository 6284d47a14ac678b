"""The multi-head output layer and the combination of its heads into hypotheses."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mhdeblur.hypotheses.pairs import pair_indices
from keras_mhdeblur.layers.static_shapes import crop, reshape
from keras_mhdeblur.utils.types import Tensor


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class HeadCombination(keras.layers.Layer):
    """Averages pairs of head images: the K' hypotheses of K heads.

    Input: (B, K, H, W, C). Output: (B, K', H, W, C) in the order of `pair_indices`;
    the pair (i, i) is head i itself. Source: arXiv 2208.13029, section 3.3. There are
    no weights, and images keep their precision under every dtype policy.

    Args:
        combine: which pairs, see `pair_indices`.
    """

    def __init__(self, combine: bool | str = True, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        self.combine = combine

    def call(self, stack):
        num_heads = stack.shape[1]
        pairs = pair_indices(num_heads, self.combine)
        if pairs == pair_indices(num_heads, False):
            return stack
        first, second = zip(*pairs)
        first = ops.take(stack, ops.convert_to_tensor(first, "int32"), axis=1)
        second = ops.take(stack, ops.convert_to_tensor(second, "int32"), axis=1)
        return 0.5 * (first + second)

    def compute_output_shape(self, stack_shape):
        batch, num_heads, *image = stack_shape
        return (batch, len(pair_indices(num_heads, self.combine)), *image)

    def get_config(self):
        return {**super().get_config(), "combine": self.combine}


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class MultiHeadOutput(keras.layers.Layer):
    """K head images: a convolution predicts K residuals, each is added to the input.

    The convolution has K * C output channels, head-major (channels k * C to
    k * C + C - 1 belong to head k). It computes in float32 under every dtype
    policy, so that the image that passes through is not rounded.

    Call arguments:
        features: (B, H', W', F) with H' >= H and W' >= W: padding is cropped away
            after the convolution.
        image: (B, H, W, C), the blurry input.

    Output: (B, K, H, W, C), head images `image + residual_k`.

    Args:
        num_heads: number of heads K.
        channels: image channels C.
        kernel_size: size of the convolution kernel.
        use_bias: whether the convolution has a bias.
        centered: whether the padding is at all sides, see `static_shapes.crop`.
    """

    def __init__(
        self,
        num_heads: int,
        channels: int = 3,
        kernel_size: int = 3,
        use_bias: bool = True,
        centered: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        if num_heads < 1:
            raise ValueError(
                f"`num_heads` must be at least 1. Received: num_heads={num_heads}"
            )
        self.num_heads = num_heads
        self.channels = channels
        self.kernel_size = kernel_size
        self.use_bias = use_bias
        self.centered = centered
        self.conv = head_conv(
            num_heads * channels, kernel_size, use_bias=use_bias, name="conv"
        )

    def build(self, features_shape, image_shape):
        self.conv.build(features_shape)

    def call(self, features, image):
        residuals = as_stack(self.conv(features), image, self.centered)
        return ops.expand_dims(image, 1) + residuals

    def single_head(self) -> "MultiHeadOutput":
        """A layer like this one with one head, for `fold_into`."""
        return MultiHeadOutput.from_config({**self.get_config(), "num_heads": 1})

    def fold_into(self, single: "MultiHeadOutput", head_weights: np.ndarray) -> None:
        """Sets a built `single_head` layer to the weighted mean of these heads.

        Args:
            single: the layer of one head.
            head_weights: array (K,).
        """
        fold_conv(self.conv, single.conv, head_weights)

    @property
    def image_weights(self) -> np.ndarray:
        """Weights of kernels in head images, (K, V, K), of one view V."""
        return np.eye(self.num_heads)[:, None]

    def regressors(self, features: Tensor, image: Tensor) -> list[Tensor]:
        """Regressors of the residuals, which are linear in them, at every pixel.

        The residual of head image i is the sum over views v and heads k of
        `image_weights[i, v, k] * views[v] @ parameters[k]`, with the parameters of
        `head_parameters`.

        Args:
            features, image: call arguments, not symbolic.

        Returns:
            List of views, here one: float32 (B, H, W, P), the convolution's input
            windows and, with a bias, a 1.
        """
        windows = conv_regressors(self.conv, features)
        return [crop(windows, image, axis=1, centered=self.centered)]

    def copy_single_head(self, single: "MultiHeadOutput") -> None:
        """Makes all heads copies of the only one of a layer."""
        copy_head_conv(single.conv, self.conv, self.num_heads)

    def compute_output_shape(self, features_shape, image_shape):
        return (image_shape[0], self.num_heads, *image_shape[1:])

    def get_config(self):
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "channels": self.channels,
            "kernel_size": self.kernel_size,
            "use_bias": self.use_bias,
            "centered": self.centered,
        }


def head_conv(filters, kernel_size, name, use_bias=True):
    """The convolution, in float32, that emits the residuals of heads."""
    return keras.layers.Conv2D(
        filters,
        kernel_size,
        padding="same",
        use_bias=use_bias,
        # Heads start near the input and near each other: one that starts far behind
        # never wins and is never trained.
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
        dtype="float32",
        name=name,
    )


def as_stack(residuals, image, centered=False):
    """Residuals side by side, (B, H', W', K * C), as a stack the size of the image."""
    height, width = ops.shape(image)[1:3]
    channels = image.shape[-1]
    num_heads = residuals.shape[-1] // channels
    stack = crop(residuals, image, axis=1, centered=centered)
    stack = reshape(stack, (-1, height, width, num_heads, channels))
    return ops.transpose(stack, (0, 3, 1, 2, 4))


def conv_regressors(conv, features):
    """Windows that `head_conv` sees of (B, H, W, F): float32 (B, H, W, P).

    P is kernel height * kernel width * F, in the kernel's order, and 1 for a bias.
    """
    features = ops.cast(features, "float32")
    height, width = ops.shape(features)[1:3]
    rows, columns = conv.kernel_size
    padding = [((size - 1) // 2, size // 2) for size in (rows, columns)]
    padded = ops.pad(features, [(0, 0), *padding, (0, 0)])
    windows = [
        padded[:, row : row + height, column : column + width]
        for row in range(rows)
        for column in range(columns)
    ]
    if conv.use_bias:
        windows.append(ops.ones_like(features[..., :1]))
    return ops.concatenate(windows, axis=-1)


def head_parameters(layer):
    """Kernels and biases of an output layer's heads.

    Args:
        layer: a built `MultiHeadOutput` or `AxisHeadOutput`.

    Returns:
        float64 (K, P, C); P is ordered as in `conv_regressors`.
    """
    rows = [
        ops.convert_to_numpy(weight).astype("float64").reshape(-1, weight.shape[-1])
        for weight in layer.conv.weights  # the kernel, then the bias if there is one
    ]
    rows = np.concatenate(rows).reshape(-1, layer.num_heads, layer.channels)
    return rows.transpose(1, 0, 2)


def set_head_parameters(layer, parameters):
    """Sets an output layer to `parameters` (K, P, C), as of `head_parameters`."""
    rows = np.asarray(parameters).transpose(1, 0, 2)
    rows = rows.reshape(len(rows), -1)
    for weight in layer.conv.weights:
        count = int(np.prod(weight.shape[:-1]))
        weight.assign(rows[:count].reshape(weight.shape).astype("float32"))
        rows = rows[count:]


def copy_head_conv(single, conv, num_heads):
    """Sets the convolution of K heads to copies of that of one head."""
    for source, target in zip(single.weights, conv.weights):
        target.assign(np.concatenate([ops.convert_to_numpy(source)] * num_heads, -1))


def fold_conv(conv, single, head_weights):
    """Sets a one-head convolution to the weighted mean of the heads of another."""
    for source, target in zip(conv.weights, single.weights):
        values = ops.convert_to_numpy(source).astype("float64")
        values = values.reshape(values.shape[:-1] + (len(head_weights), -1))
        target.assign(np.tensordot(values, head_weights, axes=(-2, 0)))
