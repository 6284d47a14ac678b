"""Separable filters of image batches."""

from keras import ops


def filter_axis(images, taps, axis, inside=False):
    """Correlates (N, H, W, C) images with an odd number of taps along one axis.

    Args:
        images: (N, H, W, C).
        taps: sequence of numbers, the middle one at the pixel itself.
        axis: 1, 2 or 3.
        inside: only where all taps lie in the image; otherwise borders are replicated
            and the size is kept.

    Returns:
        Filtered images.
    """
    reach = len(taps) // 2
    size = ops.shape(images)[axis]
    positions = ops.arange(reach, size - reach) if inside else ops.arange(size)
    return sum(
        float(tap)
        * ops.take(images, ops.clip(positions + offset, 0, size - 1), axis=axis)
        for offset, tap in zip(range(-reach, reach + 1), taps)
    )
