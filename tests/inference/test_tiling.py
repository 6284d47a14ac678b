import io
import math
import re
import tracemalloc
import types

import keras
import numpy as np
import pytest
from PIL import Image

from keras_mhdeblur import Deblurrer
from keras_mhdeblur.engines import tiling
from keras_mhdeblur.engines.keras_engine import KerasEngine
from keras_mhdeblur.hypotheses.pairs import Pairs
from keras_mhdeblur.hypotheses.selection import HeadInfo
from keras_mhdeblur.inference.restoring import restore
from keras_mhdeblur.networks import NAFNet
from keras_mhdeblur.utils.disk_arrays import ROWS, on_disk
from keras_mhdeblur.utils.progress import ProgressBar

pytestmark = pytest.mark.usefixtures("without_guard")


@pytest.mark.parametrize("multiple", [1, 4, 16])
@pytest.mark.parametrize(
    "size, tile, context",
    [(100, 96, 0), (500, 128, 64), (1000, 256, 16), (2000, 512, 128), (37, 32, 64)],
)
def test_spans_cover_the_image_on_the_grid(size, tile, context, multiple):
    tiles = tiling.spans(size, tile, multiple, context)
    assert tiles[0][0] == 0 and tiles[-1][1] == size
    overlap = min(2 * context + tiling.FADE, tile // 2) // multiple * multiple
    for (start, stop), (following, _) in zip(tiles, tiles[1:]):
        assert start % multiple == following % multiple == 0
        assert stop - following >= overlap
    assert max(stop - start for start, stop in tiles) <= tile
    total = np.zeros(size)
    for (start, stop), weight in zip(tiles, tiling.blend_weights(tiles)):
        assert weight.min() >= 0
        total[start:stop] += weight
    np.testing.assert_allclose(total, 1, atol=1e-6)


def test_tiles_fade_in_the_middle_of_what_they_share():
    first, second = tiling.blend_weights([(0, 512), (192, 700)])
    context = (512 - 192 - tiling.FADE) // 2
    assert np.all(first[: 192 + context] == 1) and not first[512 - context :].any()
    assert np.all(second[320 - context :] == 1) and not second[:context].any()
    assert np.abs(np.diff(first)).max() < 0.03
    np.testing.assert_allclose(first[352], 0.5, atol=0.02)


def box_filter(image, radius=3):
    """A stack of one image that depends on a neighbourhood, borders included."""
    size = 2 * radius + 1
    padded = np.pad(image, ((radius, radius), (radius, radius), (0, 0)))
    height, width = image.shape[:2]
    shifted = [
        padded[y : y + height, x : x + width] for y in range(size) for x in range(size)
    ]
    return np.mean(shifted, axis=0)[None]


def run_tiled(function, image, rows, columns):
    """All bands as one image, (K, H, W, C)."""
    bands = tiling.run_tiled(
        lambda *region: function(image[region]), tiling.TilePlan(rows, columns)
    )
    parts, end = [], 0
    for top, bottom, stack in bands:
        assert top == end and stack.shape[1] == bottom - top <= ROWS
        parts.append(stack.copy())
        end = bottom
    assert end == len(image)
    return np.concatenate(parts, axis=1)


def test_a_local_operation_is_the_same_in_tiles():
    image = np.random.default_rng(0).uniform(0, 1, (300, 200, 3)).astype("float32")
    rows, columns = (tiling.spans(size, 128, 16, 4) for size in image.shape[:2])
    assert len(rows) >= 4 and len(columns) == 3
    identity = run_tiled(lambda tile: tile[None], image, rows, columns)
    np.testing.assert_allclose(identity[0], image, atol=1e-6)
    # Within 3 pixels of an inner edge a tile is wrong; those have no weight.
    tiled = run_tiled(box_filter, image, rows, columns)
    np.testing.assert_allclose(tiled, box_filter(image), atol=1e-6)


def test_a_context_of_the_size_of_the_training_crops():
    assert tiling.context_of(128) == 128
    assert tiling.context_of((96, 160)) == 160
    assert tiling.context_of(None) == tiling.FADE


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    network = NAFNet(
        width=4, encoder_blocks=(1,), middle_blocks=1, decoder_blocks=(1,), num_heads=2
    )
    # The blocks' residual branches start at zero; without the second the network is
    # convolutional, with the first its channel attention sees the whole image.
    for weight in network.weights:
        if weight.path.endswith("gamma") and "norm" not in weight.path:
            weight.assign(0.5 + 0 * weight)
    coefficients = np.random.default_rng(0).normal(0, 0.3, (2, 6)).tolist()
    return Deblurrer(network, adaptive_weights=coefficients)


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).uniform(0.3, 0.7, (170, 150, 3)).astype("float32")


