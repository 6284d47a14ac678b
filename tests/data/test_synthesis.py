import dataclasses
import json

import keras
import numpy as np
import pytest
from keras import ops

from keras_mhdeblur.data import MotionBlur, seeded, synthesize_motion_blur
from keras_mhdeblur.data.camera import camera_path, object_path
from keras_mhdeblur.data.scene import defocus, lamps, object_mask

PLAIN = {"max_noise": 0.0, "max_rotation": 0.0, "max_highlight": 1.0}


def blurred(sharp, seed, *, margin=0, return_frames=False, **settings):
    return synthesize_motion_blur(
        sharp, seed, MotionBlur(**settings), margin=margin, return_frames=return_frames
    )


def photos(count=2, height=48, width=64, channels=3):
    """8-bit pictures with coarse structure, not saturated."""
    coarse = np.random.default_rng(0).random((count, 8, 8, channels), "float32")
    image = np.array(ops.image.resize(coarse, (height, width), "bilinear"))
    return np.rint(image * 200 + 20).astype("float32") / 255


def dots(count, size=65):
    image = np.zeros((count, size, size, 1), "float32")
    image[:, size // 2, size // 2] = 1
    return image


def centroids(images):
    """Mean position (x, y) of the light of each image, and its sum."""
    light = np.array(images, "float64")[..., 0] ** 2.2
    y, x = np.mgrid[: light.shape[1], : light.shape[2]]
    total = light.sum(axis=(1, 2))
    mean = [(light * axis).sum(axis=(1, 2)) / total for axis in (x, y)]
    return np.stack(mean, axis=-1), total


def numpy_of(tensors):
    return [ops.convert_to_numpy(t) for t in tensors]


# Geometry.


def test_a_camera_at_rest_changes_nothing():
    sharp = photos()
    blurry, label = blurred(sharp, 3, max_path=0.0, **PLAIN)
    np.testing.assert_array_equal(np.rint(np.array(blurry) * 255), sharp * 255)
    np.testing.assert_array_equal(label, sharp)


def test_other_dtypes():
    sharp = photos()
    found = blurred(sharp.astype("float64"), seed=1)
    for value, expected in zip(found, blurred(sharp, seed=1)):
        np.testing.assert_array_equal(value, expected)
    with pytest.raises(ValueError, match="Received: sharp.dtype=.*uint8"):
        blurred(np.uint8(255 * sharp), seed=1)


def test_blur_of_a_dot_traces_the_camera_path():
    seeds = np.arange(12)
    blurry, label = blurred(dots(12), seeds, max_path=20.0, label_jitter=0.0, **PLAIN)
    times = ((np.arange(16, dtype="float32") + 0.5) / 16 - 0.5)[None]
    path = np.array(camera_path(seeds, times, 20.0, 0.0))
    middle = np.array(camera_path(seeds, 0 * times[:, :1], 20.0, 0.0))
    shift = (path - middle)[..., :2].mean(axis=1)
    assert np.abs(shift).max() > 1  # or the test says nothing
    where, light = centroids(blurry)
    # The picture moves against the camera.
    np.testing.assert_allclose(where - 32, -shift, atol=0.1)
    np.testing.assert_allclose(light, 1, rtol=0.03)  # 8-bit rounding
    np.testing.assert_array_equal(label, dots(12))
    # The extent of the trace too, not only its centre.
    traced = np.argwhere(np.array(blurry)[..., 0] > 0)
    for k in range(12):
        found = traced[traced[:, 0] == k][:, :0:-1] - 32
        moved = -(path - middle)[k, :, :2]
        assert np.abs(found.min(axis=0) - moved.min(axis=0)).max() <= 1
        assert np.abs(found.max(axis=0) - moved.max(axis=0)).max() <= 1


def test_label_jitter_moves_the_blur_against_the_label():
    seeds = np.arange(8)
    settings = {"max_path": 20.0, **PLAIN}
    times = [
        blurred(dots(8), seeds, label_jitter=jitter, **settings)
        for jitter in (0.0, 0.5)
    ]
    (still, _), (jittered, _) = (centroids(blurry) for blurry, _ in times)
    label_times = 0.5 * (2 * np.array(seeded.uniform(seeds, 5))[:, :1] - 1)
    path = np.array(camera_path(seeds, label_times, 20.0, 0.0))
    middle = np.array(camera_path(seeds, 0 * label_times, 20.0, 0.0))
    expected = (path - middle)[:, 0, :2]
    assert np.abs(expected).max() > 2
    np.testing.assert_allclose(jittered - still, expected, atol=0.1)
    for _, label in times:
        np.testing.assert_array_equal(label, dots(8))


def test_rotation_is_about_the_centre():
    # Dots at the centre and 28 pixels right of it: only the latter draws an arc.
    image = dots(1) + np.roll(dots(1), 28, axis=2)
    seed = next(  # a strong one: the cube makes most weak
        s
        for s in range(200)
        if abs(np.array(seeded.uniform(np.array([s]), 16, 7))[0, 12] - 0.5) > 0.48
    )
    blurry, _ = blurred(
        image, np.array([seed]), max_path=0.0, label_jitter=0.0,
        **{**PLAIN, "max_rotation": 20.0},
    )  # fmt: skip
    blurry = np.array(blurry)[0, ..., 0]
    assert blurry[32, 32] > 0.99
    rows = np.flatnonzero(blurry[:, 50:].any(axis=1))
    angles = np.array(
        camera_path(np.array([seed]), np.array([[-0.46875, 0.46875]]), 0.0, 20.0)
    )[0, :, 2]
    assert abs(np.ptp(rows) - 28 * np.ptp(angles)) < 2.5
    assert np.ptp(rows) > 6


def test_the_path_has_the_length_it_promises():
    seeds = np.arange(500)
    ends = np.array(camera_path(seeds, np.array([[-0.5, 0.5]], "float32"), 24.0, 1.0))
    lengths = np.linalg.norm((ends[:, 1] - ends[:, 0])[:, :2], axis=1)
    assert 20 < lengths.max() < 24 * 1.25  # tremor adds to the drift
    assert abs(lengths.mean() - 12) < 1.5
    rotation = np.degrees(ends[:, 1, 2] - ends[:, 0, 2])
    assert 0.9 < np.abs(rotation).max() <= 1 and abs(rotation.mean()) < 0.1


@pytest.mark.parametrize("margin", [0, 5])
def test_label_and_frames_are_crops(margin):
    sharp = photos()
    blurry, label, frames = blurred(
        sharp, 1, max_path=6.0, num_frames=5, margin=margin, return_frames=True
    )
    inside = sharp[:, margin : 48 - margin, margin : 64 - margin]
    np.testing.assert_array_equal(label, inside)
    assert blurry.shape == inside.shape
    assert frames.shape == (2, 5, *inside.shape[1:])


@pytest.mark.parametrize("targets, numbers", [
    (2, [1, 3]), (3, [0, 2, 4]), (4, [0, 1, 3, 4]), (5, [0, 1, 2, 3, 4]),
])  # fmt: skip
def test_targets_are_sub_exposures_in_order_of_time(targets, numbers):
    settings = {"max_path": 6.0, "num_frames": 5, "max_lights": 2, "max_objects": 1}
    expected = blurred(photos(), 1, margin=5, return_frames=True, **settings)
    found = blurred(
        photos(), 1, margin=5, return_frames=True, num_targets=targets, **settings
    )
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], np.array(expected[2])[:, numbers])
    np.testing.assert_array_equal(found[2], expected[2])
    alone = blurred(photos(), 1, margin=5, num_targets=targets, **settings)
    np.testing.assert_array_equal(alone[1], found[1])
    assert np.min(found[1]) >= 0 and np.max(found[1]) <= 1


