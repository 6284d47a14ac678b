"""The calibration at work: moments of tiles, the gate, and statements on the result."""

import dataclasses

import numpy as np

from keras_mhdeblur.engines.tiling import cores
from keras_mhdeblur.hypotheses.adaptive import BLOCK
from keras_mhdeblur.hypotheses.calibration import Calibration, Statement, at_pixels
from keras_mhdeblur.hypotheses.moments import moments
from keras_mhdeblur.hypotheses.selection import to_python
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
        shares: (rows, columns), of the change that is kept.
        statement: `Statement`.
    """

    calibration: Calibration
    sums: np.ndarray
    shares: np.ndarray
    statement: Statement

    @classmethod
    def of(cls, calibration, sums):
        """What a calibration says of the moments of a photo."""
        shares = calibration.shares(sums)
        return cls(calibration, sums, shares, calibration.statement(sums, shares))

    def width(self, level):
        """Half the width of the band for `level`, (rows, columns)."""
        deviations = self.calibration.deviations(self.sums, self.shares)
        return self.statement.width(level) * deviations


def gate(values, photo, shares):
    """Draws restored values towards the photo, in place.

    Args:
        values: restored (H, W, C), of the photo's dtype.
        photo: the blurry `Photo`.
        shares: (rows, columns), of the change to keep, as of `Calibration.shares`.
    """
    if (shares == 1).all():
        return
    height, width = values.shape[:2]
    for rows in bands(height):
        top, bottom = rows.start, min(rows.stop, height)
        share = at_pixels(shares, top, bottom, width)[..., None]
        blurry = photo.crop(slice(top, bottom), slice(width))
        restored = photo.with_values(values).crop(slice(top, bottom), slice(width))
        mixed = blurry + share * (restored - blurry)
        if photo.gray:
            mixed = mixed.mean(axis=-1, keepdims=True)
        # Where nothing is kept the photo is, to the last bit.
        values[top:bottom] = np.where(
            share > 0, photo.values_of(mixed), photo.values[top:bottom]
        )
