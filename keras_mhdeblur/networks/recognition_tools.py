"""Readings of weights' names and shapes that several families share."""

import re


def count_indices(shapes, pattern):
    """Number of indices in names.

    They are counted, so that a large index in a name makes no large network.

    Args:
        shapes: dictionary of names to shapes.
        pattern: regular expression of how names begin; its group is the index.
    """
    return len({match[1] for name in shapes if (match := re.match(pattern, name))})


def count_modules(shapes, prefix):
    """Number of modules of PyTorch with an index after the prefix."""
    return count_indices(shapes, re.escape(prefix) + r"(\d+)\.")


def head_arguments(shapes, name, image_channels, axis=0):
    """Arguments that the convolution tells that makes the head images.

    Args:
        shapes: dictionary of names to shapes.
        name: name of the convolution's weight.
        image_channels: channels of an image.
        axis: axis of the output channels, 0 in PyTorch.

    Returns:
        Dictionary of `num_heads` and `image_channels`.

    Raises:
        ValueError: the weight is missing, or its channels make no whole images.
    """
    shape = shapes.get(name)
    num_heads, surplus = divmod(shape[axis], image_channels) if shape else (0, 0)
    if surplus or not num_heads:
        raise ValueError(
            f"{name} must make images of {image_channels} channels. "
            f"Received: shape={shape}"
        )
    return {"num_heads": num_heads, "image_channels": image_channels}