def test_targets_lie_evenly_on_the_path():
    blur = {"max_path": 20.0, "num_frames": 16, "label_jitter": 0.0, **PLAIN}
    _, targets = blurred(dots(3), np.arange(3), num_targets=4, **blur)
    times = (np.array([[2, 6, 10, 14]], "float32") + 0.5) / 16 - 0.5
    path = np.array(camera_path(np.arange(3), times, 20.0, 0.0))
    middle = np.array(camera_path(np.arange(3), 0 * times[:, :1], 20.0, 0.0))
    for k in range(4):
        where, _ = centroids(np.array(targets)[:, k])
        np.testing.assert_allclose(where - 32, (middle - path)[:, k, :2], atol=0.1)


# Light.


def test_blur_is_the_mean_of_the_frames_in_linear_light():
    blurry, label, frames = numpy_of(
        blurred(
            photos(),
            4,
            max_path=12.0,
            return_frames=True,
            **{**PLAIN, "max_rotation": 1.0},
        )  # fmt: skip
    )
    mean = np.mean(frames.astype("float64") ** 2.2, axis=1) ** (1 / 2.2)
    np.testing.assert_allclose(blurry, mean, atol=0.51 / 255)
    assert np.abs(blurry - frames.mean(axis=1)).max() > 1.5 / 255  # unlike in sRGB
    assert np.abs(blurry - label).max() > 0.1


