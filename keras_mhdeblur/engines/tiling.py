"""Photos larger than memory: overlapping tiles, blended in bands of rows."""

import dataclasses
import itertools
import math

import numpy as np

from keras_mhdeblur.utils.disk_arrays import bands

# Pixels over which one tile fades into its neighbour, at most half of what they share.
FADE = 64
# Bytes per value of a band of tiles that is being blended: itself, and the part of it
# that moves on to the next one.
_BAND_BYTES = 8


def context_of(tlc_train_size, tile_size=None):
    """Pixels of a tile's border that only serve the pixels further inside.

    Without them a seam would show: convolutions and local statistics are others where
    an image ends. With windows of 1.5 times `tlc_train_size` (TLC), as many pixels
    keep `nafnet_mh_c` in tiles within 1 of 255 levels of it at once.

    Args:
        tlc_train_size: size of the training crops in pixels, one number or (height,
            width); None for global statistics, which differ from tile to tile anyway.
        tile_size: of the network, see `RestorationNetwork`. Where it is given, every
            pixel depends on its whole tile and no border would help: tiles share no
            more than half of `FADE`.
    """
    if tile_size is not None:
        return -FADE // 4
    return FADE if tlc_train_size is None else int(np.max(tlc_train_size))


@dataclasses.dataclass(frozen=True)
class TilePlan:
    """The tiles of an image.

    Attributes:
        rows, columns: `spans` of the height and of the width.
    """

    rows: list
    columns: list

    @classmethod
    def of(cls, tile, shape, engine, memory, num_images):
        """The plan for an image; see `tile_shape` for the arguments and errors."""
        sizes = tile_shape(tile, shape, engine, memory, num_images)
        return cls(
            *(
                spans(length, size, engine.alignment, engine.context)
                for length, size in zip(shape, sizes)
            )
        )

    def __len__(self):
        return len(self.rows) * len(self.columns)


def tile_shape(tile, shape, engine, memory, num_images):
    """Height and width of the tiles of an image, multiples of the network's.

    Args:
        tile: None (the whole image at once), a number of pixels, or "auto": of the
            tiles that fit into memory, and are no larger than the engine's
            `tile_size`, those with the fewest pixels in all.
        shape: (H, W) of the image.
        engine: what computes, see `KerasEngine`: its `multiple`, `alignment`,
            `context`, `tile_size` and `bytes_per_pixel`.
        memory: bytes for the network's activations and for the band of tiles that are
            blended, for "auto". The smallest tiles may take more.
        num_images: images per tile that are blended.

    Returns:
        (height, width); the image is not tiled if they are no smaller than H and W.

    Raises:
        ValueError: if `tile` is anything else or too small for the network.
    """
    multiple = engine.multiple
    if tile is None:
        return shape
    if isinstance(tile, str) and tile == "auto":
        band = 3 * num_images * _BAND_BYTES
        largest = engine.tile_size or math.inf
        whole = math.prod(shape) * (engine.bytes_per_pixel + band) <= memory
        if whole and max(shape) <= largest:
            return shape
        grids = list(
            itertools.product(*(_divisions(length, engine) for length in shape))
        )
        fitting = [
            (rows * height * columns * width, (height, width))
            for (rows, height), (columns, width) in grids
            if max(height, width) <= largest
            if height * (width * engine.bytes_per_pixel + shape[1] * band) <= memory
        ]
        if fitting:
            return min(fitting)[1]
        return tuple(size for _, size in grids[-1])
    if not isinstance(tile, (int, np.integer)) or tile < 2 * multiple:
        raise ValueError(
            f'`tile` must be None, "auto" or a number of pixels of at least '
            f"{2 * multiple}. Received: tile={tile!r}"
        )
    size = int(tile) + -int(tile) % multiple
    return size, size