def test_a_tile_that_holds_the_image_changes_nothing(model, image):
    whole = model.restore(image, tile=None)
    for tile in ("auto", 170, 4096):
        result = model.restore(image, tile=tile)
        np.testing.assert_array_equal(result.image, whole.image)


def test_tiles_of_a_convolutional_network_have_no_seams(model, image):
    whole = model.restore(image, tile=None)
    tiled = model.restore(image, tile=128)
    change = np.abs(whole.image - image).max()
    assert change > 0.05
    assert np.abs(tiled.hypotheses - whole.hypotheses).max() < 0.01 * change


def engine_of(multiple, context, tile_size=None):
    return types.SimpleNamespace(
        multiple=multiple,
        alignment=1 if tile_size else multiple,
        context=context,
        tile_size=tile_size,
        bytes_per_pixel=676,
    )


def test_auto_tiles_only_above_the_memory_limit():
    engine = engine_of(16, 96)

    def sizes(shape, megabytes):  # 700 bytes per pixel with the band, 772 with heads
        return tiling.tile_shape("auto", shape, engine, 1e6 * megabytes, 1)

    assert sizes((1000, 1000), 700) == (1000, 1000)
    # Two tiles of the whole height or width share 256 pixels.
    assert sizes((1000, 1001), 700) == (640, 1008)
    assert tiling.tile_shape("auto", (1000, 1000), engine, 700e6, 4) != (1000, 1000)
    # Wide tiles leave a lower band, of 24 bytes per pixel.
    height, width = sizes((9000, 9000), 2000)
    assert height < width and height % 16 == width % 16 == 0
    assert height * (676 * width + 24 * 9000) <= 2000e6
    for megabytes in 1, 0, -50:
        assert sizes((9000, 9000), megabytes) == (640, 640)  # the smallest: 4 (96 + 64)


def test_auto_tiles_of_a_coarse_grid():
    """Restormer's grid with `tlc_train_size=35`: wider than four contexts."""
    engine = engine_of(424, 35)
    assert tiling.tile_shape("auto", (9000, 9000), engine, 1e6, 1) == (848, 848)


def test_auto_tiles_of_a_size_of_their_own():
    engine = engine_of(64, tiling.context_of(None, 512), 512)
    for shape in (720, 1280), (512, 3000), (3000, 4000), (200, 600):
        chosen = {
            tiling.tile_shape("auto", shape, engine, 1e6 * megabytes, 4)
            for megabytes in (700, 2048, 1e6)
        }
        assert len(chosen) == 1  # whatever the memory
        (sizes,) = chosen
        assert max(sizes) <= 512 and not any(size % 64 for size in sizes)
        for length, size in zip(shape, sizes):
            tiles = tiling.spans(length, size, engine.alignment, engine.context)
            # Whole tiles, unless the image is smaller, that share 32 pixels or more.
            assert all(stop - start == min(size, length) for start, stop in tiles)
            assert all(a[1] - b[0] >= 32 for a, b in zip(tiles, tiles[1:]))
    assert tiling.tile_shape("auto", (720, 1280), engine, 1e9, 4) == (384, 448)
    assert tiling.tile_shape("auto", (512, 512), engine, 1e9, 4) == (512, 512)


