"""Pairs decoded once into memory-mapped arrays, for fast training."""

import json
import os
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from keras_mhdeblur.data.folders import decoded_pairs, sound_pairs
from keras_mhdeblur.data.patches import (
    Patches,
    check_pass,
    drawn_patch,
    to_unit,
    visited_image,
    visits,
)
from keras_mhdeblur.utils.types import FilePairs, PathLike

_ARRAYS = ("blurry.npy", "sharp.npy")
_INDEX = "index.json"


def prepared_size(
    pairs: FilePairs,
    tile_size: int | None = None,
    step: int | None = None,
    *,
    skip_broken: bool = False,
) -> int:
    """Bytes on disk that `prepare` will need; reads all files to check them.

    Args:
        pairs, tile_size, step, skip_broken: as in `prepare`.

    Returns:
        Number of bytes.

    Raises:
        ValueError: files cannot be used, and the message names them; or the step is
            wrong.
    """
    _, tiles = _sound_tiles(pairs, tile_size, step, skip_broken)
    return 2 * int(np.prod(_shape(tiles)))


def prepare(
    pairs: FilePairs,
    output: PathLike,
    tile_size: int | None = None,
    step: int | None = None,
    *,
    skip_broken: bool = False,
    progress: Callable[[int, int], Any] | None = None,
) -> pathlib.Path:
    """Decodes pairs once, into arrays that `prepared_folder` reads patches from.

    The folder holds `blurry.npy` and `sharp.npy`, uint8 (N, H, W, 3), and `index.json`
    with the files and origins of the N images. It appears only when it is complete: a
    preparation that was stopped leaves OUTPUT.partial, which the next one starts anew.

    Args:
        pairs: iterable of (blurry path, sharp path), for example a `Benchmark`.
        output: new folder.
        tile_size: None for whole images, which must have one size, or the side of the
            square tiles they are cut into; 512 with step 256 is customary for GoPro (8
            tiles of an image; they overlap, so that this takes 2.3 times the disk).
        step: pixels from tile to tile, at most `tile_size`; None for 256, or for
            `tile_size` if that is less. The last ones of a row or column lie at the
            edge.
        skip_broken: leave out broken pairs instead of raising.
        progress: function of the numbers of finished and of all pairs, called after
            each.

    Returns:
        `pathlib.Path` of the folder.

    Raises:
        ValueError: files cannot be used, the folder exists, or the disk has too little
            free space, and the message names them; or the step is wrong.
    """
    output = pathlib.Path(output)
    if output.exists():
        raise ValueError(
            "`output` must be a new folder; this one exists. "
            f"Received: output={str(output)!r}"
        )
    pairs, tiles = _sound_tiles(pairs, tile_size, step, skip_broken)
    shape = _shape(tiles)
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(output.name + ".partial")
    for name in (*_ARRAYS, _INDEX):
        (partial / name).unlink(missing_ok=True)
    needed, free = 2 * int(np.prod(shape)), shutil.disk_usage(output.parent).free
    if needed > free:
        raise ValueError(
            f"{needed / 1e9:.1f} GB are needed on the disk, {free / 1e9:.1f} GB are "
            f"free. Received: output={str(output)!r}"
        )
    partial.mkdir(exist_ok=True)
    _write_arrays(partial, pairs, tiles, shape, progress)
    index = {
        "shape": shape,
        "pairs": _relative_names(pairs),
        "tiles": [tile[:3] for tile in tiles],  # number of the pair, row, column
    }
    (partial / _INDEX).write_text(json.dumps(index) + "\n")
    partial.rename(output)
    return output


