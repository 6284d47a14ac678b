"""Restores photos."""

import functools
import math
import operator
from pathlib import Path

import numpy as np

from keras_mhdeblur import scratch
from keras_mhdeblur.combination import pair_indices
from keras_mhdeblur.images import Photo, photos_of, write_image
from keras_mhdeblur.inference import selection, tiling
from keras_mhdeblur.inference.adaptive import adaptive_bands, adaptive_mean
from keras_mhdeblur.inference.guard import Guard
from keras_mhdeblur.inference.heatmap import heat_map
from keras_mhdeblur.inference.progress import ProgressBar
from keras_mhdeblur.inference.shifts import shift_map

# What the command takes before its first photo: Python, its libraries and the model.
_RUNTIME_BYTES = 100e6


def restore(
    model,
    image,
    *,
    select=None,
    hypotheses=True,
    tile="auto",
    memory_limit_mb=2048,
    local_statistics="model",
    engine="auto",
    guard=True,
    progress=False,
):
    """Restores a blurry photo.

    Args:
        model: `Deblurrer` or `LiteRTModel`.
        image: path of an image file, PIL image, `images.Photo`, or array (H, W),
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
        memory_limit_mb: the memory in MB that may be taken beside the image, by an
            estimate, for "auto": by the runtime, the network's activations, the tiles
            that are blended, the result and, with `hypotheses`, the head images (12
            bytes per head and pixel). Of the latter two a quarter of the limit is in
            memory, and what exceeds it in files of the temporary folder (TMPDIR). The
            smallest tile may take more, Keras takes 600 MB more for itself, and a
            `select` that is a function is given all hypotheses in memory.
        local_statistics: size in pixels of the training crops for TLC, None for
            global statistics; "model": as the model has it.
        engine: what computes. "keras": Keras, on its devices. "litert": LiteRT, about
            twice as fast on a CPU; a model without a LiteRT file for its present
            weights is exported first, into the user's cache. "auto": LiteRT if there
            is such a file and no GPU, else Keras.
        guard: whether to keep the photo where the restored image cannot be what was
            blurred: where the mean of a block changes against all contrast, values
            overshoot, or patterns of single pixels appear (`result.kept`). Of "medoid",
            "adaptive" and functions it is the mean of the head images that is tested.
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
    if not memory_limit_mb > 0:
        raise ValueError(
            "`memory_limit_mb` must be positive. "
            f"Received: memory_limit_mb={memory_limit_mb}"
        )
    check_rgb(model)
    select = model.select if select is None else select
    weights = selection.head_weights(model, select)
    photos, array = photos_of(image, memory_limit_mb)

    runner = model.inference_engine(engine, local_statistics)
    adaptive = isinstance(select, str) and select == "adaptive"
    # Whether tiles are blended as one image, not as the head images.
    single = not hypotheses and (adaptive or weights is not None)
    fold = single and not adaptive
    function = runner.fold(weights) if fold else runner.heads
    shape = photos[0].values.shape[:2]
    for_results, for_tiles = _shares(
        1e6 * memory_limit_mb, photos, 0 if single else model.num_heads
    )
    budget = scratch.Budget(for_results)
    sizes = tiling.tile_shape(
        tile, shape, runner, for_tiles, 1 if single else model.num_heads
    )
    rows, columns = (
        tiling.spans(length, size, runner.alignment, runner.context)
        for length, size in zip(shape, sizes)
    )
    count = len(photos) * len(rows) * len(columns)
    bar = ProgressBar(count) if progress and not callable(progress) else None
    on_tile = bar and bar.finish
    if callable(progress):
        numbers = iter(range(count + 1))

        def on_tile():
            progress(next(numbers), count)

        on_tile()

    choose = None
    # Folded heads are weighted already.
    tested = None if single else weights
    if single:
        choose = operator.itemgetter(0)
    elif weights is not None:
        choose = functools.partial(selection.weighted_mean, weights=weights)
    images, stacks, guards = [], [], []
    for photo in photos:
        guards.append(Guard(rows, columns, tested) if guard else None)

        def run(rows, columns, photo=photo, check=guards[-1]):
            pixels = photo.crop(rows, columns)
            stack = function(pixels)
            if check is not None:
                stack = check(stack, pixels, rows, columns)
            if single and adaptive:
                stack = adaptive_mean(stack, pixels, model.adaptive_weights)[None]
            return stack

        values, heads = _collect(
            tiling.run_tiled(run, shape, rows, columns, on_tile),
            photo,
            choose=choose,
            keep_heads=not single,
            empty=budget.empty,
        )
        if values is None:
            values = _chosen(heads, photo, select, model)
        images.append(values)
        stacks.append(heads)
    if bar is not None:
        bar.close()

    return RestoreResult(
        photos=photos,
        images=images,
        array=array,
        heads=stacks if hypotheses else None,
        kept=[check.kept for check in guards] if guard else None,
        facts=selection.Facts(
            model.num_heads,
            model.combine_heads,
            model.best_pair,
            model.adaptive_weights,
        ),
    )


def check_rgb(model):
    """Raises a ValueError where a model is not one of RGB images."""
    channels = getattr(getattr(model, "network", None), "image_channels", 3)
    if channels != 3:
        raise ValueError(
            "`model` must restore RGB images; call the model itself for others. "
            f"Received: model.network.image_channels={channels}"
        )


def _shares(memory, photos, num_heads):
    """Bytes for the results and head images of photos, and bytes for their tiles."""
    results = sum(
        photo.values.nbytes + num_heads * math.prod(photo.values.shape[:2]) * 12
        for photo in photos
    )
    # The rest of them goes to disk, so that tiles do not become all border.
    results = min(results, memory / 4)
    return results, memory - results - _RUNTIME_BYTES


def _collect(bands, photo, choose, keep_heads, empty):
    """Restored values of a photo, and its head images, of bands of its rows.

    Args:
        bands: iterable of (top, bottom, stack), as `tiling.run_tiled` gives them.
        photo: the blurry `Photo`.
        choose: function from a stack to one image, or None.
        keep_heads: whether to keep the head images.
        empty: function from shape and dtype to an array.

    Returns:
        (values, heads): (H, W, C) of the photo's dtype, or None without `choose`;
        float32 (K, H, W, C), or None.
    """
    height, width = photo.values.shape[:2]
    channels = 1 if photo.gray else 3
    values = heads = None
    if choose is not None:
        values = empty((height, width, channels), photo.values.dtype)
    for top, bottom, stack in bands:
        if photo.gray:
            stack = stack.mean(axis=-1, keepdims=True)
        if choose is not None:
            values[top:bottom] = photo.values_of(choose(stack))
        if keep_heads:
            if heads is None:
                heads = empty((len(stack), height, width, channels), "float32")
            heads[:, top:bottom] = stack
    return values, heads


def _chosen(heads, photo, select, model):
    """Restored values, as of `_collect`, by a `select` of `restore`.

    Args:
        heads: head images (K, H, W, C).
        photo: the blurry `Photo`.
        select: as in `restore`, not None.
        model: as of `selection.choose`.
    """
    if callable(select):
        image = selection.select_by(select, heads, model.combine_heads)
        return photo.values_of(image)
    height, width = heads.shape[1:3]
    weights = selection.head_weights(model, select)
    if weights is None and select == "adaptive":
        bands = adaptive_bands(
            heads, lambda rows: photo.crop(rows, slice(width)), model.adaptive_weights
        )
        choose = operator.itemgetter(0)
    else:
        if weights is None:
            weights = selection.medoid_weights(heads, model.combine_heads)
        bands = (
            (rows.start, rows.stop, heads[:, rows]) for rows in scratch.bands(height)
        )
        choose = functools.partial(selection.weighted_mean, weights=weights)
    empty = functools.partial(scratch.empty, disk=scratch.on_disk(heads))
    values, _ = _collect(bands, photo, choose, keep_heads=False, empty=empty)
    return values


class RestoreResult:
    """What `restore` gives.

    Attributes:
        image: the restored image. Of an array: an array of the same shape and dtype.
            Of a file or PIL image: upright, uint8 or uint16 as the file has it,
            (H, W) gray, (H, W, 2) gray and alpha, (H, W, 3) or (H, W, 4).
        names: names of the hypotheses: "0" is head 0, "0+1" the average of the heads
            0 and 1.
        kept: where the guard kept the photo: booleans (ceil(H/16), ceil(W/16)), one
            per block of 16x16 pixels; of a batch (B, ...). None without guard.
    """

    def __init__(self, photos, images, array, heads, kept, facts):
        self._photos = photos
        self._restored = [
            photo.with_values(values) for photo, values in zip(photos, images)
        ]
        self._array = array
        self._heads = heads
        self._kept = kept
        self._facts = facts
        self._batched = array is not None and array.ndim == 4
        self.names = selection.hypothesis_names(facts.num_heads, facts.combine_heads)
        self.kept = kept and (np.stack(kept) if self._batched else kept[0])

    @functools.cached_property
    def image(self):
        """See above; formed when first asked for."""
        array = self._array
        if array is None:
            return self._restored[0].to_array()
        # Of one image without a copy.
        images = [photo.values for photo in self._restored]
        result = np.stack(images) if len(images) > 1 else images[0][None]
        result = result.astype(array.dtype, copy=False)
        if array.shape[-1] == 4 and array.ndim > 2:
            alpha = array[..., 3:].reshape(*result.shape[:-1], 1)
            result = np.concatenate([result, alpha], axis=-1)
        return result.reshape(array.shape)

    @functools.cached_property
    def hypotheses(self):
        """float32 (K', H, W, C), C of 1 or 3, clipped to [0, 1]; of a batch (B, ...).

        Formed when first asked for.
        """
        return self._per_image(
            lambda heads: np.clip(
                selection.combine(heads, self._facts.combine_heads), 0, 1
            )
        )

    @functools.cached_property
    def uncertainty(self):
        """Standard deviation over the hypotheses before clipping, float32 (H, W).

        In units of the range [0, 1]: the root of the variance's mean over the
        channels. Of a batch (B, H, W).
        """

        def uncertainty(heads):
            disk = scratch.on_disk(heads)
            result = scratch.empty(heads.shape[1:3], "float32", disk)
            for rows in scratch.bands(len(result)):
                result[rows] = selection.uncertainty(
                    heads[:, rows], self._facts.combine_heads
                )
            return result

        return self._per_image(uncertainty)

    def select(self, select):
        """Another image of the same hypotheses, without restoring again.

        Args:
            select: as in `restore`.

        Returns:
            `RestoreResult` with that image.
        """
        images = [
            _chosen(heads, photo, select, self._facts)
            for heads, photo in zip(self._stacks(), self._photos)
        ]
        return self._with_images(images)

    def compose(self, labels, feather=8):
        """An image of which every region shows a hypothesis of its own.

        Args:
            labels: integers (H, W), for every pixel the index of a hypothesis, as in
                `names`; of a mask `np.where(mask, 3, 0)`.
            feather: pixels on either side of a border over which one fades into the
                other; 0 for none.

        Returns:
            `RestoreResult` with that image.

        Raises:
            ValueError: if `labels` are no such indices.
        """
        heads = self._one_of(self._stacks())
        labels = np.asarray(labels)
        if labels.shape != heads.shape[1:3] or labels.dtype.kind not in "iu":
            raise ValueError(
                f"`labels` must be integers of shape {heads.shape[1:3]}. "
                f"Received: labels of {labels.dtype} and shape {labels.shape}"
            )
        if labels.min() < 0 or labels.max() >= len(self.names):
            raise ValueError(
                f"`labels` must be from 0 to {len(self.names) - 1}. "
                f"Received: labels from {labels.min()} to {labels.max()}"
            )
        if not feather >= 0:
            raise ValueError(
                f"`feather` must not be negative. Received: feather={feather}"
            )
        combine_heads = self._facts.combine_heads
        image = selection.compose(heads, labels, int(feather), combine_heads)
        return self._with_images([self._photos[0].values_of(image)])

    def shift_map(self, hypothesis, reference, tile=64):
        """How far one hypothesis lies off another, per tile (arXiv 2208.13029, Fig. 4).

        Args:
            hypothesis, reference: indices of hypotheses, as in `names`.
            tile: side of the square tiles in pixels, at least 8.

        Returns:
            float32 (rows, columns, 2): pixels (down, right); NaN where a tile has no
            texture in both directions. Tiles follow each other; the last ones end
            with the image.

        Raises:
            ValueError: if an argument is out of its range.
        """
        heads = self._one_of(self._stacks())
        if not 8 <= tile <= min(heads.shape[1:3]):
            raise ValueError(
                f"`tile` must be from 8 to {min(heads.shape[1:3])} pixels, the image's "
                f"smaller side. Received: tile={tile}"
            )
        images = []
        for name, index in (("hypothesis", hypothesis), ("reference", reference)):
            if not isinstance(index, (int, np.integer)) or not (
                0 <= index < len(self.names)
            ):
                raise ValueError(
                    f"`{name}` must be an index from 0 to {len(self.names) - 1}. "
                    f"Received: {name}={index!r}"
                )
            pair = pair_indices(len(heads), self._facts.combine_heads)[index]
            images.append(heads[list(pair)].mean(axis=(0, -1)))
        return shift_map(*images, tile)

    def save(self, path):
        """Writes the restored image.

        PNG and TIFF keep 16 bits; alpha, the ICC profile, EXIF and XMP of the file it
        came from are kept where the format has them.

        Args:
            path: path of the file; its suffix is the format.
        """
        write_image(path, self._one_of(self._restored))

    def each_hypothesis(self):
        """Yields the names of the hypotheses, and results with them as the image.

        One by one: of a large photo all at once would not fit into memory.
        """
        pairs = pair_indices(self._facts.num_heads, self._facts.combine_heads)
        for name, pair in zip(self.names, pairs):
            yield name, self.select(pair)

    def save_hypotheses(self, path):
        """Writes every hypothesis, its name behind the file's: `photo_0+1.png`.

        Args:
            path: path such as "photo.png".

        Returns:
            List of the paths written.
        """
        path = Path(path)
        paths = []
        for name, result in self.each_hypothesis():
            paths.append(path.with_name(f"{path.stem}_{name}{path.suffix}"))
            result.save(paths[-1])
        return paths

    def save_uncertainty(self, path):
        """Writes a heat map of the uncertainty with a scale below it.

        Dark is agreement; the brightest colour is the 99.5th percentile of this
        image, at least 1/255.

        Args:
            path: path of a PNG file.
        """
        self._one_of(self._restored)
        write_image(path, Photo(heat_map(self.uncertainty)))

    def _with_images(self, images):
        return RestoreResult(
            self._photos, images, self._array, self._heads, self._kept, self._facts
        )

    def _stacks(self):
        if self._heads is None:
            raise ValueError(
                "What is made of the hypotheses needs the head images: call `restore` "
                "with hypotheses=True. Received: hypotheses=False"
            )
        return self._heads

    def _per_image(self, function):
        results = [function(heads) for heads in self._stacks()]
        return np.stack(results) if self._batched else results[0]

    def _one_of(self, items):
        if self._batched:
            raise ValueError(
                "`image` must be one image for this; restore the images of a batch "
                f"one by one. Received: image.shape={self._array.shape}"
            )
        return items[0]
