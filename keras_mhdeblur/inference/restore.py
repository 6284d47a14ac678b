"""Restores photos."""

import dataclasses
import functools
import io
import os
from pathlib import Path

import numpy as np
from PIL import Image

from keras_mhdeblur.images import (
    Photo,
    from_float,
    photo_from_pil,
    read_image,
    to_float,
    write_atomically,
    write_image,
)
from keras_mhdeblur.inference import selection, tiling
from keras_mhdeblur.inference.heatmap import heat_map
from keras_mhdeblur.inference.progress import ProgressBar


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
    progress=False,
):
    """Restores a blurry photo.

    Args:
        model: `Deblurrer` or `LiteRTModel`.
        image: path of an image file, PIL image, or array (H, W), (H, W, C) or
            (B, H, W, C) with C of 1, 3 (RGB) or 4 (RGB and alpha): uint8, uint16, or
            float in [0, 1]. Gray is restored as RGB and averaged back, alpha is
            passed through.
        select: how one image is made of the hypotheses; `model.select` by default.
            "mean": their average. "medoid": the one nearest to the average, in MSE
            before clipping. "single": `model.best_pair`. (i, j): the average of the
            heads i and j; i: the head i. A function of the hypotheses
            (K', H, W, C), float32 in [0, 1], to an index or an image (H, W, C).
        hypotheses: whether to keep the head images, which `result.hypotheses` and
            `result.uncertainty` need. Without them "mean", "single" and (i, j) cost
            what a network with a single head costs.
        tile: "auto", tile size in pixels, or None: the whole image at once.
            Overlapping tiles are blended.
        memory_limit_mb: for "auto", the memory in MB that the network's activations
            may take, by an estimate; the image and its head images come on top.
        local_statistics: size in pixels of the training crops for TLC, None for
            global statistics; "model": as the model has it.
        engine: what computes. "keras": Keras, on its devices. "litert": LiteRT, about
            twice as fast on a CPU; a model without a LiteRT file for its present
            weights is exported first, into the user's cache. "auto": LiteRT if there
            is such a file and no GPU, else Keras.
        progress: whether to show a progress bar over images and tiles on stderr.

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
    select = model.select if select is None else select
    weights = selection.head_weights(model, select)
    array = None
    if isinstance(image, (str, os.PathLike)):
        photos = [read_image(image)]
    elif isinstance(image, Image.Image):
        photos = [photo_from_pil(image)]
    else:
        photos = _photos_of_array(image)
        array = np.asarray(image)

    runner = model.inference_engine(engine, local_statistics)
    if weights is None or hypotheses:
        function = runner.heads
    else:
        function = runner.fold(weights)

    height, width = photos[0].pixels.shape[:2]
    size = tiling.tile_size(
        tile, (height, width), runner.multiple, runner.bytes_per_pixel, memory_limit_mb
    )
    rows = tiling.spans(height, size, runner.multiple)
    columns = tiling.spans(width, size, runner.multiple)
    bar = None
    if progress:
        bar = ProgressBar(len(photos) * len(rows) * len(columns))

    images, stacks = [], []
    for photo in photos:
        heads = tiling.run_tiled(
            function, photo.pixels, rows, columns, bar and bar.finish
        )
        if photo.gray:
            heads = heads.mean(axis=-1, keepdims=True)
        images.append(_select(heads, select, weights, model.combine_heads))
        if hypotheses:
            stacks.append(heads)
    if bar is not None:
        bar.close()

    restored = [
        dataclasses.replace(photo, pixels=np.broadcast_to(pixels, photo.pixels.shape))
        for photo, pixels in zip(photos, images)
    ]
    if array is None:
        result = restored[0].to_array()
    else:
        result = from_float(np.stack(images), array.dtype)
        if array.shape[-1] == 4 and array.ndim > 2:
            alpha = array[..., 3:].reshape(*result.shape[:-1], 1)
            result = np.concatenate([result, alpha], axis=-1)
        result = result.reshape(array.shape)
    return RestoreResult(
        image=result,
        photos=restored,
        heads=stacks if hypotheses else None,
        combine_heads=model.combine_heads,
        names=selection.hypothesis_names(model.num_heads, model.combine_heads),
        batched=array is not None and array.ndim == 4,
    )


class RestoreResult:
    """What `restore` gives.

    Attributes:
        image: the restored image. Of an array: an array of the same shape and dtype.
            Of a file or PIL image: upright, uint8 or uint16 as the file has it,
            (H, W) gray, (H, W, 2) gray and alpha, (H, W, 3) or (H, W, 4).
        names: names of the hypotheses: "0" is head 0, "0+1" the average of the heads
            0 and 1.
    """

    def __init__(self, image, photos, heads, combine_heads, names, batched):
        self.image = image
        self.names = names
        self._photos = photos
        self._heads = heads
        self._combine_heads = combine_heads
        self._batched = batched

    @functools.cached_property
    def hypotheses(self):
        """float32 (K', H, W, C), C of 1 or 3, clipped to [0, 1]; of a batch (B, ...).

        Formed when first asked for.
        """
        return self._per_image(
            lambda heads: np.clip(selection.combine(heads, self._combine_heads), 0, 1)
        )

    @functools.cached_property
    def uncertainty(self):
        """Standard deviation over the hypotheses before clipping, float32 (H, W).

        In units of the range [0, 1]: the root of the variance's mean over the
        channels. Of a batch (B, H, W).
        """
        return self._per_image(
            lambda heads: selection.uncertainty(heads, self._combine_heads)
        )

    def save(self, path):
        """Writes the restored image.

        PNG keeps 16 bits, alpha, the ICC profile and EXIF of the file it came from.

        Args:
            path: path of the file; its suffix is the format.
        """
        write_image(path, self._one(self._photos))

    def save_hypotheses(self, path):
        """Writes every hypothesis, its name behind the file's: `photo_0+1.png`.

        Args:
            path: path such as "photo.png".

        Returns:
            List of the paths written.
        """
        photo = self._one(self._photos)
        self._one(self.hypotheses)
        path = Path(path)
        paths = []
        for name, pixels in zip(self.names, self.hypotheses):
            pixels = np.broadcast_to(pixels, photo.pixels.shape)
            paths.append(path.with_name(f"{path.stem}_{name}{path.suffix}"))
            write_image(paths[-1], dataclasses.replace(photo, pixels=pixels))
        return paths

    def save_uncertainty(self, path):
        """Writes a heat map of the uncertainty with a scale below it.

        Dark is agreement; the brightest colour is the 99.5th percentile of this
        image, at least 1/255.

        Args:
            path: path of a PNG file.
        """
        self._one(self._photos)
        file = io.BytesIO()
        Image.fromarray(heat_map(self.uncertainty)).save(file, format="PNG")
        write_atomically(path, file.getvalue())

    def _per_image(self, function):
        if self._heads is None:
            raise ValueError(
                "`hypotheses` and `uncertainty` need the head images: call `restore` "
                "with hypotheses=True. Received: hypotheses=False"
            )
        results = [function(heads) for heads in self._heads]
        return np.stack(results) if self._batched else results[0]

    def _one(self, items):
        if self._batched:
            raise ValueError(
                "`image` must be one image to be saved; restore the images of a batch "
                f"one by one. Received: image.shape={self.image.shape}"
            )
        return items[0]


def _photos_of_array(image):
    """One `Photo` per image of an array (H, W), (H, W, C) or (B, H, W, C)."""
    pixels = to_float(image)
    array = np.asarray(image)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    pixels = pixels.reshape(-1, *pixels.shape[-3:])
    depth = 16 if array.dtype == np.uint16 else 8
    alpha = None
    if pixels.shape[-1] == 4:
        alpha = from_float(pixels[..., 3], f"uint{depth}")
        pixels = pixels[..., :3]
    shape = (*pixels.shape[1:3], 3)
    return [
        Photo(
            pixels=np.ascontiguousarray(np.broadcast_to(one, shape)),
            alpha=None if alpha is None else alpha[index],
            depth=depth,
            gray=one.shape[-1] == 1,
        )
        for index, one in enumerate(pixels)
    ]


def _select(heads, select, weights, combine_heads):
    """One image (H, W, C) of the head images (K, H, W, C), or of the folded one."""
    if callable(select):
        hypotheses = np.clip(selection.combine(heads, combine_heads), 0, 1)
        return selection.select_by(select, hypotheses)
    if len(heads) == 1:
        return heads[0]
    if weights is None:
        weights = selection.medoid_weights(heads, combine_heads)
    return selection.weighted_mean(heads, weights)
