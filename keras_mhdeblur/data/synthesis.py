"""Motion blur of sharp photos by a simulated camera."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import keras
from keras import ops

from keras_mhdeblur.data import seeded
from keras_mhdeblur.data.camera import affine_transforms, camera_path, object_path
from keras_mhdeblur.data.jpeg import jpeg_compress
from keras_mhdeblur.data.scene import defocus, lamps, object_mask
from keras_mhdeblur.data.warping import warp
from keras_mhdeblur.utils.types import Tensor

if TYPE_CHECKING:
    from keras_mhdeblur.data.motion_blur import MotionBlur


def synthesize_motion_blur(
    sharp: Tensor,
    seed: int | Sequence[int] | Tensor,
    blur: "MotionBlur",
    *,
    margin: int = 0,
    return_frames: bool = False,
) -> tuple[Tensor, ...]:
    """Blurs sharp images as a shaken camera would, with one sharp frame as label.

    Each sample gets a smooth random camera path (translation, in-plane rotation and
    zoom) over the exposure, and objects that move on their own. Sub-exposures are
    rendered with bilinear interpolation and averaged in linear light; the sensor adds
    shot and read noise, highlights clip, and the picture may be resampled and
    compressed as JPEG. The label is the frame at a random time near the middle of the
    exposure: it is one sample of the images that explain the blur (arXiv 2208.13029,
    section 3.1). The label is the input itself, not interpolated (paths are placed
    so), but where lamps or defocus change it: those are in the label, too, as they are
    not the motion's doing. With `blur.num_targets` above 1 the label is that many of
    the sub-exposures instead.

    Only `keras.ops` are used: it runs in `tf.data` and in batches on an accelerator.

    Args:
        sharp: (B, H, W, C) in [0, 1], H and W known.
        seed: integer, or (B,) integers, one per sample. A sample's result depends on
            its own image and seed only; an integer seeds sample b with `seed + b`.
        blur: `MotionBlur`, the settings of the camera.
        margin: pixels cut off at each border of the result; at least the reach of the
            path (`blur.margin`) keeps invented borders out of it.
        return_frames: also return the sub-exposures.

    Returns:
        (blurry, label), both (B, H - 2 margin, W - 2 margin, C) in [0, 1], a label of
        several targets (B, num_targets, H - 2 margin, ..., C); with `return_frames`
        also the sharp frames (B, num_frames, H - 2 margin, ..., C).

    Raises:
        ValueError: `sharp` or `margin` cannot be used.

    Example:

    ```python
    blur = keras_mhdeblur.data.MotionBlur(max_path=12, max_noise=0)
    blurry, label = synthesize_motion_blur(sharp, seed=0, blur=blur)
    ```
    """
    sharp, seed = _checked(sharp, seed, margin)
    # Of the label's time, the highlights, the noise's level and kind, and the JPEG.
    draws = seeded.uniform(seed, 5)
    response = _response(blur.gamma, blur.gamma_spread, seed)
    scene, label = _scene(sharp, seed, draws, blur, response)
    layers = _layers(scene, seed, draws, blur)
    targets = blur.target_frames if blur.num_targets > 1 else []
    light, frames = 0.0, {}
    for k in range(blur.num_frames):
        frame = _exposed(layers, k, margin)
        light += frame
        if return_frames or k in targets:
            frames[k] = _developed(frame, response)
    light = light / blur.num_frames
    blurry = _sensed(light, seed, draws, blur, response)
    blurry = _encoded(blurry, seed, draws, blur)
    inside = slice(margin, -margin or None)
    label = label[:, inside, inside]
    if targets:
        label = ops.stack([frames[k] for k in targets], axis=1)
    if return_frames:
        return blurry, label, ops.stack(list(frames.values()), axis=1)
    return blurry, label


def _checked(sharp, seed, margin):
    """Images as float32, and one seed per image."""
    sharp = ops.convert_to_tensor(sharp)
    if "float" not in keras.backend.standardize_dtype(sharp.dtype):
        raise ValueError(
            f"`sharp` must be float in [0, 1]. Received: sharp.dtype={sharp.dtype}"
        )
    if not 0 <= 2 * margin < min(sharp.shape[1:3]):
        raise ValueError(
            "`margin` must be less than half of the image. Received: "
            f"margin={margin}, sharp.shape={tuple(sharp.shape)}"
        )
    seed = ops.cast(seed, "int32")
    if len(seed.shape) == 0:
        seed = seed + ops.arange(ops.shape(sharp)[0], dtype="int32")
    return ops.cast(sharp, "float32"), seed


def _scene(sharp, seed, draws, blur, response):
    """The scene's light before the lens moves, and the label."""
    height, width = sharp.shape[1], sharp.shape[2]
    to_linear, _ = response
    boost = 1 + (blur.max_highlight - 1) * _per_image(draws[:, 1] ** 2)
    saturation = ops.clip(10 * sharp - 9, 0, 1)
    light = to_linear(sharp) * (1 + (boost - 1) * saturation)
    label = sharp
    if blur.max_lights:
        lamp_light, darkness = lamps(seed, height, width, blur.max_lights)
        light = darkness * light + lamp_light
        label = ops.where(darkness < 1, _developed(light, response), label)
    if blur.max_defocus:
        light, changed = defocus(light, seed, blur.max_defocus)
        label = ops.where(changed, _developed(light, response), label)
    return light, label


