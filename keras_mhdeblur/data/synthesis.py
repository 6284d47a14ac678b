"""Motion blur of sharp photos by a simulated camera."""

import math

from keras import ops

from keras_mhdeblur.data import random
from keras_mhdeblur.data.jpeg import jpeg_compress


def synthesize_motion_blur(
    sharp,
    seed,
    *,
    max_path=24.0,
    max_rotation=1.0,
    label_jitter=0.1,
    num_frames=16,
    gamma=2.2,
    max_noise=0.01,
    max_highlight=3.0,
    jpeg_quality=None,
    margin=0,
    return_frames=False,
):
    """Blurs sharp images as a shaken camera would, with one sharp frame as label.

    Each sample gets a smooth random camera path (translation and in-plane rotation)
    over the exposure. `num_frames` sub-exposures along it are rendered with bilinear
    interpolation and averaged in linear light; the sensor adds shot and read noise,
    highlights clip, and the picture may be compressed as JPEG. The label is the frame
    at a random time near the middle of the exposure: it is one sample of the images
    that explain the blur (arXiv 2208.13029, section 3.1). The label is the input
    itself, not interpolated; the path is placed so.

    Only `keras.ops` are used: it runs in `tf.data` and in batches on an accelerator.

    Args:
        sharp: (B, H, W, C) in [0, 1], H and W known.
        seed: integer, or (B,) integers, one per sample. A sample's result depends on
            its own image and seed only; an integer seeds sample b with `seed + b`.
        max_path: longest path of the camera in pixels; lengths are uniform from 0.
        max_rotation: largest rotation over the exposure in degrees, about the centre.
        label_jitter: the label's time is uniform within this distance of the middle;
            the exposure lasts 1, so 0 is the middle frame and 0.5 is any frame.
        num_frames: sub-exposures.
        gamma: exponent of the camera's response, or a pair of functions (to linear,
            from linear).
        max_noise: largest standard deviation of the noise at mid-grey.
        max_highlight: saturated pixels had up to this many times full exposure.
        jpeg_quality: None, or (lowest, highest) quality; half the samples are
            compressed.
        margin: pixels cut off at each border of the result; at least the reach of the
            path (about `max_path`) keeps invented borders out of it.
        return_frames: also return the sub-exposures.

    Returns:
        (blurry, label), both (B, H - 2 margin, W - 2 margin, C) in [0, 1]; with
        `return_frames` also the sharp frames (B, num_frames, H - 2 margin, ..., C).
    """
    sharp = ops.convert_to_tensor(sharp)
    batch, height, width = ops.shape(sharp)[0], sharp.shape[1], sharp.shape[2]
    if not 0 <= label_jitter <= 0.5:
        raise ValueError(
            "`label_jitter` must be between 0 and 0.5. "
            f"Received: label_jitter={label_jitter}"
        )
    if not 0 <= 2 * margin < min(height, width):
        raise ValueError(
            "`margin` must be less than half of the image. Received: "
            f"margin={margin}, sharp.shape={tuple(sharp.shape)}"
        )
    seed = ops.cast(seed, "int32")
    if len(seed.shape) == 0:
        seed = seed + ops.arange(batch, dtype="int32")
    to_linear, from_linear = _response(gamma)
    draws = random.uniform(seed, 5)
    label_time = label_jitter * (2 * draws[:, :1] - 1)
    times = (ops.arange(num_frames, dtype="float32") + 0.5) / num_frames - 0.5
    path = camera_path(seed, times[None, :], max_path, max_rotation)
    origin = camera_path(seed, label_time, max_path, max_rotation)
    transforms = _transforms(path - origin, height, width)

    boost = 1 + (max_highlight - 1) * ops.reshape(draws[:, 1] ** 2, (-1, 1, 1, 1))
    saturation = ops.clip(10 * sharp - 9, 0, 1)
    exposure = to_linear(sharp) * (1 + (boost - 1) * saturation)
    inside = slice(margin, -margin or None)
    total, frames = 0.0, []
    for k in range(num_frames):
        frame = ops.image.affine_transform(
            exposure, transforms[:, k], "bilinear", fill_mode="nearest"
        )[:, inside, inside]
        total += frame
        if return_frames:
            frames.append(from_linear(ops.clip(frame, 0, 1)))
    blurry = total / num_frames

    # Shot noise grows with the light, read noise does not.
    shape = ops.shape(blurry)
    count = shape[1] * shape[2] * shape[3]
    gauss = ops.reshape(random.normal(seed, count, stream=1), shape)
    # At mid-grey (0.5) the response has the slope that turns this into `max_noise`.
    grey = to_linear(ops.convert_to_tensor(0.5, "float32"))
    slope = (to_linear(ops.convert_to_tensor(0.51, "float32")) - grey) / 0.01
    level = slope * max_noise * ops.reshape(draws[:, 2] ** 2, (-1, 1, 1, 1))
    shot = ops.reshape(draws[:, 3], (-1, 1, 1, 1))
    spread = ops.sqrt(shot * ops.maximum(blurry, 0) / grey + (1 - shot))
    blurry = from_linear(ops.clip(blurry + level * spread * gauss, 0, 1))
    blurry = ops.round(255 * blurry) / 255
    if jpeg_quality is not None:
        low, high = jpeg_quality
        compressed = jpeg_compress(
            blurry, low + (high - low) * random.uniform(seed, 1, 4)[:, 0]
        )
        half = ops.reshape(draws[:, 4] < 0.5, (-1, 1, 1, 1))
        blurry = ops.where(half, compressed, blurry)
    label = sharp[:, inside, inside]
    if return_frames:
        return blurry, label, ops.stack(frames, axis=1)
    return blurry, label


def camera_path(seeds, times, max_path, max_rotation):
    """Random smooth camera positions.

    A drift with acceleration and curvature, plus tremor of up to three cycles per
    exposure.

    Args:
        seeds: (B,) integers.
        times: (B or 1, T), from -0.5 to 0.5.
        max_path: longest drift in pixels.
        max_rotation: largest rotation over the exposure in degrees.

    Returns:
        (B, T, 3): x and y in pixels, rotation in radians.
    """
    u = random.uniform(seeds, 16, stream=7)[:, :, None]
    length = max_path * u[:, 0]
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
    # Cubed: most exposures hardly rotate.
    rotation = math.radians(max_rotation) * (2 * u[:, 12] - 1) ** 3 * t
    return ops.stack([x, y, rotation], axis=-1)


def _transforms(path, height, width):
    """Affine parameters (B, T, 8) of `ops.image.affine_transform`."""
    x, y, angle = path[..., 0], path[..., 1], path[..., 2]
    cos, sin = ops.cos(angle), ops.sin(angle)
    cx, cy = (width - 1) / 2, (height - 1) / 2
    zero = ops.zeros_like(x)
    rows = [
        *(cos, -sin, cx - cos * cx + sin * cy + x),
        *(sin, cos, cy - sin * cx - cos * cy + y),
        *(zero, zero),
    ]
    return ops.stack(rows, axis=-1)


def _response(gamma):
    if isinstance(gamma, (tuple, list)):
        return gamma
    return lambda x: x**gamma, lambda x: x ** (1 / gamma)
