"""From the layouts of PyTorch's arrays to those of Keras."""

import numpy as np


def conv_entries(name, layer, to_keras=None):
    """Entries of a convolution: official name to (Keras variable, function).

    Args:
        name: official name of the layer.
        layer: the built Keras layer.
        to_keras: function of the weight; `conv` by default.
    """
    entries = {f"{name}.weight": (layer.weights[0], to_keras or conv)}
    if len(layer.weights) > 1:
        entries[f"{name}.bias"] = (layer.weights[1], np.asarray)
    return entries


def conv(weight):
    """(O, I, h, w) to (h, w, I, O); transposed: (I, O, h, w) to (h, w, O, I)."""
    return weight.transpose(2, 3, 1, 0)


def depthwise_conv(weight):
    """(C, 1, h, w) to (h, w, C, 1)."""
    return weight.transpose(2, 3, 0, 1)


def shuffled_conv(weight):
    """As `conv`, output channels from PixelShuffle's (C, 2, 2) to (2, 2, C)."""
    channels = len(weight) // 4
    order = np.arange(4 * channels).reshape(channels, 4).T.ravel()
    return conv(weight[order])
