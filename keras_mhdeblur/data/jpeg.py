"""JPEG compression of image batches, without files."""

import math

import numpy as np
from keras import ops

# ITU-T T.81, tables K.1 and K.2.
_LUMA_TABLE = """
16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56
14 17 22 29 51 87 80 62 18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92
49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99
"""
_CHROMA_TABLE = """
17 18 24 47 99 99 99 99 18 21 26 66 99 99 99 99 24 26 56 99 99 99 99 99
47 66 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99
99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99
"""
# JFIF: RGB in [0, 255] to Y - 128, Cb - 128, Cr - 128.
_TO_YCC = np.array(
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]],
    "float32",
)
_OFFSET = np.array([128, 0, 0], "float32")


def _dct_matrix():
    k, n = np.arange(8)[:, None], np.arange(8)[None, :]
    matrix = np.cos((2 * n + 1) * k * math.pi / 16) / 2
    matrix[0] /= math.sqrt(2)
    return matrix.astype("float32")


def jpeg_compress(images, quality):
    """Images as they come back from a JPEG file without chroma subsampling.

    Args:
        images: (B, H, W, 3) in [0, 1], H and W known.
        quality: (B,) or number, 1 to 100 on the scale of libjpeg.

    Returns:
        (B, H, W, 3) in [0, 1].
    """
    images = ops.convert_to_tensor(images)
    _, height, width, channels = images.shape
    if channels != 3:
        raise ValueError(
            f"`images` must be RGB. Received: images.shape={tuple(images.shape)}"
        )
    # As libjpeg does, repeated edges fill up the last blocks.
    for axis, side in ((1, height), (2, width)):
        if side % 8:
            index = np.minimum(np.arange(side + -side % 8), side - 1)
            images = ops.take(images, index, axis=axis)
    tables = [np.array(t.split(), "float32") for t in (_LUMA_TABLE, _CHROMA_TABLE)]
    table = np.stack([tables[0], tables[1], tables[1]]).reshape(3, 8, 8)
    table = ops.convert_to_tensor(table.transpose(1, 2, 0))
    quality = ops.reshape(ops.cast(quality, "float32"), (-1, 1, 1, 1))
    percent = ops.floor(ops.where(quality < 50, 5000 / quality, 200 - 2 * quality))
    steps = ops.clip(ops.floor((table * percent + 50) / 100), 1, 255)
    steps = steps[:, None, :, None, :, :]

    dct = ops.convert_to_tensor(_dct_matrix())
    offset = ops.convert_to_tensor(_OFFSET)
    # Whole numbers at each stage, as in a file: less would choose other coefficients.
    ycc = ops.round(ops.matmul(255 * images, _TO_YCC.T) - offset)
    padded = ycc.shape
    blocks = ops.reshape(ycc, (-1, padded[1] // 8, 8, padded[2] // 8, 8, 3))
    coefficients = ops.einsum("bhpwqc,up,vq->bhuwvc", blocks, dct, dct)
    coefficients = ops.round(coefficients / steps) * steps
    blocks = ops.einsum("bhuwvc,up,vq->bhpwqc", coefficients, dct, dct)
    ycc = ops.reshape(blocks, (-1, *padded[1:]))[:, :height, :width]
    ycc = ops.clip(ops.round(ycc), -128, 127) + offset
    rgb = ops.round(ops.matmul(ycc, np.linalg.inv(_TO_YCC).T.astype("float32")))
    return ops.clip(rgb, 0, 255) / 255
