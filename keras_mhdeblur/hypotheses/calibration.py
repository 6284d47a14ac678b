"""Statements about a restored photo that were checked on pairs with known answers.

All are made of `hypotheses.moments`, which the restored tiles give: no second pass.
`evaluation.calibrate` fits and checks them. They hold for photos like those pairs.
"""

import dataclasses
import math
from typing import Any

import numpy as np

from keras_mhdeblur.hypotheses.adaptive import BLOCK, neighbourhood
from keras_mhdeblur.hypotheses.moments import NUM_PHOTO_FEATURES, features
from keras_mhdeblur.hypotheses.perceptron import Perceptron

# Blocks on each side whose moments a block shares: 272 pixels in all, the size of most
# of the crops that calibrations are fitted to.
REACH = 8
# Mean square of a change of one level of 255: less is not worth a risk.
_LEAST_CHANGE = 255.0**-2
# Features of a photo may lie so far outside those of the pairs, in shares of the range.
_MARGIN = 0.05


@dataclasses.dataclass(frozen=True)
class Calibration:
    """A gate for the restored image or none, and what can be said of the image then.

    Attributes:
        fingerprint: of the model and its choices that this was fitted to.
        num_heads: K.
        gate: tells how much of the change to keep, see `gate_share`; None: all of it.
        threshold: from 0 to below 1; so much or less is nothing.
        error: tells the PSNR of the image in dB.
        gain: tells the gain over the blurry photo in dB.
        residuals: (101,), percentiles of PSNR less `error`, in dB.
        scores, probabilities: (N,), from `gain` to the share of images that gain.
        widths: (101,), half the width of the band that holds so many per cent of the
            pixels, in units of the root of the mean squared error that `error` tells.
        lowest, highest: of the photos' features in the pairs.
        pairs: number of pairs, for the record.
    """

    fingerprint: str
    num_heads: int
    gate: Perceptron | None
    threshold: float
    error: Perceptron
    gain: Perceptron
    residuals: np.ndarray
    scores: np.ndarray
    probabilities: np.ndarray
    widths: np.ndarray
    lowest: np.ndarray
    highest: np.ndarray
    pairs: int

    def share(self, sums: np.ndarray, change: float) -> float:
        """How much of what restoring changes in a photo to keep, from 0 to 1.

        Args:
            sums: (M, rows, columns), `moments` of the photo's blocks.
            change: mean square of what restoring changes.
        """
        if self.gate is None:
            return 1.0
        score = self.gate(features(whole(sums), self.num_heads))
        return gate_share(float(score), self.threshold, change)

    def statement(self, sums: np.ndarray, share: float) -> "Statement":
        """What can be said of a photo's restored image.

        Args:
            sums: (M, rows, columns), `moments` of its blocks.
            share: as of `share`.
        """
        values = with_share(features(whole(sums), self.num_heads), share)
        photo = values[:NUM_PHOTO_FEATURES]
        margin = _MARGIN * (self.highest - self.lowest)
        inside = (photo >= self.lowest - margin) & (photo <= self.highest + margin)
        gains = np.interp(self.gain(values), self.scores, self.probabilities)
        return Statement(
            calibration=self,
            psnr=float(self.error(values)),
            gain_probability=float(gains) if share else 0.0,
            familiar=bool(inside.all()),
        )

    def deviations(self, sums: np.ndarray, share: float) -> np.ndarray:
        """Root of the mean squared error of every block, (rows, columns)."""
        local = features(neighbourhood(sums, REACH), self.num_heads)
        return 10 ** (-self.error(with_share(local, share)) / 20)

    def get_config(self) -> dict[str, Any]:
        """Dictionary that JSON can hold."""
        config = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Perceptron):
                value = value.get_config()
            elif isinstance(value, np.ndarray):
                value = [float(f"{number:.6g}") for number in value]
            config[field.name] = value
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Calibration":
        """The calibration of such a dictionary.

        Raises:
            ValueError: an entry is missing, unknown or of another kind.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        if not isinstance(config, dict) or sorted(config) != sorted(names):
            found = list(config) if isinstance(config, dict) else type(config).__name__
            raise ValueError(
                f"`calibration` must have the entries {', '.join(names)}. "
                f"Received: calibration of {found}"
            )
        entries = dict(config)
        try:
            for name in ("gate", "error", "gain"):
                if name != "gate" or config[name] is not None:
                    entries[name] = Perceptron.from_config(config[name])
            for name in (
                *("residuals", "scores", "probabilities", "widths"),
                *("lowest", "highest"),
            ):
                entries[name] = np.array(config[name], "float64")
                if entries[name].ndim != 1 or not np.isfinite(entries[name]).all():
                    raise ValueError("must be a list of numbers")
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"`calibration` is damaged: {error}. Received: {name}={config[name]!r}"
            ) from None
        return cls(**entries)


@dataclasses.dataclass(frozen=True)
class Statement:
    """What a calibration says of one restored photo.

    Attributes:
        calibration: `Calibration`.
        psnr: the most likely PSNR to the sharp image in dB.
        gain_probability: that it is nearer to it than the blurry photo, in PSNR.
        familiar: whether photos like it were among the calibration's pairs.
    """

    calibration: Calibration
    psnr: float
    gain_probability: float
    familiar: bool

    def psnr_lower_bound(self, level: float) -> float:
        """PSNR in dB that a share `level` of photos reach."""
        residuals = self.calibration.residuals
        return self.psnr + float(_percentile(residuals, 1 - level))

    def width(self, level: float) -> float:
        """Half the width of the band for `level`, see `Calibration.widths`."""
        return float(_percentile(self.calibration.widths, level))


def gate_share(score: float, threshold: float, change: float) -> float:
    """The share of the change to keep, from 0 to 1.

    Nothing up to the threshold, and from there steadily to all: a doubtful image
    changes little, so that it loses little.

    Args:
        score: of the gate.
        threshold: of the score's logistic function.
        change: mean square of what restoring changes. A share of it that nobody sees
            is nothing.
    """
    likely = 1 / (1 + math.exp(-min(max(score, -30), 30)))
    share = max(likely - threshold, 0.0) / (1 - threshold)
    return share if share**2 * change >= _LEAST_CHANGE else 0.0


def whole(sums: np.ndarray) -> np.ndarray:
    """Moments (M,) of a photo, of those of its blocks (M, rows, columns)."""
    return sums.sum(axis=(1, 2), dtype="float64")


def with_share(values: np.ndarray, share: float) -> np.ndarray:
    """Features (F + 1, ...): those of moments, and the share of the change kept."""
    return np.concatenate([values, np.full_like(values[:1], share)])


def at_pixels(values: np.ndarray, top: int, bottom: int, width: int) -> np.ndarray:
    """Values (bottom - top, width) at pixels, linear between the blocks' centres.

    Args:
        values: (rows, columns), of all blocks of a photo.
        top, bottom: rows of pixels.
        width: number of columns of pixels.
    """
    for axis, pixels in enumerate((np.arange(top, bottom), np.arange(width))):
        last = values.shape[axis] - 1
        place = np.clip((pixels + 0.5) / BLOCK - 0.5, 0, last)
        low = np.minimum(place.astype(int), max(last - 1, 0))
        part = (place - low).astype("float32")
        part = part[:, None] if axis == 0 else part
        high = np.minimum(low + 1, last)
        values = (1 - part) * values.take(low, axis) + part * values.take(high, axis)
    return values.astype("float32")


def _percentile(table, level):
    return np.interp(level, np.linspace(0, 1, len(table)), table)