def _divisions(length, engine):
    """Yields numbers of tiles along an axis and their size, from one tile onwards."""
    multiple = engine.multiple
    overlap = _overlap(engine.alignment, engine.context)
    # A smaller one would be border for the most part.
    smallest = max(4 * (max(engine.context, 0) + FADE) // multiple, 2) * multiple
    size = length + -length % multiple
    yield 1, size
    count = 2
    while size > smallest:
        size = (length + (count - 1) * overlap) / count
        size = max(math.ceil(size / multiple) * multiple, smallest)
        yield count, size
        count += 1


def _overlap(multiple, context):
    return (2 * context + FADE) // multiple * multiple


def spans(size, tile, multiple, context):
    """Start and stop of the tiles along one axis of an image.

    Tiles begin at multiples of `multiple`, so that the network's down-sampling grid
    lies as in the whole image (1: anywhere, and all are of one size), overlap by
    `2 * context + FADE` pixels or more (less for tiles under twice that), and end with
    the image.
    """
    if tile >= size:
        return [(0, size)]
    overlap = min(_overlap(multiple, context), tile // 2 // multiple * multiple)
    last = math.ceil((size - tile) / multiple)
    count = math.ceil(last / ((tile - overlap) // multiple))
    starts = [multiple * (last * index // count) for index in range(count + 1)]
    return [(start, min(start + tile, size)) for start in starts]


def blend_weights(tiles):
    """Weights of each tile along one axis that sum to one everywhere.

    Two tiles fade into each other in the middle of what they share.
    """
    weights = [np.ones(stop - start, "float32") for start, stop in tiles]
    for index, ((_, stop), (start, _)) in enumerate(zip(tiles, tiles[1:])):
        shared = stop - start
        fade = min(FADE, shared // 2)
        position = np.arange(shared) + 0.5 - (shared - fade) / 2
        rising = np.sin(np.pi / 2 * np.clip(position / fade, 0, 1)) ** 2
        weights[index][-shared:] *= 1 - rising
        weights[index + 1][:shared] *= rising
    # Of small tiles three may meet.
    total = np.zeros(tiles[-1][1])
    for weight, (start, stop) in zip(weights, tiles):
        total[start:stop] += weight
    return [
        (weight / total[start:stop]).astype("float32")
        for weight, (start, stop) in zip(weights, tiles)
    ]


def run_tiled(function, plan, on_tile=None):
    """Runs a function over the tiles of an image and gives its result band by band.

    Args:
        function: from two slices, rows and columns, to float32 (K, h, w, C).
        plan: `TilePlan` of the image.
        on_tile: called after every tile.

    Yields:
        (top, bottom, stack): some rows of the image, from top to bottom, and float32
        (K, bottom - top, W, C), which is overwritten later.
    """
    rows, columns = plan.rows, plan.columns
    shape = rows[-1][1], columns[-1][1]
    if len(plan) == 1:
        band = function(slice(0, shape[0]), slice(0, shape[1]))
        if on_tile is not None:
            on_tile()
        yield from _in_parts(band, 0, shape[0])
        return
    row_weights, column_weights = blend_weights(rows), blend_weights(columns)
    starts = [top for top, _ in rows[1:]] + [shape[0]]
    band = None
    for (top, bottom), following, row_weight in zip(rows, starts, row_weights):
        for (left, right), column_weight in zip(columns, column_weights):
            stack = function(slice(top, bottom), slice(left, right))
            if band is None:
                height = max(stop - start for start, stop in rows)
                size = (len(stack), height, shape[1], stack.shape[-1])
                band = np.zeros(size, "float32")
            weight = row_weight[:, None, None] * column_weight[:, None]
            band[:, : bottom - top, left:right] += stack * weight
            if on_tile is not None:
                on_tile()
        yield from _in_parts(band, top, following)
        # What the next tiles share with these moves to the front.
        shared = bottom - following
        band[:, :shared] = band[:, following - top : bottom - top].copy()
        band[:, shared:] = 0


def _in_parts(band, top, bottom):
    for rows in bands(bottom - top):
        yield top + rows.start, top + rows.stop, band[:, rows]


def cores(spans):
    """Start of each tile -> the part of the axis whose tile it is, by the middle."""
    inner = [(stop + start) // 2 for (_, stop), (start, _) in zip(spans, spans[1:])]
    edges = [0, *inner, spans[-1][1]]
    return {start: edges[k : k + 2] for k, (start, _) in enumerate(spans)}


def head_images(engine, image, memory):
    """Head images (K, H, W, C) of an image (H, W, C), in the tiles that `restore` has.

    Args:
        engine: `KerasEngine` or `LiteRTModel`.
        image: the blurry image, float32 in [0, 1].
        memory: bytes for the network's activations and for tiles, see `tile_shape`.
    """
    shape = image.shape[:2]
    plan = TilePlan.of("auto", shape, engine, memory, engine.num_heads)
    bands = run_tiled(lambda *place: engine.heads(image[place]), plan)
    return np.concatenate([stack.copy() for _, _, stack in bands], axis=1)
