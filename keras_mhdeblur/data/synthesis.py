"""Motion blur of sharp photos by a simulated camera."""

import keras
from keras import ops

from keras_mhdeblur.data import seeded
from keras_mhdeblur.data.camera import affine_transforms, camera_path, object_path
from keras_mhdeblur.data.jpeg import jpeg_compress
from keras_mhdeblur.data.scene import defocus, lamps, object_mask
from keras_mhdeblur.data.warping import warp


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
    max_zoom=0.0,
    path_exponent=1.0,
    still_share=0.0,
    max_objects=0,
    max_lights=0,
    max_defocus=0.0,
    gamma_spread=0.0,
    max_late_noise=0.0,
    min_resampling=1.0,
):
    """Blurs sharp images as a shaken camera would, with one sharp frame as label.

    Each sample gets a smooth random camera path (translation, in-plane rotation and
    zoom) over the exposure, and objects that move on their own. `num_frames`
    sub-exposures are rendered with bilinear interpolation and averaged in linear
    light; the sensor adds shot and read noise, highlights clip, and the picture may be
    resampled and compressed as JPEG. The label is the frame at a random time near the
    middle of the exposure: it is one sample of the images that explain the blur (arXiv
    2208.13029, section 3.1). The label is the input itself, not interpolated (paths
    are placed so), but where lamps or defocus change it: those are in the label, too,
    as they are not the motion's doing.

    Only `keras.ops` are used: it runs in `tf.data` and in batches on an accelerator.

    Args:
        sharp: (B, H, W, C) in [0, 1], H and W known.
        seed: integer, or (B,) integers, one per sample. A sample's result depends on
            its own image and seed only; an integer seeds sample b with `seed + b`.
        max_path: longest path of the camera in pixels.
        max_rotation: largest rotation over the exposure in degrees, about the centre.
        label_jitter: the label's time is uniform within this distance of the middle;
            the exposure lasts 1, so 0 is the middle frame and 0.5 is any frame.
        num_frames: sub-exposures; one for every two pixels of `max_path`, or a network
            learns to take what repeats in a picture for blur.
        gamma: exponent of the camera's response, or a pair of functions (to linear,
            from linear).
        max_noise: largest standard deviation of the noise at mid-grey.
        max_highlight: saturated pixels had up to this many times full exposure.
        jpeg_quality: None, or (lowest, highest) quality; half the samples are
            compressed.
        margin: pixels cut off at each border of the result; at least the reach of the
            path (about `max_path`) keeps invented borders out of it.
        return_frames: also return the sub-exposures.
        max_zoom: largest relative change of scale over the exposure.
        path_exponent: lengths of paths are `max_path * u**path_exponent`, u uniform
            in [0, 1): more than 1 for more short exposures.
        still_share: share of the samples with a camera at rest.
        max_objects: a sample has 0 to this many blobs of the picture, with more or less
            soft borders, that move on paths of their own: 0.5 to 1.5 times the camera's
            and up to `max_path / 2` besides.
        max_lights: half the samples are darkened, and have up to this many small lamps
            (three channels only).
        max_defocus: half the samples are out of focus, by a Gaussian of up to this
            standard deviation in pixels, at most 3.
        gamma_spread: each sample's exponent is `gamma` times 1 minus to 1 plus this.
        max_late_noise: largest standard deviation of noise that is added behind the
            camera's response.
        min_resampling: half the samples are reduced by up to this factor and enlarged
            again.

    Returns:
        (blurry, label), both (B, H - 2 margin, W - 2 margin, C) in [0, 1]; with
        `return_frames` also the sharp frames (B, num_frames, H - 2 margin, ..., C).

    Raises:
        ValueError: an argument is out of its range.
    """
    sharp = ops.convert_to_tensor(sharp)
    if "float" not in keras.backend.standardize_dtype(sharp.dtype):
        raise ValueError(
            f"`sharp` must be float in [0, 1]. Received: sharp.dtype={sharp.dtype}"
        )
    sharp = ops.cast(sharp, "float32")
    batch, height, width = ops.shape(sharp)[0], sharp.shape[1], sharp.shape[2]
    _refuse_outside("label_jitter", label_jitter, 0, 0.5)
    _refuse_outside("still_share", still_share, 0, 1)
    _refuse_outside("max_defocus", max_defocus, 0, 3)
    _refuse_outside("gamma_spread", gamma_spread, 0, 0.5)
    _refuse_outside("min_resampling", min_resampling, 0.25, 1)
    if not 0 <= 2 * margin < min(height, width):
        raise ValueError(
            "`margin` must be less than half of the image. Received: "
            f"margin={margin}, sharp.shape={tuple(sharp.shape)}"
        )
    seed = ops.cast(seed, "int32")
    if len(seed.shape) == 0:
        seed = seed + ops.arange(batch, dtype="int32")
    to_linear, from_linear = _response(gamma, gamma_spread, seed)
    draws = seeded.uniform(seed, 5)
    label_time = label_jitter * (2 * draws[:, :1] - 1)
    times = (ops.arange(num_frames, dtype="float32") + 0.5) / num_frames - 0.5
    times = ops.concatenate([times[None, :] + 0 * label_time, label_time], axis=1)
    path = camera_path(
        seed, times, max_path, max_rotation, max_zoom,
        exponent=path_exponent, still=still_share,
    )  # fmt: skip

    boost = 1 + (max_highlight - 1) * ops.reshape(draws[:, 1] ** 2, (-1, 1, 1, 1))
    saturation = ops.clip(10 * sharp - 9, 0, 1)
    exposure = to_linear(sharp) * (1 + (boost - 1) * saturation)
    label = sharp
    if max_lights:
        light, darkness = lamps(seed, height, width, max_lights)
        exposure = darkness * exposure + light
        label = ops.where(darkness < 1, _developed(exposure, from_linear), label)
    if max_defocus:
        exposure, changed = defocus(exposure, seed, max_defocus)
        label = ops.where(changed, _developed(exposure, from_linear), label)

    # The scene in layers from back to front: picture, and path from the label's moment.
    layers = [(exposure, path)]
    for index in range(max_objects):
        mask = object_mask(seed, height, width, max_objects, index)
        layers.append(
            (
                ops.concatenate([mask * exposure, mask], axis=-1),
                object_path(seed, times, path, max_path / 2, index),
            )
        )
    layers = [
        (picture, affine_transforms(path[:, :-1] - path[:, -1:], height, width))
        for picture, path in layers
    ]
    total, frames = 0.0, []
    for k in range(num_frames):
        frame = 0.0
        for picture, transforms in layers:
            moved = warp(picture, transforms[:, k], margin)
            if picture is not exposure:
                mask, moved = moved[..., -1:], moved[..., :-1]
                frame = (1 - mask) * frame
            frame = frame + moved
        total += frame
        if return_frames:
            frames.append(_developed(frame, from_linear))
    blurry = total / num_frames

    # Shot noise grows with the light, read noise does not.
    shape = ops.shape(blurry)
    count = shape[1] * shape[2] * shape[3]
    gauss = ops.reshape(seeded.normal(seed, count, stream=1), shape)
    # At mid-grey (0.5) the response has the slope that turns this into `max_noise`.
    grey = to_linear(ops.convert_to_tensor(0.5, "float32"))
    slope = (to_linear(ops.convert_to_tensor(0.51, "float32")) - grey) / 0.01
    level = slope * max_noise * ops.reshape(draws[:, 2] ** 2, (-1, 1, 1, 1))
    shot = ops.reshape(draws[:, 3], (-1, 1, 1, 1))
    spread = ops.sqrt(shot * ops.maximum(blurry, 0) / grey + (1 - shot))
    blurry = _developed(blurry + level * spread * gauss, from_linear)
    if max_late_noise:
        gauss = ops.reshape(seeded.normal(seed, count, stream=20), shape)
        level = max_late_noise * seeded.uniform(seed, 1, stream=39) ** 2
        blurry = blurry + ops.reshape(level, (-1, 1, 1, 1)) * gauss
    if min_resampling < 1:
        blurry = _resampled(blurry, seed, min_resampling)
    blurry = ops.round(255 * ops.clip(blurry, 0, 1)) / 255
    if jpeg_quality is not None:
        low, high = jpeg_quality
        compressed = jpeg_compress(
            blurry, low + (high - low) * seeded.uniform(seed, 1, 4)[:, 0]
        )
        half = ops.reshape(draws[:, 4] < 0.5, (-1, 1, 1, 1))
        blurry = ops.where(half, compressed, blurry)
    inside = slice(margin, -margin or None)
    label = label[:, inside, inside]
    if return_frames:
        return blurry, label, ops.stack(frames, axis=1)
    return blurry, label


