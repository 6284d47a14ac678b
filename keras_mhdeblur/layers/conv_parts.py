"""Some of the output channels of a convolution.

A feature map whose channels are used in parts is computed in parts: splitting it
afterwards would copy it.
"""

from keras import ops


def conv_part(conv, x, part):
    """The output channels `part`, a slice, of a `keras.layers.Conv2D` of stride 1."""
    y = ops.conv(x, conv.kernel[..., part], padding="same")
    return y + conv.bias[part] if conv.use_bias else y


def depthwise_conv_part(conv, x, part):
    """Those of a `keras.layers.DepthwiseConv2D`; x are its input channels `part`."""
    y = ops.depthwise_conv(x, conv.kernel[:, :, part], padding="same")
    return y + conv.bias[part] if conv.use_bias else y
