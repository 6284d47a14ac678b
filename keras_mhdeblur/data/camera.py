"""Paths of a shaken camera, and of objects before it, as affine transforms."""

import math

from keras import ops

from keras_mhdeblur.data import seeded


def camera_path(
    seeds, times, max_path, max_rotation, max_zoom=0.0, *, exponent=1.0, still=0.0
):
    """Random smooth camera positions.

    A drift with acceleration and curvature, plus tremor of up to three cycles per
    exposure.

    Args:
        seeds: (B,) integers.
        times: (B or 1, T), from -0.5 to 0.5.
        max_path: longest drift in pixels.
        max_rotation: largest rotation over the exposure in degrees.
        max_zoom: largest relative change of scale over the exposure.
        exponent: the drift is `max_path * u**exponent` with u uniform in [0, 1).
        still: share of the samples whose camera rests.

    Returns:
        (B, T, 4): x and y in pixels, rotation in radians, logarithm of the scale.
    """
    u = seeded.uniform(seeds, 16, stream=7)[:, :, None]
    moving = ops.cast(u[:, 14] >= still, "float32")
    length = moving * max_path * u[:, 0] ** exponent
    direction = 2 * math.pi * u[:, 1]
    cos, sin = ops.cos(direction), ops.sin(direction)
    t = times + 0 * length
    along = t + (2 * u[:, 2] - 1) * 0.5 * t**2
    across = (2 * u[:, 3] - 1) * t**2
    for index in (4, 8):
        frequency = 2 * math.pi * (0.5 + 2.5 * u[:, index])
        amplitude = 0.15 * u[:, index + 1] ** 2 * ops.exp(-0.1 * frequency)
        along += amplitude * ops.sin(frequency * t + 2 * math.pi * u[:, index + 2])
        across += amplitude * ops.sin(frequency * t + 2 * math.pi * u[:, index + 3])
    x = length * (cos * along - sin * across)
    y = length * (sin * along + cos * across)
    # Cubed: most exposures hardly rotate, nor zoom.
    rotation = moving * math.radians(max_rotation) * (2 * u[:, 12] - 1) ** 3 * t
    zoom = moving * math.log(1 + max_zoom) * (2 * u[:, 13] - 1) ** 3 * t
    return ops.stack([x, y, rotation, zoom], axis=-1)


def object_path(seeds, times, camera, max_path, index):
    """Positions of an object that moves, seen by a camera that moves.

    Args:
        seeds: (B,) integers.
        times: (B or 1, T), as `camera` has them.
        camera: (B, T, 4), path of the camera.
        max_path: longest path of the object's own in pixels.
        index: number of the object; different ones are independent.

    Returns:
        (B, T, 4), as `camera_path`: the camera's path times 0.5 to 1.5 (parallax), and
        a straight one. An object before a camera at rest may move.
    """
    u = seeded.uniform(seeds, 3, stream=100 + index)[:, :, None]
    length, direction = max_path * u[:, 1], 2 * math.pi * u[:, 2]
    t = times + 0 * length
    x, y = length * ops.cos(direction) * t, length * ops.sin(direction) * t
    own = ops.stack([x, y, 0 * t, 0 * t], axis=-1)
    parallax = 0.5 + u[:, :1]  # (B, 1, 1)
    return parallax * camera + own


def affine_transforms(path, height, width):
    """Source positions of the pixels of moved images.

    Args:
        path: (B, T, 4), as `camera_path`.
        height, width: size of the images in pixels.

    Returns:
        (B, T, 6): pixel (x, y) is at (a x + b y + c, d x + e y + f) in the image at
        rest.
    """
    x, y, angle, zoom = (path[..., k] for k in range(4))
    scale = ops.exp(zoom)
    cos, sin = scale * ops.cos(angle), scale * ops.sin(angle)
    cx, cy = (width - 1) / 2, (height - 1) / 2
    rows = [
        *(cos, -sin, cx - cos * cx + sin * cy + x),
        *(sin, cos, cy - sin * cx - cos * cy + y),
    ]
    return ops.stack(rows, axis=-1)