def test_other_response_functions():
    sharp, seeds = photos(), np.array([4, 5])
    linear = (lambda x: x, lambda x: x)
    blurry, _, frames = numpy_of(
        blurred(sharp, seeds, gamma=linear, return_frames=True, **PLAIN)
    )
    np.testing.assert_allclose(blurry, frames.mean(axis=1), atol=0.51 / 255)
    power = (lambda x: x**2.2, lambda x: x ** (1 / 2.2))
    for gamma, equal in ((power, True), (linear, False)):
        a, _ = blurred(sharp, seeds, gamma=gamma)
        b, _ = blurred(sharp, seeds, gamma=2.2)
        assert np.array_equal(a, b) == equal


def test_saturated_lights_leave_brighter_traces():
    image = dots(8)
    settings = {**PLAIN, "max_path": 20.0, "label_jitter": 0.0}
    plain, _ = blurred(image, 0, **settings)
    settings["max_highlight"] = 5.0
    bright, label = blurred(image, 0, **settings)
    boost = 1 + 4 * np.array(seeded.uniform(np.arange(8), 2))[:, 1] ** 2
    ratio = centroids(bright)[1] / centroids(plain)[1]
    unclipped = np.array(bright).max(axis=(1, 2, 3)) < 1
    assert unclipped.sum() >= 3 and boost[unclipped].max() > 1.5
    np.testing.assert_allclose(ratio[unclipped], boost[unclipped], rtol=0.05)
    assert np.all(ratio > 1) and np.array(bright).max() <= 1
    np.testing.assert_array_equal(label, image)
    grey = 0.5 * image  # what is not saturated is not boosted
    np.testing.assert_array_equal(
        blurred(grey, 0, **settings)[0],
        blurred(grey, 0, **{**settings, "max_highlight": 1.0})[0],
    )


def test_noise_at_mid_grey():
    grey = np.full((12, 96, 96, 3), 128 / 255, "float32")
    blurry, label = numpy_of(blurred(grey, 0, max_noise=0.06))
    spread = (blurry - grey).std(axis=(1, 2, 3))
    promised = 0.06 * np.array(seeded.uniform(np.arange(12), 5))[:, 2] ** 2
    promised = np.hypot(promised, 1 / 255 / np.sqrt(12))  # 8-bit rounding
    visible = promised > 1 / 255
    assert promised.max() > 0.02 and visible.sum() >= 5
    np.testing.assert_allclose(spread[visible], promised[visible], rtol=0.05)
    assert spread[~visible].max() < 1.2 / 255
    np.testing.assert_allclose(blurry.mean(axis=(1, 2, 3)), 128 / 255, atol=0.006)
    np.testing.assert_array_equal(label, grey)
    # White noise: neighbours, in space and colour, know nothing of each other.
    noise = blurry[np.argmax(promised)] - 128 / 255
    for a, b in [(noise[1:], noise[:-1]), (noise[:, 1:], noise[:, :-1]),
                 (noise[..., 1:], noise[..., :-1])]:  # fmt: skip
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.03