def prepared_folder(folder: PathLike, patches: Patches) -> tf.data.Dataset:
    """Patches of pairs that `prepare` has decoded.

    From whole images the patches are those that `paired_files` draws from the same
    pairs with the same seed and one crop per image, so a training may go on with the
    other source. Tiles are images of their own: one pass visits each of them once.

    Args:
        folder: folder that `prepare` made.
        patches: `Patches`, with one crop per image.

    Returns:
        `tf.data.Dataset` of (blurry, sharp), float32 (B, patch_size, patch_size, 3) in
        [0, 1].

    Raises:
        ValueError: the folder is incomplete, its images are smaller than a patch,
            several crops per image are asked for, or one pass has fewer patches than a
            batch.
    """
    if patches.crops_per_image not in (None, 1):
        raise ValueError(
            "Prepared images give one crop each, as they need no decoding. "
            f"Received: patches.crops_per_image={patches.crops_per_image}"
        )
    images = _open_arrays(pathlib.Path(folder))
    count, *image_size = images[0].shape
    patch_size, batch_size = patches.patch_size, patches.batch_size
    if patch_size > min(image_size):
        height, width = image_size
        raise ValueError(
            f"Patches must be no larger than the prepared images, {width}x{height} "
            f"pixels. Received: patch_size={patch_size}"
        )
    if patches.stream_from is None:
        check_pass(count, batch_size)
    seed = patches.short_seed
    limits = tf.constant([side - patch_size + 1 for side in image_size])

    def draw(visit):
        image = visited_image(visit, count, seed)
        origin, turns = drawn_patch(visit, seed, limits)
        turns = tf.cast(turns if patches.augment else tf.zeros_like(turns), tf.int64)
        return tf.concat([[image], tf.cast(origin, tf.int64), turns], axis=0)

    def read(draws):
        """uint8 (2, B, size, size, 3) of the draws of a batch."""
        batch = np.empty((2, len(draws), patch_size, patch_size, 3), "uint8")
        pixels = _whole_pixels(batch)
        for k, (image, y, x, *turns) in enumerate(draws):
            for both, source in zip(pixels, images):
                patch = source[image, y : y + patch_size, x : x + patch_size]
                patch = patch[::-1] if turns[0] else patch
                patch = patch[:, ::-1] if turns[1] else patch
                both[k] = patch.T if turns[2] else patch
        return batch

    def load(draws):
        both = tf.numpy_function(read, [draws], tf.uint8, stateful=False)
        both.set_shape((2, batch_size, patch_size, patch_size, 3))
        return to_unit(both[0]), to_unit(both[1])

    dataset = visits(count, seed, patches.first_visit()).map(draw)
    dataset = dataset.batch(batch_size, drop_remainder=True)
    return dataset.map(load, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def _sound_tiles(pairs, tile_size, step, skip_broken):
    """The usable pairs, and their tiles as `_tiles` lists them."""
    if tile_size is not None:
        step = min(256, tile_size) if step is None else step
        if not 1 <= step <= tile_size:  # pixels between the tiles would be lost
            raise ValueError(
                f"`step` must be between 1 and `tile_size`, {tile_size}. "
                f"Received: step={step}"
            )
    pairs = sound_pairs(pairs, tile_size, skip_broken)
    return pairs, _tiles(pairs, tile_size, step)


def _tiles(pairs, tile_size, step):
    """List of (number of the pair, row, column, height, width)."""
    sizes = []
    for blurry, _ in pairs:
        with Image.open(blurry) as image:
            sizes.append(image.size[::-1])
    if tile_size is None:
        if len(set(sizes)) > 1:
            raise ValueError(
                "The images have several sizes, so they must be cut into tiles of one "
                "size. Received: tile_size=None"
            )
        return [(k, 0, 0, *size) for k, size in enumerate(sizes)]
    return [
        (k, y, x, tile_size, tile_size)
        for k, (height, width) in enumerate(sizes)
        for y in _origins(height, tile_size, step)
        for x in _origins(width, tile_size, step)
    ]


def _origins(length, tile_size, step):
    origins = list(range(0, length - tile_size + 1, step))
    if origins[-1] + tile_size < length:
        origins.append(length - tile_size)
    return origins


def _shape(tiles):
    return (len(tiles), *tiles[0][3:], 3)


def _relative_names(pairs):
    """Paths of the pairs from their common folder."""
    absolute = [[path.absolute() for path in pair] for pair in pairs]
    root = os.path.commonpath([path.parent for pair in absolute for path in pair])
    return [[path.relative_to(root).as_posix() for path in pair] for pair in absolute]


def _write_arrays(folder, pairs, tiles, shape, progress):
    # Plain writing: a full disk is an error here, but kills who writes to a memory map.
    files = [open(folder / name, "wb") for name in _ARRAYS]
    try:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        for file in files:
            np.lib.format.write_array_header_1_0(file, header)
        rest = iter(tiles)
        tile = next(rest)
        for number, both in enumerate(decoded_pairs(pairs).as_numpy_iterator()):
            while tile and tile[0] == number:
                _, y, x, height, width = tile
                cut = both[y : y + height, x : x + width]
                for file, image in zip(files, (cut[..., :3], cut[..., 3:])):
                    file.write(image.tobytes())
                tile = next(rest, None)
            if progress:
                progress(number + 1, len(pairs))
        for file in files:
            file.flush()
            os.fsync(file.fileno())
    finally:
        for file in files:
            file.close()


def _open_arrays(folder):
    """The two arrays (N, H, W) of whole pixels, mapped into memory."""
    if not (folder / _INDEX).is_file():
        raise ValueError(
            "The folder holds no prepared pairs (`prepare` makes them). "
            f"Received: folder={str(folder)!r}"
        )
    arrays = []
    for name in _ARRAYS:
        try:
            arrays.append(np.load(folder / name, mmap_mode="r"))
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{name} cannot be read ({error}). Received: folder={str(folder)!r}"
            ) from None
    return [_whole_pixels(array) for array in arrays]


def _whole_pixels(array):
    """View (..., 3) uint8 as (...) of one 3-byte item each: flips cost half as much."""
    return array.view("V3")[..., 0]
