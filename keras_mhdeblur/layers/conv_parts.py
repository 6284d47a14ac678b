"""Some of the output channels of a convolution.

A feature map whose channels are used in parts is computed in parts: splitting it
afterwards would copy it.
"""

from keras import ops


def conv_part(conv, x, part):
    """The output channels `part`, a slice, of a `keras.layers.Conv2D` of stride 1."""
    y = ops.conv(x, conv.kernel[..., part], padding="same")
    return y + conv.bias[part] if conv.use_bias else y


def conv_part_of_norm(norm, conv, x, part):
    """Those of a 1x1 `Conv2D` with bias behind a `ChannelNormalization`.

    The norm's scale and shift of channels go into kernel and bias, which takes less
    time than applying them to a feature map.

    Args:
        norm: the norm.
        conv: the convolution.
        x: `norm.standardize` of its input.
        part: as above.
    """
    kernel = ops.cast(conv.kernel[0, 0, :, part], "float32")
    bias = ops.matmul(norm.beta, kernel) + ops.cast(conv.bias[part], "float32")
    kernel = (kernel * norm.gamma[:, None])[None, None]
    dtype = conv.compute_dtype
    y = ops.conv(ops.cast(x, dtype), ops.cast(kernel, dtype), padding="same")
    return y + ops.cast(bias, dtype)


def depthwise_conv_part(conv, x, part):
    """Those of a `keras.layers.DepthwiseConv2D`; x are its input channels `part`."""
    y = ops.depthwise_conv(x, conv.kernel[:, :, part], padding="same")
    return y + conv.bias[part] if conv.use_bias else y
