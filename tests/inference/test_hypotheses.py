"""What can be done with the hypotheses of a photo after it was restored."""

import keras
import numpy as np
import pytest
from PIL import Image, ImageSequence

from keras_mhdeblur import Deblurrer
from keras_mhdeblur.inference.shifts import shift_map

pytestmark = pytest.mark.usefixtures("without_guard")


class ConstantHeads(keras.Model):
    """Heads whose images are the input plus known numbers."""

    num_heads = 3

    def call(self, images, training=False):
        return keras.ops.stack([images, images + 0.2, images + 0.3], axis=1)


@pytest.fixture(scope="module")
def model():
    return Deblurrer(ConstantHeads(), best_pair=(2, 0))


@pytest.fixture
def result(model):
    return model.restore(np.full((40, 32, 3), 0.5))


@pytest.mark.parametrize(
    "select, expected",
    [
        ("single", 0.65),
        ((1, 0), 0.6),
        (2, 0.8),
        ("medoid", 0.65),
        (lambda hypotheses: hypotheses[:, 0, 0, 0].argmin(), 0.5),
        # 0, 0+1, 1, 0+2, 1+2, 2
        ([0.5, 0, 0.25, 0, 0, 0.25], 0.5 * 0.5 + 0.25 * 0.7 + 0.25 * 0.8),
    ],
)
def test_another_image(model, result, select, expected):
    assert np.allclose(result.image, 0.5 + 0.5 / 3)
    chosen = result.select(select)
    np.testing.assert_allclose(chosen.image, expected, atol=1e-6)
    np.testing.assert_array_equal(chosen.hypotheses, result.hypotheses)
    restored = model.restore(np.full((2, 3, 3), 0.5), select=select)
    np.testing.assert_allclose(restored.image, expected, atol=1e-6)


def test_one_head():
    class OneHead(ConstantHeads):
        num_heads = 1

        def call(self, images, training=False):
            return (images + 0.2)[:, None]

    result = Deblurrer(OneHead()).restore(np.full((4, 4, 3), 0.5), select="single")
    np.testing.assert_allclose(result.image, 0.7, atol=1e-6)
    darker = result.select(lambda hypotheses: hypotheses[0] / 2)
    np.testing.assert_allclose(darker.image, 0.35, atol=1e-6)
    with pytest.raises(ValueError, match="Received: select=5"):
        result.select(5)


@pytest.mark.parametrize("weights", [[0.5, 0.5], [0.5] * 6, [np.nan] * 6])
def test_wrong_weights(result, weights):
    with pytest.raises(ValueError, match="`select` must have 6 weights.*sum to one"):
        result.select(weights)


def test_composition(result):
    labels = np.zeros((40, 32), int)
    labels[:, 16:] = 5
    sharp = result.compose(labels, feather=0).image
    np.testing.assert_allclose(sharp[..., 1], np.where(labels, 0.8, 0.5), atol=1e-6)
    image = result.compose(labels, feather=8).image
    np.testing.assert_allclose(image[:, :8], 0.5, atol=1e-6)
    np.testing.assert_allclose(image[:, 24:], 0.8, atol=1e-6)
    steps = np.diff(image[3, :, 0])
    assert (steps > -1e-7).all() and steps.max() < 0.3 / 8
    # A small region in the middle of others, and a pair of heads.
    labels[10:20, 10:20] = 3
    np.testing.assert_allclose(
        result.compose(labels, feather=2).image[15, 15], 0.65, atol=1e-6
    )


@pytest.mark.parametrize(
    "labels, feather, message",
    [
        (np.zeros((4, 4), int), 8, r"integers of shape \(40, 32\).*\(4, 4\)"),
        (np.zeros((40, 32)), 8, "labels of float64"),
        (np.full((40, 32), 6), 8, "from 0 to 5. Received: labels from 6 to 6"),
        (np.zeros((40, 32), int), -1, "Received: feather=-1"),
    ],
)
def test_wrong_compositions(result, labels, feather, message):
    with pytest.raises(ValueError, match=message):
        result.compose(labels, feather)


def test_what_needs_one_image_with_its_heads(model):
    batch = model.restore(np.full((2, 9, 9, 3), 0.5))
    with pytest.raises(ValueError, match=r"Received: image.shape=\(2, 9, 9, 3\)"):
        batch.compose(np.zeros((9, 9), int))
    assert batch.select(0).image.shape == (2, 9, 9, 3)
    folded = model.restore(np.full((9, 9, 3), 0.5), hypotheses=False)
    with pytest.raises(ValueError, match="Received: hypotheses=False"):
        folded.select(0)