def test_shot_noise_grows_with_the_light():
    linear = (lambda x: x, lambda x: x)
    draws = np.array(seeded.uniform(np.arange(200), 5))
    shot = np.where(draws[:, 2] > 0.7, draws[:, 3], np.nan)  # strong noise only
    seeds = np.array([np.nanargmin(shot), np.nanargmax(shot)])
    spreads = []
    for level in (0.1, 0.5):
        image = np.full((2, 96, 96, 1), level, "float32")
        blurry, _ = numpy_of(blurred(image, seeds, max_noise=0.04, gamma=linear))
        spreads.append((blurry - level).std(axis=(1, 2, 3)))
    read_noise, shot_noise = spreads[1] / spreads[0]
    assert abs(read_noise - 1) < 0.1
    assert abs(shot_noise - 5**0.5) < 0.2


def test_jpeg_reaches_half_of_the_samples():
    sharp = np.repeat(photos(1), 40, axis=0)
    settings = {"max_path": 0.0, **PLAIN}
    plain, _ = numpy_of(blurred(sharp, 0, **settings))
    packed, label = numpy_of(blurred(sharp, 0, jpeg_quality=(20, 40), **settings))
    changed = np.any(plain != packed, axis=(1, 2, 3))
    expected = np.array(seeded.uniform(np.arange(40), 5))[:, 4] < 0.5
    np.testing.assert_array_equal(changed, expected)
    assert 10 < changed.sum() < 30
    np.testing.assert_array_equal(label, sharp)


# What is before the camera, and behind the lens.

REST = {"max_path": 0.0, "max_noise": 0.0, "max_rotation": 0.0, "max_highlight": 1.0}


def test_zoom_draws_rays_from_the_centre():
    image = dots(1, 97) + np.roll(dots(1, 97), 40, axis=2)
    seed = next(
        s
        for s in range(300)
        if abs(np.array(seeded.uniform(np.array([s]), 16, 7))[0, 13] - 0.5) > 0.48
    )
    blurry, _ = blurred(image, [seed], max_zoom=0.3, label_jitter=0.0, **REST)
    blurry = np.array(blurry)[0, ..., 0]
    assert blurry[48, 48] > 0.99
    columns = np.flatnonzero(blurry[48, 60:]) + 60 - 48
    assert not blurry[:46, 60:].any() and not blurry[51:, 60:].any()
    ends = np.array(camera_path(np.array([seed]), np.array([[-0.5, 0.5]]), 0, 0, 0.3))
    lengths = 40 * np.exp(ends[0, :, 3])
    assert np.ptp(lengths) > 8
    np.testing.assert_allclose(
        [columns.min(), columns.max()], [lengths.min(), lengths.max()], atol=2
    )


def test_some_cameras_rest_and_most_paths_can_be_short():
    seeds, ends = np.arange(1000), np.array([[-0.5, 0.5]], "float32")

    def lengths(**settings):
        path = np.array(camera_path(seeds, ends, 24.0, 1.0, 0.1, **settings))
        return np.linalg.norm((path[:, 1] - path[:, 0])[:, :2], axis=1), path

    plain, _ = lengths()
    some, path = lengths(still=0.3)
    resting = some == 0
    assert abs(resting.mean() - 0.3) < 0.04
    assert not path[resting].any() and np.array_equal(some[~resting], plain[~resting])
    assert abs(lengths(exponent=2.0)[0].mean() - 8) < 1  # of 24 u^2