def _layers(scene, seed, draws, blur):
    """The scene in layers from back to front, with their moves.

    Returns:
        List of (picture, transforms): light (B, H, W, C), of all but the first layer
        times its mask and with the mask as a further channel, and affine transforms
        from the label's moment to every sub-exposure, (B, num_frames, ...).
    """
    height, width = scene.shape[1], scene.shape[2]
    count = blur.num_frames
    label_time = blur.label_jitter * (2 * draws[:, :1] - 1)
    times = (ops.arange(count, dtype="float32") + 0.5) / count - 0.5
    times = ops.concatenate([times[None, :] + 0 * label_time, label_time], axis=1)
    path = camera_path(
        seed, times, blur.max_path, blur.max_rotation, blur.max_zoom,
        exponent=blur.path_exponent, still=blur.still_share,
    )  # fmt: skip

    def transforms(path):
        return affine_transforms(path[:, :-1] - path[:, -1:], height, width)

    layers = [(scene, transforms(path))]
    for index in range(blur.max_objects):
        mask = object_mask(seed, height, width, blur.max_objects, index)
        picture = ops.concatenate([mask * scene, mask], axis=-1)
        own_path = object_path(seed, times, path, blur.max_path / 2, index)
        layers.append((picture, transforms(own_path)))
    return layers


def _exposed(layers, k, margin):
    """Light of sub-exposure `k`."""
    (scene, transforms), *objects = layers
    frame = warp(scene, transforms[:, k], margin)
    for picture, transforms in objects:
        moved = warp(picture, transforms[:, k], margin)
        frame = (1 - moved[..., -1:]) * frame + moved[..., :-1]
    return frame


def _sensed(light, seed, draws, blur, response):
    """The camera's picture of the light, with noise before and behind the response."""
    to_linear, _ = response
    # Shot noise grows with the light, read noise does not.
    shape = ops.shape(light)
    count = shape[1] * shape[2] * shape[3]
    gauss = ops.reshape(seeded.normal(seed, count, stream=1), shape)
    # At mid-grey (0.5) the response has the slope that turns this into `max_noise`.
    grey = to_linear(ops.convert_to_tensor(0.5, "float32"))
    slope = (to_linear(ops.convert_to_tensor(0.51, "float32")) - grey) / 0.01
    level = slope * blur.max_noise * _per_image(draws[:, 2] ** 2)
    shot = _per_image(draws[:, 3])
    spread = ops.sqrt(shot * ops.maximum(light, 0) / grey + (1 - shot))
    picture = _developed(light + level * spread * gauss, response)
    if blur.max_late_noise:
        gauss = ops.reshape(seeded.normal(seed, count, stream=20), shape)
        level = blur.max_late_noise * seeded.uniform(seed, 1, stream=39) ** 2
        picture = picture + _per_image(level) * gauss
    return picture


def _encoded(picture, seed, draws, blur):
    """The picture as its file has it: resampled, in 8 bits, maybe a JPEG."""
    if blur.min_resampling < 1:
        picture = _resampled(picture, seed, blur.min_resampling)
    picture = ops.round(255 * ops.clip(picture, 0, 1)) / 255
    if blur.jpeg_quality is None:
        return picture
    low, high = blur.jpeg_quality
    quality = low + (high - low) * seeded.uniform(seed, 1, 4)[:, 0]
    compressed = jpeg_compress(picture, quality)
    return ops.where(_per_image(draws[:, 4] < 0.5), compressed, picture)


def _per_image(values):
    """One value per image, (B, 1, 1, 1)."""
    return ops.reshape(values, (-1, 1, 1, 1))


def _developed(light, response):
    """The picture of what reached the sensor."""
    _, from_linear = response
    return from_linear(ops.clip(light, 0, 1))


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
    return ops.where(_per_image(u[:, 0] < 0.5), result, images)


def _response(gamma, spread, seed):
    """Functions to linear light and from it; `seed` decides on each sample's."""
    if isinstance(gamma, (tuple, list)):
        return gamma
    if spread:
        u = _per_image(seeded.uniform(seed, 1, stream=37))
        gamma = gamma * (1 + spread * (2 * u - 1))
    return lambda x: x**gamma, lambda x: x ** (1 / gamma)
