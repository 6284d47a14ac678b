"""The scene before the camera: objects, lamps and depth of field."""

import math

from keras import ops

from keras_mhdeblur.data import seeded

_RADIUS = 6  # of the Gaussian in pixels: two deviations of the largest allowed


def object_mask(seeds, height, width, max_objects, index):
    """The place of an object: a blob with a more or less soft border.

    Args:
        seeds: (B,) integers.
        height, width: size of the images in pixels.
        max_objects: a sample has 0 to this many objects, all equally likely.
        index: number of the object, from 0.

    Returns:
        (B, height, width, 1) in [0, 1]; 0 everywhere in samples with fewer objects.
    """
    u = seeded.uniform(seeds, 2, stream=110 + index)
    coarse = seeded.normal(seeds, 25, stream=100 + index)  # uniform's 200, ...
    coarse = ops.reshape(coarse, (-1, 5, 5, 1))
    field = ops.image.resize(coarse, (height, width), "bicubic", antialias=False)
    softness = ops.reshape(4 + 26 * u[:, 0], (-1, 1, 1, 1))
    level = ops.reshape(1.4 * u[:, 1] - 0.3, (-1, 1, 1, 1))
    count = ops.floor((max_objects + 1) * seeded.uniform(seeds, 1, stream=109)[:, 0])
    there = ops.reshape(ops.cast(index < count, "float32"), (-1, 1, 1, 1))
    return there * ops.sigmoid(softness * (field - level))


def lamps(seeds, height, width, max_lights):
    """Small bright lights at night, which draw streaks when the camera moves.

    Half of the samples have some.

    Args:
        seeds: (B,) integers.
        height, width: size of the images in pixels.
        max_lights: a sample has at most this many.

    Returns:
        light: (B, height, width, 3) to add in linear light; at a lamp 1 to 30 times
            full exposure.
        darkness: (B, 1, 1, 1), what to multiply the rest of the sample with; 1 where
            there are no lamps.
    """
    first = seeded.uniform(seeds, 3, stream=120)
    count = ops.floor(2 * first[:, 0] * (max_lights + 1)) - max_lights - 1
    rows = ops.reshape(ops.arange(height, dtype="float32"), (1, -1, 1, 1))
    columns = ops.reshape(ops.arange(width, dtype="float32"), (1, 1, -1, 1))
    light = 0.0
    for k in range(max_lights):
        u = seeded.uniform(seeds, 7, stream=121 + k)[:, :, None, None]
        y, x = u[:, 0:1] * height, u[:, 1:2] * width
        radius = 0.7 + 1.8 * u[:, 2:3]
        strength = ops.cast(k < count[:, None, None, None], "float32")
        strength *= ops.exp(math.log(30.0) * u[:, 3:4])
        colour = 0.5 + 0.5 * ops.transpose(u[:, 4:7], (0, 2, 3, 1))
        distance = (rows - y) ** 2 + (columns - x) ** 2
        light += strength * colour * ops.exp(-distance / (2 * radius**2))
    some = ops.reshape(count > 0, (-1, 1, 1, 1))
    darkness = ops.reshape(0.1 + 0.9 * first[:, 1], (-1, 1, 1, 1))
    return light, ops.where(some, darkness, 1.0)


def defocus(images, seeds, max_defocus):
    """Puts half of the samples out of focus.

    Args:
        images: (B, H, W, C) in linear light.
        seeds: (B,) integers.
        max_defocus: largest standard deviation of the Gaussian in pixels, at most 3.

    Returns:
        (images, changed): (B, H, W, C), and booleans (B, 1, 1, 1).
    """
    u = seeded.uniform(seeds, 2, stream=150)
    changed = ops.reshape(u[:, 0] < 0.5, (-1, 1, 1, 1))
    deviation = ops.maximum(max_defocus * u[:, 1:], 0.1)
    offsets = ops.arange(-_RADIUS, _RADIUS + 1, dtype="float32")
    weights = ops.exp(-0.5 * (offsets[None] / deviation) ** 2)
    weights /= ops.sum(weights, axis=1, keepdims=True)
    result = images
    for axis in (1, 2):
        size = result.shape[axis]
        padding = [[0, 0]] * 4
        padding[axis] = [_RADIUS, _RADIUS]
        padded = ops.pad(result, padding, mode="symmetric")
        result = 0.0
        for k in range(2 * _RADIUS + 1):
            part = [slice(None)] * 4
            part[axis] = slice(k, k + size)
            weight = ops.reshape(weights[:, k], (-1, 1, 1, 1))
            result += weight * padded[tuple(part)]
    return ops.where(changed, result, images), changed