def test_auto_tiles_are_the_ones_that_compute_the_least():
    engine = engine_of(16, 96)

    def pixels(shape, sizes):
        counts = (
            len(tiling.spans(length, size, 16, 96))
            for length, size in zip(shape, sizes)
        )
        return math.prod(counts) * math.prod(sizes)

    for shape in [(3000, 4000), (4000, 6000), (1066, 1600), (900, 8000)]:
        chosen = tiling.tile_shape("auto", shape, engine, 1000e6, 1)
        for height in range(640, shape[0] + 16, 48):
            width = int((1000e6 / height - 24 * shape[1]) / 676) // 16 * 16
            if width >= 640:
                sizes = height, min(width, shape[1])
                assert pixels(shape, chosen) <= 1.001 * pixels(shape, sizes)


@pytest.mark.quick_kinds("NAFNet", "HINet", "XYDeblur")
def test_tiles_of_all_networks_have_no_seams(kind, images):
    """Where a change of the image reaches all of it, tiles can but come close."""
    network = kind.small()
    for weight in network.weights:
        # MAXIM's grid spans the tile: what it mixes cannot even come close.
        if re.search("/grid(/mixing)?/(kernel|bias)$", weight.path):
            weight.assign(0 * weight)
    model = Deblurrer(network, tlc_train_size=kind.statistics(32))
    # Blocks of centred images begin where those of tiles begin.
    photo = images(1, 96, 304 if kind.centered else 300)[0]
    whole = model.restore(photo, tile=None, engine="keras").hypotheses
    tiled = model.restore(photo, tile=192, engine="keras").hypotheses
    assert np.abs(tiled - whole).max() < 2e-3


class Engine:
    """Takes nothing itself: what is left is what `restore` takes."""

    select, head_info = "mean", HeadInfo(Pairs(4))
    multiple, alignment, bytes_per_pixel, context = 16, 16, 700, 32
    tile_size = None

    def fold(self, weights):
        self.largest = 0

        def run(image):
            self.largest = max(self.largest, image[..., 0].size)
            return image[None]

        return run


@pytest.mark.parametrize("limit", [450, 900])
def test_the_limit_is_for_all_that_is_taken_beside_the_photo(limit):
    """Runtime and activations, which this engine does not take, arrays that it does."""
    engine = Engine()
    photo = np.full((3000, 4000, 3), 77, "uint8")
    tracemalloc.start()
    try:
        restore(engine, photo, hypotheses=False, guard=False, memory_limit_mb=limit)
        peak = tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()
    total = peak + 700e-6 * engine.largest + 100
    assert 0.8 * limit < total < limit


@pytest.mark.slow
def test_what_a_large_photo_takes_above_itself():
    photo = np.full((4000, 4500, 3), 77, "uint8")
    tracemalloc.start()
    try:
        result = restore(Engine(), photo, hypotheses=False, memory_limit_mb=200)
        peak = tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()
    assert (result.image == 77).all()
    # A band of tiles; the result, beside the photo, would exceed the limit.
    assert on_disk(result.image) and peak < 200


@pytest.mark.parametrize("select", ["mean", "medoid", "adaptive", (1, 0)])
def test_on_disk_as_in_memory(tmp_path, model, select):
    pytest.importorskip("pyvips")
    photo = np.random.default_rng(0).integers(0, 256, (170, 150, 4), "uint8")
    Image.fromarray(photo).save(tmp_path / "in.png")
    options = {"tile": 128, "select": select}
    memory = model.restore(tmp_path / "in.png", **options)
    disk = model.restore(tmp_path / "in.png", memory_limit_mb=0.001, **options)
    assert on_disk(disk.uncertainty) and not on_disk(memory.uncertainty)
    np.testing.assert_array_equal(disk.image, memory.image)
    np.testing.assert_array_equal(disk.select(0).image, memory.select(0).image)
    np.testing.assert_array_equal(disk.hypotheses, memory.hypotheses)
    np.testing.assert_array_equal(disk.uncertainty, memory.uncertainty)
    for number, result in enumerate((memory, disk)):
        result.save(tmp_path / f"{number}.png")
        result.save_uncertainty(tmp_path / f"{number}_map.png")
    for kind in ("", "_map"):
        files = [tmp_path / f"{number}{kind}.png" for number in (0, 1)]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_memory_of_nafnet():
    network = NAFNet(
        width=16, encoder_blocks=(1,), middle_blocks=1, decoder_blocks=(1,)
    )
    # What was measured, and a little more.
    assert 676 <= KerasEngine(network).bytes_per_pixel <= 1.2 * 676


