"""The calibration at work: moments of tiles, the gate, and statements on the result."""

import dataclasses

import numpy as np

from keras_mhdeblur.engines.tiling import cores
from keras_mhdeblur.hypotheses.adaptive import BLOCK
from keras_mhdeblur.hypotheses.calibration import Calibration, Statement
from keras_mhdeblur.hypotheses.moments import moments
from keras_mhdeblur.hypotheses.selection import to_python
from keras_mhdeblur.photos import Photo
from keras_mhdeblur.presets import litert
from keras_mhdeblur.utils.disk_arrays import bands


def calibration_of(model, select=None) -> Calibration | None:
    """The calibration of a model's present weights and choices, or None.

    Args:
        model: `Deblurrer` or `LiteRTModel`.
        select: of `restore`. A calibration is of the model's own.
    """
    calibration = model.head_info.calibration
    if calibration is None:
        return None
    if select is not None and (
        callable(select) or to_python(select) != to_python(model.select)
    ):
        return None
    if calibration.fingerprint != litert.choice_fingerprint(model):
        return None
    return calibration


class MomentsOfTiles:
    """Collects the moments of a photo's blocks, tile by tile.

    Attributes:
        sums: float32 (M, rows, columns).

    Args:
        plan: `TilePlan`.
    """

    def __init__(self, plan):
        self._cores = [cores(spans) for spans in (plan.rows, plan.columns)]
        self._shape = [-(-s[-1][1] // BLOCK) for s in (plan.rows, plan.columns)]
        self.sums = None

    def add(self, stack, blurry, rows, columns):
        """Takes the head images of a tile, where it is the nearest one."""
        found = moments(stack, blurry)
        if self.sums is None:
            self.sums = np.zeros((len(found), *self._shape), "float32")
        inside, places = [], []
        for span, parts, size in zip((rows, columns), self._cores, found.shape[1:]):
            first, last = parts[span.start]
            middles = span.start + BLOCK * np.arange(size) + BLOCK // 2
            # Where a photo ends within a block, its middle may lie outside.
            middles = np.minimum(middles, span.stop - 1)
            inside.append(np.flatnonzero((middles >= first) & (middles < last)))
            places.append(middles[inside[-1]] // BLOCK)
        target = (slice(None), *np.ix_(*places))
        np.add.at(self.sums, target, found[:, *np.ix_(*inside)])


@dataclasses.dataclass(frozen=True)
class Trust:
    """What a calibration says of a restored photo.

    Attributes:
        calibration: `Calibration`.
        sums: (M, rows, columns), `moments` of the photo's blocks.
        share: of the change that is kept.
        statement: `Statement`.
    """

    calibration: Calibration
    sums: np.ndarray
    share: float
    statement: Statement

    def width(self, level):
        """Half the width of the band for `level`, (rows, columns)."""
        deviations = self.calibration.deviations(self.sums, self.share)
        return self.statement.width(level) * deviations


def gate(values, photo, calibration, sums):
    """Draws restored values towards the photo, in place, as far as is prudent.

    Args:
        values: restored (H, W, C), of the photo's dtype.
        photo: the blurry `Photo`.
        calibration: `Calibration`.
        sums: (M, rows, columns), `moments` of the photo's blocks.

    Returns:
        `Trust`.
    """
    restored = photo.with_values(values)
    columns = slice(values.shape[1])
    change = 0.0
    for rows in bands(len(values)):
        difference = restored.crop(rows, columns) - photo.crop(rows, columns)
        change += float(np.square(difference).mean()) * len(difference) / len(values)
    share = calibration.share(sums, change)
    for rows in bands(len(values)) if share < 1 else ():
        if share == 0:
            values[rows] = photo.values[rows]  # to the last bit
        else:
            blurry = photo.crop(rows, columns)
            mixed = blurry + np.float32(share) * (restored.crop(rows, columns) - blurry)
            values[rows] = photo.values_of(mixed[..., : values.shape[-1]])
    return Trust(calibration, sums, share, calibration.statement(sums, share))


def gated_image(image, heads, photo, calibration):
    """`gate` for the arrays of a whole photo.

    Args:
        image: the restored image (H, W, C).
        heads: head images (K, H, W, C), not clipped.
        photo: the blurry image (H, W, C).
        calibration: `Calibration`.

    Returns:
        float32 (H, W, C) in [0, 1].
    """
    values = np.clip(image, 0, 1)
    gate(values, Photo(photo), calibration, moments(heads, photo))
    return values
