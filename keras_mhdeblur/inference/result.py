"""The result of `restore`."""

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from keras_mhdeblur.hypotheses import stacks
from keras_mhdeblur.hypotheses.calibration import at_pixels
from keras_mhdeblur.hypotheses.selection import HeadInfo
from keras_mhdeblur.inference.heatmap import heat_map
from keras_mhdeblur.inference.shifts import shift_map
from keras_mhdeblur.inference.trust import Trust
from keras_mhdeblur.photos import Photo, write_clip, write_image
from keras_mhdeblur.utils import disk_arrays
from keras_mhdeblur.utils.types import PathLike, Select


class RestoreResult:
    """The result of `restore`.

    Attributes:
        image: the restored image. Of an array: an array of the same shape and dtype.
            Of a file or PIL image: upright, uint8 or uint16 as the file has it,
            (H, W) gray, (H, W, 2) gray and alpha, (H, W, 3) or (H, W, 4).
        names: names of the hypotheses: "0" is head 0, "0+1" the average of the heads
            0 and 1.
        kept: where the guard kept the photo: booleans (ceil(H/16), ceil(W/16)), one
            per block of 16x16 pixels; of a batch (B, ...). None without guard.
        share: how much of what restoring changes is in the image, from 0 to 1; of a
            batch (B,). 1 without a calibration.
    """

    def __init__(
        self,
        photos: Sequence[Photo],
        images: Sequence[np.ndarray],
        array: np.ndarray | None,
        heads: Sequence[np.ndarray] | None,
        kept: Sequence[np.ndarray] | None,
        info: HeadInfo,
        trust: Sequence[Trust] | None = None,
    ) -> None:
        self._photos = photos
        self._restored = [
            photo.with_values(values) for photo, values in zip(photos, images)
        ]
        self._array = array
        self._heads = heads
        self._kept = kept
        self._info = info
        self._batched = array is not None and array.ndim == 4
        self.names = info.pairs.names
        self.kept = kept and (np.stack(kept) if self._batched else kept[0])
        self._trust = trust
        shares = [1.0] * len(photos) if trust is None else [t.share for t in trust]
        self.share = np.array(shares) if self._batched else shares[0]

    @functools.cached_property
    def image(self) -> np.ndarray:
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
    def hypotheses(self) -> np.ndarray:
        """float32 (K', H, W, C), C of 1 or 3, clipped to [0, 1]; of a batch (B, ...).

        Formed when first asked for.
        """
        return self._per_image(
            lambda heads: np.clip(self._info.pairs.combined(heads), 0, 1)
        )

    @functools.cached_property
    def uncertainty(self) -> np.ndarray:
        """Standard deviation over the hypotheses before clipping, float32 (H, W).

        In units of the range [0, 1]: the root of the variance's mean over the
        channels. Of a batch (B, H, W).
        """

        def uncertainty(heads):
            disk = disk_arrays.on_disk(heads)
            result = disk_arrays.empty(heads.shape[1:3], "float32", disk)
            for rows in disk_arrays.bands(len(result)):
                result[rows] = stacks.uncertainty(heads[:, rows], self._info.pairs)
            return result

        return self._per_image(uncertainty)

    @property
    def is_calibrated(self) -> bool:
        """Whether the model has a calibration for this image.

        It has none for a `select` that is not the model's own, without guard, and if
        the model was trained further.
        """
        return self._trust is not None

    @property
    def familiar(self) -> bool | np.ndarray:
        """Whether photos like this one were among the calibration's; of a batch (B,).

        Nothing that a calibration says holds for others.

        Raises:
            ValueError: if there is no calibration.
        """
        return self._said(lambda trust: trust.statement.familiar)

    @property
    def gain_probability(self) -> float | np.ndarray:
        """Probability that the image has a higher PSNR than the photo; of a batch (B,).

        0 where the photo was left as it is.

        Raises:
            ValueError: if there is no calibration.
        """
        return self._said(lambda trust: trust.statement.gain_probability)

    @property
    def statement(self) -> str:
        """What the calibration says of the image, in a line.

        Raises:
            ValueError: if there is no calibration, or the result is of a batch.
        """
        self._said(lambda trust: trust)
        self._one_of(self._restored)
        if self.share == 0:
            return "left as it is: a gain is not certain"
        if not self.familiar:
            return "unlike the photos that the calibration saw: no statement"
        percent = f"{100 * self.gain_probability:.0f} %"
        likely = self.gain_probability >= 0.5
        better = (
            f"likely better: {percent}" if likely else f"better with {percent} only"
        )
        return f"{better}; at least {self.psnr_lower_bound(0.9):.1f} dB with 90 %"

    def psnr_lower_bound(self, level: float = 0.9) -> float | np.ndarray:
        """PSNR to the sharp image that is reached with a given probability.

        Args:
            level: the probability, from 0 to 1.

        Returns:
            Decibels, at most 60; of a batch (B,). By conformal prediction (arXiv
            2505.09528): of photos such as the calibration's, a share `level` reach it.

        Raises:
            ValueError: if `level` is out of its range, or there is no calibration.
        """
        _check_level(level)
        return self._said(lambda trust: trust.statement.psnr_lower_bound(level))

    def band(self, level: float = 0.9) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest values that the sharp image may have at every pixel.

        Args:
            level: share of the values that lie between them, from 0 to 1, in photos
                such as the calibration's.

        Returns:
            Two arrays, float32 (H, W, C) in [0, 1], C of 1 or 3; of a batch (B, ...).

        Raises:
            ValueError: if `level` is out of its range, or there is no calibration.
        """
        _check_level(level)
        self._said(lambda trust: trust)
        lows, highs = [], []
        for photo, trust in zip(self._restored, self._trust or ()):
            height, width = photo.values.shape[:2]
            half = at_pixels(trust.width(level), 0, height, width)[..., None]
            image = photo.pixels[..., : photo.values.shape[-1]]
            lows.append(np.clip(image - half, 0, 1))
            highs.append(np.clip(image + half, 0, 1))
        if self._batched:
            return np.stack(lows), np.stack(highs)
        return lows[0], highs[0]

    def select(self, select: Select) -> "RestoreResult":
        """Another image of the same hypotheses, without restoring again.

        Args:
            select: as in `restore`.

        Returns:
            `RestoreResult` with that image.
        """
        selection = self._info.parse(select)
        images = [
            selected_values(heads, photo, selection)
            for heads, photo in zip(self._stacks(), self._photos)
        ]
        return self._with_images(images)

    def hypothesis(self, index: int) -> "RestoreResult":
        """One of the hypotheses as the image, without restoring again.

        Args:
            index: index of the hypothesis, as in `names`.

        Returns:
            `RestoreResult` with that image.

        Raises:
            IndexError: if there is no such hypothesis.
        """
        return self.select(self._info.pairs.indices[index])

    def compose(self, labels: np.ndarray, feather: int = 8) -> "RestoreResult":
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
        image = stacks.compose(heads, labels, int(feather), self._info.pairs)
        return self._with_images([self._photos[0].values_of(image)])

    def shift_map(self, hypothesis: int, reference: int, tile: int = 64) -> np.ndarray:
        """Shift between two hypotheses per tile (arXiv 2208.13029, Fig. 4).

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
            pair = self._info.pairs.indices[index]
            images.append(heads[list(pair)].mean(axis=(0, -1)))
        return shift_map(images[0], images[1], tile)

    def save(self, path: PathLike) -> None:
        """Writes the restored image.

        PNG and TIFF keep 16 bits; alpha, the ICC profile, EXIF and XMP of the file it
        came from are kept where the format has them.

        Args:
            path: path of the file; its suffix is the format.
        """
        write_image(path, self._one_of(self._restored))

    def each_hypothesis(self) -> Iterator[tuple[str, "RestoreResult"]]:
        """Yields the names of the hypotheses, and results with them as the image.

        One by one: of a large photo all at once would not fit into memory.
        """
        for index, name in enumerate(self.names):
            yield name, self.hypothesis(index)

    def save_hypotheses(self, path: PathLike) -> list[Path]:
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

    def save_clip(
        self,
        path: PathLike,
        *,
        order: Sequence[int] | None = None,
        seconds: float = 2.0,
        size: int = 960,
    ) -> None:
        """Writes the hypotheses as a short clip, one after the other and back again.

        A blurry photo does not tell in which direction its time ran, so the clip runs
        both ways. It shows a motion only if the model was trained with several moments
        of an exposure as labels: see `losses.HypothesisLoss`.

        Args:
            path: path of a .gif or .mp4 file; MP4 needs PyAV.
            order: indices of hypotheses, as in `names`; by default all, in their order
                along the direction in which they vary most.
            seconds: length of the clip.
            size: longest side in pixels; larger images are reduced.

        Raises:
            ImportError: PyAV is missing.
            ValueError: an argument is out of its range.
            OSError: the file cannot be written.

        Example:

        ```python
        result = model.restore("photo.jpg")
        result.save_clip("clip.gif")
        ```
        """
        heads = self._one_of(self._stacks())
        if order is None:
            order = stacks.order_on_line(heads, self._info.pairs)
        if not len(order) or not all(0 <= k < len(self.names) for k in order):
            raise ValueError(
                f"`order` must hold indices from 0 to {len(self.names) - 1}. "
                f"Received: order={order!r}"
            )
        for name, value in (("seconds", seconds), ("size", size)):
            if not value > 0:
                raise ValueError(f"`{name}` must be positive. Received: {name}={value}")
        images = [self._reduced(index, size) for index in order]
        images += images[-2:0:-1]
        write_clip(path, images, seconds / len(images))

    def _reduced(self, index, size):
        """A hypothesis in 8 bits, (H, W, 3), no side longer than `size` pixels."""
        pixels = self.hypothesis(index)._restored[0].pixels
        picture = Image.fromarray(np.uint8(np.round(255 * np.clip(pixels, 0, 1))))
        picture.thumbnail((size, size), Image.Resampling.LANCZOS)
        return np.asarray(picture)

    def save_uncertainty(self, path: PathLike) -> None:
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
            self._photos, images, self._array, self._heads, self._kept, self._info
        )

    def _said(self, statement):
        if self._trust is None:
            raise ValueError(
                "The model must have a `calibration` of its present weights, and "
                "`restore` be called with guard=True and the model's own `select`: see "
                "`evaluation.calibrate`. Received: a result without calibration"
            )
        said = [statement(trust) for trust in self._trust]
        return np.array(said) if self._batched else said[0]

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


def _check_level(level):
    if not 0 <= level <= 1:
        raise ValueError(f"`level` must be from 0 to 1. Received: level={level}")


def selected_values(heads, photo, selection):
    """The selected image of a photo's head images, in the photo's dtype.

    Args:
        heads: head images (K, H, W, C), not clipped.
        photo: the blurry `Photo`.
        selection: `Selection`.

    Returns:
        (H, W, C) of the photo's dtype; on disk where the head images are.
    """
    height, width, channels = heads.shape[1:]
    disk = disk_arrays.on_disk(heads)
    values = disk_arrays.empty((height, width, channels), photo.values.dtype, disk)
    crop = functools.partial(photo.crop, columns=slice(width))
    for top, bottom, image in selection.bands(heads, crop):
        values[top:bottom] = photo.values_of(image)
    return values