def test_objects_move_on_their_own_and_the_label_stays():
    sharp = photos(6)
    plain, _ = blurred(sharp, 0, **{**REST, "max_path": 12.0})
    settings = {**REST, "max_path": 12.0, "max_objects": 2, "still_share": 1.0}
    blurry, label = blurred(sharp, 0, **settings)
    np.testing.assert_array_equal(label, sharp)  # label_jitter is not 0
    changed = np.abs(np.array(blurry) - sharp).max(axis=-1) > 2 / 255
    masks = [np.array(object_mask(np.arange(6), 48, 64, 2, i))[..., 0] for i in (0, 1)]
    counts = sum((mask > 0.01).any(axis=(1, 2)).astype(int) for mask in masks)
    assert set(counts) == {0, 1, 2}
    for k in range(6):
        # The camera rests: nothing changes but near the objects.
        far = np.maximum(*masks)[k] < 1e-4
        near = np.lib.stride_tricks.sliding_window_view(np.pad(~far, 6), (13, 13))
        assert not changed[k][~near.any(axis=(2, 3))].any()
        assert changed[k].any() == (counts[k] > 0)
    assert not np.array_equal(plain, blurry)


def test_parallax_scales_the_camera_path():
    seeds, times = np.arange(400), np.array([[-0.5, 0.0, 0.5]], "float32")
    camera = np.array(camera_path(seeds, times, 24.0, 1.0))
    path = np.array(object_path(seeds, times, camera, 0.0, 0))
    moving = np.abs(camera[:, 2, 0]) > 1
    ratio = path[moving, 2] / np.where(
        camera[moving, 2] == 0, np.nan, camera[moving, 2]
    )
    np.testing.assert_allclose(ratio[:, 0], ratio[:, 1], rtol=1e-4)
    assert 0.5 <= ratio[:, 0].min() < 0.6 and 1.4 < ratio[:, 0].max() <= 1.5
    own = np.array(object_path(seeds, times, camera, 9.0, 0)) - path
    lengths = np.linalg.norm((own[:, 2] - own[:, 0])[:, :2], axis=1)
    assert 8.5 < lengths.max() <= 9 and abs(lengths.mean() - 4.5) < 0.4


def test_lamps_leave_streaks_and_are_in_the_label():
    black = np.zeros((12, 64, 64, 3), "float32")
    settings = {**REST, "max_path": 20.0, "max_lights": 3}
    blurry, label = numpy_of(blurred(black, 0, **settings))
    light, darkness = numpy_of(lamps(np.arange(12), 64, 64, 3))
    lit = light.max(axis=(1, 2, 3)) > 0.3
    assert 3 <= lit.sum() <= 9
    np.testing.assert_array_equal((darkness < 1)[:, 0, 0, 0], lit)
    np.testing.assert_allclose(label, np.clip(light, 0, 1) ** (1 / 2.2), atol=1e-6)
    # A streak covers more pixels than its lamp.
    assert (blurry[lit] > 0.02).sum() > 1.3 * (label[lit] > 0.02).sum()
    assert not blurry[~lit].any()


def test_defocus_is_a_gaussian_and_in_the_label():
    image = np.repeat(dots(1, 41), 20, axis=0)
    soft, changed = numpy_of(defocus(image, np.arange(20), 2.5))
    u = np.array(seeded.uniform(np.arange(20), 2, 150))
    np.testing.assert_array_equal(changed[:, 0, 0, 0], u[:, 0] < 0.5)
    assert 5 < changed.sum() < 15
    y, x = np.mgrid[-20:21, -20:21]
    for k in range(20):
        deviation = 2.5 * u[k, 1]
        if changed[k] and 0.8 < deviation < 2:
            expected = np.exp(-(x**2 + y**2) / (2 * deviation**2))
            expected /= expected.sum()
            np.testing.assert_allclose(soft[k, ..., 0], expected, atol=2e-3)
        elif not changed[k]:
            np.testing.assert_array_equal(soft[k], image[k])
    sharp = photos(20)
    blurry, label = numpy_of(blurred(sharp, 0, max_defocus=2.5, **REST))
    np.testing.assert_allclose(blurry, label, atol=0.51 / 255)
    same = np.all(label == sharp, axis=(1, 2, 3))
    np.testing.assert_array_equal(same, ~changed[:, 0, 0, 0])


