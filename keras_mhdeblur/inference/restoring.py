"""Restores photos: photos -> engine -> hypotheses -> photos."""

import math
from typing import Literal

import numpy as np

from keras_mhdeblur.engines.rgb import check_rgb
from keras_mhdeblur.engines.tiling import TilePlan, run_tiled
from keras_mhdeblur.hypotheses.stacks import weighted_mean
from keras_mhdeblur.inference.engine_choice import choose_engine
from keras_mhdeblur.inference.guard import Guard
from keras_mhdeblur.inference.result import RestoreResult, selected_values
from keras_mhdeblur.inference.trust import MomentsOfTiles, calibration_of, gate
from keras_mhdeblur.photos import photos_of
from keras_mhdeblur.utils.disk_arrays import Budget
from keras_mhdeblur.utils.progress import tile_progress
from keras_mhdeblur.utils.types import (
    AnyDeblurrer,
    Engine,
    ImageLike,
    LocalStatistics,
    Progress,
    Select,
)

# Memory of the command before its first photo: Python, its libraries and the model.
_RUNTIME_BYTES = 100e6


def restore(
    model: AnyDeblurrer,
    image: ImageLike,
    *,
    select: Select | None = None,
    hypotheses: bool = True,
    tile: int | Literal["auto"] | None = "auto",
    memory_limit_mb: float = 2048,
    tlc_train_size: LocalStatistics = "model",
    engine: Engine = "auto",
    guard: bool = True,
    progress: Progress = False,
) -> RestoreResult:
    """Restores a blurry photo.

    Args:
        model: `Deblurrer` or `LiteRTModel`.
        image: path of an image file, PIL image, `Photo`, or array (H, W),
            (H, W, C) or (B, H, W, C) with C of 1, 3 (RGB) or 4 (RGB and alpha): uint8,
            uint16, or float in [0, 1]. Gray is restored as RGB and averaged back,
            alpha is passed through.
        select: how one image is made of the hypotheses; `model.select` by default.
            "mean": their average. "medoid": the one nearest to the average, in MSE
            before clipping. "single": `model.best_pair`. "adaptive": a mean of the
            heads whose weights follow what they do at a place, which needs
            `model.adaptive_weights`. (i, j): the average of the heads i and j; i: the
            head i. K' floats that sum to one: the hypotheses' weights. A function of
            the hypotheses (K', H, W, C), float32 in [0, 1], to an index or an image
            (H, W, C).
        hypotheses: whether to keep the head images, which `result.hypotheses` and
            `result.uncertainty` need. Without them "mean", "single", (i, j) and weights
            cost what a network with a single head costs.
        tile: "auto", tile size in pixels, or None: the whole image at once. Tiles
            overlap by twice the size of the training crops and are blended; those
            below 4 to 5 times that size overlap less, and seams may show. Those of a
            network with a `tile_size` (MAXIM) overlap by 64 pixels at least, and
            "auto" takes the same ones whatever the memory, as long as they fit.
        memory_limit_mb: memory in MB beside the image, an estimate, for "auto". It
            covers the runtime, the network's activations, the blended tiles, the
            result and, with `hypotheses`, the head images (12 bytes per head and
            pixel). Result and head images take a quarter of the limit at most; the
            rest of them lies in temporary files (TMPDIR). The smallest tile may need
            more. Keras needs 600 MB more. A function as `select` gets all hypotheses
            in memory.
        tlc_train_size: size in pixels of the training crops for TLC, None for
            global statistics; "model": as the model has it.
        engine: what computes. "keras": Keras, on its devices. "litert": LiteRT, about
            twice as fast on a CPU; a model without a LiteRT file for its present
            weights is exported first, into the user's cache. "auto": LiteRT if there
            is such a file and no GPU, else Keras.
        guard: whether to keep the photo where the restored image cannot be what was
            blurred: where the mean of a block changes against all contrast, values
            overshoot, or patterns of single pixels appear (`result.kept`). Of "medoid",
            "adaptive" and functions it is the mean of the head images that is tested.
            A photo that a model with a `calibration` is not expected to make better is
            then left as it is, or changed in part (`result.share`); this holds for the
            model's own `select`.
        progress: whether to show a progress bar over images and tiles on stderr; or a
            function that is called with the numbers of tiles done and in all, first
            with 0.

    Returns:
        `RestoreResult`.

    Raises:
        ImageFileError: if the file cannot be read.
        ValueError: if an argument is out of its range.

    Example:

    ```python
    result = restore(model, "photo.jpg")
    result.save("sharp.png")
    result.save_uncertainty("uncertainty.png")
    ```
    """
    check_memory_limit(memory_limit_mb)
    check_rgb(model)
    info = model.head_info
    selection = info.parse(model.select if select is None else select)
    photos, array = photos_of(image, memory_limit_mb)
    # It is of the guarded image.
    calibrated = guard and tlc_train_size == "model"
    calibration = calibration_of(model, select) if calibrated else None
    engine = choose_engine(model, engine, tlc_train_size)

    # Tiles of head images are blended, or, without hypotheses, tiles of the image.
    keep_heads = hypotheses or not selection.is_local
    num_images = info.pairs.num_heads if keep_heads else 1
    for_results, for_tiles = memory_shares(
        memory_limit_mb, photos, num_images if keep_heads else 0, _RUNTIME_BYTES
    )
    plan = TilePlan.of(tile, photos[0].values.shape[:2], engine, for_tiles, num_images)
    restorer = _Restorer(
        engine, selection, plan, keep_heads, guard, calibration, for_results
    )
    with tile_progress(progress, len(photos) * len(plan)) as on_tile:
        images, stacks, kept, trust = zip(
            *[restorer.restored(photo, on_tile) for photo in photos]
        )
    return RestoreResult(
        photos=photos,
        images=images,
        array=array,
        heads=stacks if hypotheses else None,
        kept=kept if guard else None,
        info=info,
        trust=trust if calibration is not None else None,
    )


