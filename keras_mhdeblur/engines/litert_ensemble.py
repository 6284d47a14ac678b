"""Several LiteRT files as one model: the head images of all in one stack."""

import math

import numpy as np

from keras_mhdeblur.engines.litert_model import LiteRTEngine
from keras_mhdeblur.engines.tiling import context_of


class LiteRTEnsemble(LiteRTEngine):
    """The files of an `Ensemble`'s members; `restore` takes it as a `LiteRTModel`.

    They run one after the other. Each keeps the memory of its last image, so that an
    image needs what all of them need together.

    Args:
        members: `LiteRTModel`s, in the order of the members.
        combine_heads, select, best_pair, adaptive_weights, calibration: of the model
            with all their heads, see `Deblurrer`.
        fingerprint: of that model, see `presets.litert.fingerprint`, or None.
    """

    def __init__(
        self,
        members,
        *,
        combine_heads=True,
        select="mean",
        best_pair=None,
        adaptive_weights=None,
        calibration=None,
        fingerprint=None,
    ):
        sizes = [m.tile_size for m in members if m.tile_size is not None]
        tile_size = min(sizes, default=None)
        if tile_size is not None:
            context = context_of(None, tile_size)
        else:
            context = max(member.context for member in members)
        super().__init__(
            num_heads=sum(member.num_heads for member in members),
            combine_heads=combine_heads,
            multiple=math.lcm(*(member.multiple for member in members)),
            tile_size=tile_size,
            context=context,
            bytes_per_pixel=sum(member.bytes_per_pixel for member in members),
            select=select,
            best_pair=best_pair,
            adaptive_weights=adaptive_weights,
            calibration=calibration,
            fingerprint=fingerprint,
        )
        self.members = tuple(members)

    def heads(self, image):
        """Head images (K, H, W, C) of an image (H, W, C)."""
        return np.concatenate([member.heads(image) for member in self.members])
