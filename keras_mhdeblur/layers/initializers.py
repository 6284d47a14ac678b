"""Initial values of layers."""

import keras


def torch_uniform(fan_in):
    """PyTorch's initial values of convolutions and their biases.

    Keras' own count all channels as inputs of each output of a depthwise convolution,
    and biases start at zero: a branch with such a convolution is all but switched off,
    and NAFBlock's, a product of four factors, gets no gradient and stays so.
    """
    limit = fan_in**-0.5
    return keras.initializers.RandomUniform(-limit, limit)