def test_auto_tiles_an_image(model, image):
    # 512 is the smallest tile.
    tall = np.concatenate([image, image[::-1]] * 2)
    whole = model.restore(tall, tile=None, hypotheses=False)
    tiled = model.restore(tall, memory_limit_mb=1, hypotheses=False)
    difference = np.abs(tiled.image - whole.image).max()
    assert 0 < difference < 1e-3


@pytest.mark.parametrize("tile", [3, 0, -64, "some", 64.5])
def test_wrong_tiles_are_refused(model, image, tile):
    with pytest.raises(ValueError, match="`tile`.*Received: tile="):
        model.restore(image, tile=tile)


def test_wrong_memory_limit_is_refused(model, image):
    with pytest.raises(ValueError, match="Received: memory_limit_mb=0"):
        model.restore(image, memory_limit_mb=0)


def test_progress_over_tiles(model, image, capsys):
    model.restore(image, tile=128, progress=True)
    text = capsys.readouterr().err
    places = [text.index(f"{done}/4") for done in range(1, 5)]
    assert places == sorted(places)


def test_progress_is_told_to_a_function(model, image):
    counts = []
    model.restore(image, tile=128, progress=lambda *numbers: counts.append(numbers))
    assert counts == [(done, 4) for done in range(5)]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_bar_in_a_terminal_is_one_line(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    file = Terminal()
    bar = ProgressBar(2, file)
    for name in ("a" * 100, "b.jpg"):
        bar.start(name)
        bar.finish(name)
    bar.close()
    text = file.getvalue()
    assert text.count("\n") == 1 and text.endswith("\n")
    shown = [part.removesuffix("\x1b[K") for part in text.rstrip("\n").split("\r")]
    assert max(map(len, shown)) < 60
    assert shown[-1].startswith("[====================] 2/2  b.jpg")


def test_progress_within_an_item(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    file = Terminal()
    bar = ProgressBar(2, file)
    bar.last -= 30
    bar.advance("a.jpg", 0, 1)  # nothing to tell
    bar.advance("a.jpg", 0, 4)
    bar.advance("a.jpg", 1, 4)
    first, second = file.getvalue().removeprefix("\r").split("\r")
    assert first == "[                    ] 0/2  a.jpg: tile 0 of 4 ...\x1b[K"
    assert (
        second == "[                    ] 0/2  a.jpg: tile 1 of 4 ...  ETA 01:30\x1b[K"
    )


def test_progress_bar_in_a_log_is_a_line_per_item():
    file = io.StringIO()
    bar = ProgressBar(2, file)
    bar.start("a.jpg")
    bar.finish("a.jpg")
    bar.message("b.jpg is broken")
    bar.finish("b.jpg")
    bar.last -= 30
    for done in range(4):
        bar.advance("c.jpg", done, 4)
    bar.close()
    first, message, last, estimate = file.getvalue().splitlines()
    assert estimate.endswith("c.jpg: tile 1 of 4 ...  ETA 01:30")
    assert first.startswith("[==========          ] 1/2  a.jpg  0.0 s  ETA 00:")
    assert message == "b.jpg is broken" and "2/2  b.jpg" in last
    assert "\r" not in file.getvalue()
