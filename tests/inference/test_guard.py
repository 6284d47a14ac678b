import numpy as np
import pytest

from keras_mhdeblur.hypotheses.pairs import Pairs
from keras_mhdeblur.hypotheses.selection import HeadInfo
from keras_mhdeblur.inference import guard
from keras_mhdeblur.inference.restoring import restore


def photo(height=96, width=128):
    """A smooth picture: no steps between neighbouring pixels."""
    y, x = np.mgrid[:height, :width].astype("float32")
    plane = 0.5 + 0.2 * np.sin(x / 9) + 0.2 * np.sin(y / 7)
    return np.repeat(plane[..., None], 3, axis=-1)


def block(array, row, column):
    return array[16 * row : 16 * row + 16, 16 * column : 16 * column + 16]


def test_a_photo_that_stays_or_gets_sharper_is_plausible():
    before = photo()
    edges = np.where(before > 0.5, 0.72, 0.28).astype("float32")
    assert not guard.implausible(before, before).any()
    # Means move little where the contrast is that of the edge.
    assert not guard.implausible(before, 0.5 * before + 0.5 * edges).any()


@pytest.mark.parametrize(
    "change",
    [
        lambda part: part.fill(np.nan),
        lambda part: part.fill(np.inf),
        lambda part: np.add(part, 0.6, out=part),  # against all contrast
        lambda part: np.add(part[8:, :8], 1.0, out=part[8:, :8]),  # overshoot
        lambda part: np.add(part[::2], 0.12, out=part[::2]),  # stripes
        lambda part: np.add(part[:, ::2], 0.12, out=part[:, ::2]),
        lambda part: np.add(
            part,
            0.04 * (1 - 2 * (np.indices((16, 16)).sum(axis=0) % 2))[..., None],
            out=part,
        ),
    ],
    ids=["nan", "inf", "mean", "overshoot", "rows", "columns", "checks"],
)
def test_what_a_network_made_up_is_found(change):
    before, after = photo(), photo()
    change(block(after, 2, 5))
    expected = np.zeros((6, 8), bool)
    expected[2, 5] = True
    np.testing.assert_array_equal(guard.implausible(before, after), expected)


def test_nothing_can_be_blurred_into_a_flat_surface():
    flat = np.full((64, 64, 3), 0.4, "float32")
    after = flat.copy()
    after[40, 40] += 3 / 255  # less than the mean of the block shows
    assert guard.implausible(flat, after).sum() == 1
    textured = flat + np.float32(8 / 255) * np.sin(np.arange(64) / 3)[:, None, None]
    after = textured.copy()
    after[40, 40] += 3 / 255
    assert not guard.implausible(textured, after).any()


def test_steps_of_one_pixel_in_both_directions_are_sharp():
    page = np.full((64, 64, 3), 0.9, "float32")
    page[20:26, 22:24] = 0.1  # a stroke of a letter
    page[36:40] = 0.1  # a bar: sharp across, perhaps moved along
    found = guard.implausible(page, page)
    assert found[1, 1] and found.sum() == 1
    soft = page.copy()
    for axis in (0, 1):
        soft = (soft + np.roll(soft, 1, axis)) / 2
    assert not guard.implausible(soft, soft).any()


def test_odd_sizes():
    before = photo(37, 50)
    after = before.copy()
    after[-3:, -2:] = 1.5
    found = guard.implausible(before, after)
    assert found.shape == (3, 4) and found[2, 3] and found.sum() == 1


def test_the_photo_fades_in_within_a_block():
    before, blocks = photo(), np.zeros((6, 8), bool)
    blocks[2, 5] = True
    stack = np.stack([before + 0.1, before - 0.2])
    stack[:, 32:48, 80:96] = np.nan
    kept = guard.keep_photo(stack, before, blocks)
    np.testing.assert_array_equal(block(kept[0], 2, 5), block(before, 2, 5))
    np.testing.assert_array_equal(kept[:, :8, :], stack[:, :8, :])
    change = (kept[0] - before)[..., 0]
    assert np.abs(np.diff(change, axis=0)).max() < 0.1 / 16 * 1.01
    np.testing.assert_allclose(change[40, 48], 0.1, atol=1e-6)


class Engine:
    """Brightens by 0.3: implausible everywhere. Stands for a model and an engine."""

    select, head_info = "mean", HeadInfo(Pairs(2))
    multiple, alignment, bytes_per_pixel, context = 4, 4, 700, 16
    tile_size = None

    def heads(self, image):
        return np.stack([image + 0.3, image + 0.3])

    def fold(self, weights):
        return lambda image: self.heads(image)[:1]


@pytest.mark.parametrize("hypotheses", [False, True])
@pytest.mark.parametrize("tile", [None, 64, 8])
def test_restore_keeps_the_photo(hypotheses, tile):
    flat = np.full((100, 130, 3), 77, "uint8")
    result = restore(Engine(), flat, tile=tile, hypotheses=hypotheses)
    np.testing.assert_array_equal(result.image, flat)
    assert result.kept.shape == (7, 9) and result.kept.all()
    if hypotheses:
        np.testing.assert_allclose(result.hypotheses, 77 / 255, atol=1e-6)
        assert result.select("mean").kept.all()
    result = restore(Engine(), flat, tile=tile, hypotheses=hypotheses, guard=False)
    assert (result.image > 150).all() and result.kept is None


def test_what_is_tested_is_the_selected_image():
    flat = np.full((16, 16, 3), 0.3, "float32")
    stack = np.stack([flat, flat + 0.3])
    for weights, kept in (([1, 0], False), ([0, 1], True), (None, True)):
        check = guard.Guard([(0, 16)], [(0, 16)], weights)
        check(stack, flat, slice(0, 16), slice(0, 16))
        assert check.kept.item() == kept


def test_a_block_is_remembered_by_the_tile_it_is_in_the_middle_of():
    columns = [(0, 160), (96, 256)]  # they meet at 128
    tile = photo(64, 160)

    def kept_by(span, column):
        check = guard.Guard([(0, 64)], columns)
        damaged = tile[None].copy()
        damaged[:, 16:32, 16 * column : 16 * column + 16] = np.nan
        check(damaged, tile, slice(0, 64), slice(*span))
        assert check.kept.shape == (4, 16)
        return np.argwhere(check.kept).tolist()

    assert kept_by(columns[0], 7) == [[1, 7]]
    assert kept_by(columns[0], 8) == []
    assert kept_by(columns[1], 1) == []
    assert kept_by(columns[1], 2) == [[1, 8]]
    assert kept_by(columns[1], 9) == [[1, 15]]