def texture(height, width, down=0.0, right=0.0):
    """A smooth random image, displaced."""
    rows, columns = np.mgrid[:height, :width]
    generator = np.random.default_rng(0)
    image = 0
    for _ in range(40):
        y, x, phase = generator.uniform(-0.8, 0.8, 3)
        image = image + np.sin(y * (rows - down) + x * (columns - right) + 9 * phase)
    return 0.5 + image / 80


@pytest.mark.parametrize("shift", [(0, 0), (0.3, -0.7), (2.4, 1.25), (-5.5, 3)])
def test_known_shifts(shift):
    found = shift_map(texture(150, 100, *shift), texture(150, 100), 48)
    assert found.shape == (4, 3, 2) and found.dtype == "float32"
    np.testing.assert_allclose(found, np.broadcast_to(shift, found.shape), atol=0.03)


def test_shifts_need_texture():
    image = texture(64, 64)
    image[:, 32:] = 0.5
    stripes = np.broadcast_to(np.sin(np.arange(64)), (64, 64))
    np.testing.assert_array_equal(
        np.isnan(shift_map(image, image, 32))[..., 0], [[False, True]] * 2
    )
    assert np.isnan(shift_map(stripes, stripes, 32)).all()


def test_shift_map_of_hypotheses(model, result):
    class Shifted(ConstantHeads):
        def call(self, images, training=False):
            moved = [keras.ops.roll(images, n, axis=1) for n in range(3)]
            return keras.ops.stack(moved, axis=1)

    image = texture(64, 64)[..., None].repeat(3, axis=-1)
    result = Deblurrer(Shifted()).restore(image)
    shifts = result.shift_map(2, 0, tile=32)  # heads 1 and 0
    np.testing.assert_allclose(shifts[..., 0], 1, atol=0.02)
    np.testing.assert_allclose(shifts[..., 1], 0, atol=0.02)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            (6, 0, 32),
            "`hypothesis` must be an index from 0 to 5. Received: hypothesis=6",
        ),
        ((0, "1", 32), "Received: reference='1'"),
        ((0, 1, 33), "from 8 to 32 pixels.*Received: tile=33"),
        ((0, 1, 4), "Received: tile=4"),
    ],
)
def test_wrong_shift_maps(result, arguments, message):
    with pytest.raises(ValueError, match=message):
        result.shift_map(*arguments)


class Moments(keras.Model):
    """A grey step that moves: at 8, 24, 16 and 32 pixels from the left."""

    num_heads = 4

    def call(self, images, training=False):
        columns = keras.ops.arange(keras.ops.shape(images)[2])[:, None]
        heads = [
            keras.ops.zeros_like(images) + keras.ops.cast(columns < place, "float32")
            for place in (8, 24, 16, 32)
        ]
        return keras.ops.stack(heads, axis=1)


@pytest.fixture
def moving():
    model = Deblurrer(Moments(), combine_heads=False)
    return model.restore(np.full((40, 48, 3), 0.5))


def steps(images):
    """Numbers of white columns of the images."""
    return [
        round(float(np.asarray(image)[0, :, 0].mean() * 48 / 255)) for image in images
    ]


def test_clip_shows_the_hypotheses_along_their_line(moving, tmp_path):
    moving.save_clip(tmp_path / "clip.gif", seconds=1.5)
    with Image.open(tmp_path / "clip.gif") as clip:
        frames = [frame.convert("RGB") for frame in ImageSequence.Iterator(clip)]
        assert clip.info["duration"] == 250 and clip.info["loop"] == 0
    found = steps(frames)
    assert found in ([8, 16, 24, 32, 24, 16], [32, 24, 16, 8, 16, 24])


def test_clip_in_another_order_and_size(moving, tmp_path):
    av = pytest.importorskip("av")
    moving.save_clip(tmp_path / "clip.mp4", order=[3, 0], size=25)
    with av.open(str(tmp_path / "clip.mp4")) as clip:
        frames = [frame.to_ndarray(format="rgb24") for frame in clip.decode(video=0)]
    # 25 by 21 pixels, made even.
    assert [frame.shape for frame in frames] == [(20, 24, 3)] * 2
    assert [frame[0, 12].mean() > 128 for frame in frames] == [True, False]


@pytest.mark.parametrize(
    "name, arguments, message",
    [
        ("clip.avi", {}, "must end in .gif or .mp4"),
        ("clip.gif", {"order": [4]}, "from 0 to 3. Received: order=.4."),
        ("clip.gif", {"order": []}, "Received: order="),
        ("clip.gif", {"seconds": 0}, "`seconds` must be positive"),
        ("clip.gif", {"size": -1}, "`size` must be positive"),
    ],
)
def test_clip_with_wrong_arguments(moving, tmp_path, name, arguments, message):
    with pytest.raises(ValueError, match=message):
        moving.save_clip(tmp_path / name, **arguments)
    assert not list(tmp_path.iterdir())
