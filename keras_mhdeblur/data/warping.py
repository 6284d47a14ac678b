"""Images under affine transforms."""

from keras import ops


def warp(images, transforms, margin=0):
    """Images as seen by a camera that has moved: bilinear, the border's pixels repeat.

    What `ops.image.affine_transform` with `fill_mode="nearest"` gives, without the
    pixels near the border that nobody wants, and for all channels of a pixel at once.

    Args:
        images: (B, H, W, C) float32, H and W known.
        transforms: (B, 6), rows of `camera.affine_transforms`.
        margin: pixels cut off at each border of the result, less than half of it.

    Returns:
        (B, H - 2 margin, W - 2 margin, C).
    """
    height, width, channels = images.shape[1:]
    rows = ops.arange(margin, height - margin, dtype="float32")[None, :, None]
    columns = ops.arange(margin, width - margin, dtype="float32")[None, None, :]
    a, b, c, d, e, f = (transforms[:, k, None, None] for k in range(6))
    x = ops.clip(a * columns + b * rows + c, 0, width - 1)
    y = ops.clip(d * columns + e * rows + f, 0, height - 1)
    left, top = ops.floor(x), ops.floor(y)
    # Steps to the right and lower neighbour: none at the last column and row.
    right = ops.cast(left < width - 1, "int32")
    down = width * ops.cast(top < height - 1, "int32")
    first = height * width * ops.arange(ops.shape(images)[0], dtype="int32")
    index = ops.cast(top, "int32") * width + ops.cast(left, "int32")
    index = index + first[:, None, None]
    pixels = ops.reshape(images, (-1, channels))

    def row(index):
        before, after = (ops.take(pixels, i, axis=0) for i in (index, index + right))
        return before + (x - left)[..., None] * (after - before)

    upper, lower = row(index), row(index + down)
    return upper + (y - top)[..., None] * (lower - upper)