def test_response_noise_and_resampling_of_each_sample():
    sharp = photos(16)
    still = {**REST, "label_jitter": 0.0}
    # At rest every response is undone by its inverse; in motion bright parts win by
    # an exponent of the sample's own.
    curved, _ = numpy_of(blurred(sharp, 0, gamma_spread=0.4, **still))
    np.testing.assert_allclose(curved, sharp, atol=0.51 / 255)
    moving = {**still, "max_path": 12.0}
    curved, _, frames = numpy_of(
        blurred(sharp, 0, gamma_spread=0.4, return_frames=True, **moving)
    )
    gamma = 2.2 * (0.6 + 0.8 * np.array(seeded.uniform(np.arange(16), 1, 37)))
    gamma = gamma[:, :, None, None]
    expected = np.mean(frames ** gamma[:, None], axis=1) ** (1 / gamma)
    np.testing.assert_allclose(curved, expected, atol=0.51 / 255)

    noisy, _ = numpy_of(blurred(sharp, 0, max_late_noise=0.08, **still))
    promised = 0.08 * np.array(seeded.uniform(np.arange(16), 1, 39))[:, 0] ** 2
    found = (noisy - sharp).std(axis=(1, 2, 3))
    visible = promised > 2 / 255
    assert visible.sum() >= 4
    np.testing.assert_allclose(found[visible], promised[visible], rtol=0.06)

    soft, _ = numpy_of(blurred(sharp, 0, min_resampling=0.5, **still))
    changed = np.any(np.rint(255 * soft) != np.rint(255 * sharp), axis=(1, 2, 3))
    u = np.array(seeded.uniform(np.arange(16), 2, 38))
    np.testing.assert_array_equal(changed, u[:, 0] < 0.5)
    step = np.abs(np.diff(soft, axis=2)).mean(axis=(1, 2, 3))
    before = np.abs(np.diff(sharp, axis=2)).mean(axis=(1, 2, 3))
    assert np.all(step[changed] < before[changed])


# Known numbers.

EVERYTHING = {
    "max_path": 12.0, "max_rotation": 2.0, "label_jitter": 0.2, "num_frames": 7,
    "gamma": 2.4, "max_noise": 0.03, "max_highlight": 4.0, "jpeg_quality": (40, 90),
    "max_zoom": 0.05, "path_exponent": 1.5, "still_share": 0.2, "max_objects": 2,
    "max_lights": 3, "max_defocus": 2.0, "gamma_spread": 0.2, "max_late_noise": 0.02,
    "min_resampling": 0.6,
}  # fmt: skip


# Settings, seed, and the levels of three pixels of the blurry images and the labels.
KNOWN = [
    (
        {},
        0,
        [
            [[183, 153, 170], [172, 146, 178], [240, 126, 158]],
            [[255, 36, 73], [255, 36, 73], [255, 36, 73]],
        ],
    ),
    (
        EVERYTHING,
        7,
        [
            [[189, 145, 175], [255, 139, 157], [100, 75, 78]],
            [[250, 119, 156], [255, 80, 110], [159, 31, 42]],
        ],
    ),
]


@pytest.mark.parametrize("settings, seed, expected", KNOWN)
def test_known_levels(settings, seed, expected):
    levels = np.arange(3 * 24 * 32 * 3).reshape(3, 24, 32, 3) * 37 % 256
    sharp = np.float32(levels) / 255
    images = numpy_of(blurred(sharp, seed, **settings))
    found = [np.rint(255 * image[:, 11, 17]) for image in images]
    np.testing.assert_allclose(found, expected, atol=1.01)  # of 255