def _developed(exposure, from_linear):
    """The picture of an exposure in linear light."""
    return from_linear(ops.clip(exposure, 0, 1))


def _resampled(images, seed, min_factor):
    """Half of the samples, reduced and enlarged again."""
    height, width = images.shape[1], images.shape[2]
    u = seeded.uniform(seed, 2, stream=38)
    factor = ops.where(u[:, :1] < 0.5, 1 - (1 - min_factor) * u[:, 1:], 1.0)
    result = images
    for zoom in (-ops.log(factor), ops.log(factor)):
        path = ops.concatenate([ops.zeros((1, 3)) + 0 * zoom, zoom], axis=1)
        transforms = affine_transforms(path, height, width)
        result = warp(result, transforms)
    return ops.where(ops.reshape(u[:, 0] < 0.5, (-1, 1, 1, 1)), result, images)


def _response(gamma, spread, seed):
    """Functions to linear light and from it; `seed` decides on each sample's."""
    if isinstance(gamma, (tuple, list)):
        return gamma
    if spread:
        u = ops.reshape(seeded.uniform(seed, 1, stream=37), (-1, 1, 1, 1))
        gamma = gamma * (1 + spread * (2 * u - 1))
    return lambda x: x**gamma, lambda x: x ** (1 / gamma)


def _refuse_outside(name, value, low, high):
    if not low <= value <= high:
        raise ValueError(
            f"`{name}` must be between {low} and {high}. Received: {name}={value}"
        )