def check_memory_limit(memory_limit_mb):
    """Raises a ValueError for a limit that is not positive."""
    if not memory_limit_mb > 0:
        raise ValueError(
            "`memory_limit_mb` must be positive. "
            f"Received: memory_limit_mb={memory_limit_mb}"
        )


def memory_shares(memory_limit_mb, photos, num_heads, runtime_bytes):
    """Bytes for the results and head images of photos, and bytes for their tiles."""
    memory = 1e6 * memory_limit_mb
    results = sum(
        photo.values.nbytes + num_heads * math.prod(photo.values.shape[:2]) * 12
        for photo in photos
    )
    # The rest of them goes to disk, so that tiles do not become all border.
    results = min(results, memory / 4)
    return results, memory - results - runtime_bytes


class _Restorer:
    """Restores photos of one size, tile by tile.

    Args:
        engine: `KerasEngine` or `LiteRTModel`.
        selection: `Selection`.
        plan: `TilePlan`.
        keep_heads: whether head images are kept; needed unless the selection is local.
        guard: whether to keep the photo where a tile is implausible.
        calibration: `Calibration`, to keep it where no gain is expected, or None.
        memory: bytes for results in memory; further ones are on disk.
    """

    def __init__(self, engine, selection, plan, keep_heads, guard, calibration, memory):
        self.selection = selection
        self.plan = plan
        self.keep_heads = keep_heads
        self.guard = guard
        self.calibration = calibration
        self.budget = Budget(memory)
        self.weights = selection.weights
        if keep_heads or self.weights is None or calibration is not None:
            self.compute = engine.heads
        else:
            # The stack then has one image, which the engine has averaged.
            self.compute, self.weights = engine.fold(self.weights), np.ones(1)

    def restored(self, photo, on_tile):
        """What is made of a photo.

        Returns:
            Values (H, W, C), head images (K, H, W, C) or None, the kept blocks or None,
            and `Trust` or None.
        """
        guard = found = None
        if self.calibration is not None:
            found = MomentsOfTiles(self.plan)
        if self.guard:
            guard = Guard(self.plan.rows, self.plan.columns, self.weights)

        def tile(rows, columns):
            blurry = photo.crop(rows, columns)
            stack = self.compute(blurry)
            if found is not None:
                found.add(stack, blurry, rows, columns)
            if guard is not None:
                stack = guard(stack, blurry, rows, columns)
            if not self.keep_heads and len(stack) > 1:
                stack = self.selection.image(stack, blurry)[None]
            return stack

        values, heads = self._collected(run_tiled(tile, self.plan, on_tile), photo)
        if values is None:
            values = selected_values(heads, photo, self.selection)
        trust = None
        if found is not None:
            trust = gate(values, photo, self.calibration, found.sums)
        return values, heads, None if guard is None else guard.kept, trust

    def _collected(self, bands, photo):
        """Values and head images of a photo, of bands of its rows; None for neither."""
        height, width = photo.values.shape[:2]
        channels = 1 if photo.gray else 3
        values = heads = None
        if not self.keep_heads or self.weights is not None:
            shape = (height, width, channels)
            values = self.budget.empty(shape, photo.values.dtype)
        for top, bottom, stack in bands:
            if photo.gray:
                stack = stack.mean(axis=-1, keepdims=True)
            if values is not None:
                values[top:bottom] = photo.values_of(self._image(stack))
            if self.keep_heads:
                if heads is None:
                    shape = (len(stack), height, width, channels)
                    heads = self.budget.empty(shape, "float32")
                heads[:, top:bottom] = stack
        return values, heads

    def _image(self, stack):
        return weighted_mean(stack, self.weights) if self.keep_heads else stack[0]