# Seeds.


def test_a_sample_does_not_depend_on_its_batch():
    sharp = photos(4)
    everything = {
        "jpeg_quality": (40, 90), "max_path": 8.0, "max_zoom": 0.05, "max_objects": 2,
        "max_lights": 2, "max_defocus": 2.0, "gamma_spread": 0.2,
        "max_late_noise": 0.01, "min_resampling": 0.6, "still_share": 0.1,
    }  # fmt: skip
    together = numpy_of(blurred(sharp, np.arange(4) + 9, **everything))
    others = numpy_of(blurred(sharp[[2, 0]], np.array([11, 50]), **everything))
    np.testing.assert_allclose(others[0][0], together[0][2], atol=1.01 / 255)
    assert np.mean(others[0][0] != together[0][2]) < 0.001
    assert np.any(others[0][1] != together[0][0])
    for seed in (9, np.int64(9)):
        again = numpy_of(blurred(sharp, seed, **everything))
        for a, b in zip(again, together):
            np.testing.assert_array_equal(a, b)


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf.data")
def test_inside_a_dataset():
    import tensorflow as tf

    sharp, seeds = photos(4), np.arange(4, dtype="int32")
    settings = {"jpeg_quality": (40, 90), "max_path": 8.0, "margin": 8}
    expected = numpy_of(blurred(sharp, seeds, **settings))
    dataset = tf.data.Dataset.from_tensor_slices((sharp, seeds)).batch(2)
    dataset = dataset.map(lambda x, s: blurred(x, s, **settings))
    found = [np.concatenate(parts) for parts in zip(*dataset.as_numpy_iterator())]
    np.testing.assert_array_equal(found[1], expected[1])
    # Graphs round differently; rarely does it reach the next of 255 levels.
    np.testing.assert_allclose(found[0], expected[0], atol=8 / 255)
    assert np.mean(np.abs(found[0] - expected[0]) > 1e-6) < 0.01


# Settings.


@keras.saving.register_keras_serializable(package="test_synthesis")
def squared(x):
    return x**2


@keras.saving.register_keras_serializable(package="test_synthesis")
def root(x):
    return x**0.5


@pytest.mark.parametrize(
    "blur",
    [
        MotionBlur(),
        MotionBlur(**EVERYTHING, num_targets=3),
        MotionBlur(9, gamma=(squared, root)),
    ],
)
def test_settings_can_be_saved(blur):
    text = json.dumps(keras.saving.serialize_keras_object(blur))
    assert keras.saving.deserialize_keras_object(json.loads(text)) == blur
    assert set(blur.get_config()) == {f.name for f in dataclasses.fields(MotionBlur)}


# Wrong arguments.


@pytest.mark.parametrize(
    "name, value",
    [
        *[("max_path", -1), ("max_path", float("inf"))],
        *[("label_jitter", -0.1), ("label_jitter", 0.6), ("still_share", 1.1)],
        *[("max_defocus", 3.5), ("gamma_spread", -0.1), ("min_resampling", 0.0)],
    ],
)
def test_out_of_range(name, value):
    with pytest.raises(ValueError, match=f"Received: {name}={value}"):
        blurred(photos(), 0, **{name: value})


@pytest.mark.parametrize("targets", [0, 9, 2.0, "3"])
def test_wrong_number_of_targets(targets):
    message = f"integer from 1 to `num_frames`, 8. Received: num_targets={targets!r}"
    with pytest.raises(ValueError, match=message):
        MotionBlur(num_frames=8, num_targets=targets)


@pytest.mark.parametrize("margin", [-1, 24, 100])
def test_margin_out_of_range(margin):
    with pytest.raises(ValueError, match=f"Received: margin={margin}, sharp.shape="):
        blurred(photos(), 0, margin=margin)
