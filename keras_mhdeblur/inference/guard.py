"""Artefact guard: keeps the photo where the restored image is implausible.

Blur moves light by some pixels. So blocks keep their mean, within what their
neighbourhood's contrast allows; a sharp image stays in range; and no lens draws a
pattern of single pixels. What breaks these rules was made up by the network. And where
a photo steps from dark to bright within a pixel, it is not blurred at all: text,
graphics, noise.
"""

import numpy as np

from keras_mhdeblur.engines.tiling import cores
from keras_mhdeblur.hypotheses.adaptive import BLOCK
from keras_mhdeblur.hypotheses.calibration import at_pixels

# Levels of 255. Of 45,600 blocks and channels of REDS and GoPro pairs these limits
# leave no restored one (`nafnet_mh_c`), and of the sharp labels three.
_MEAN_CHANGE, _OF_RANGE = 1.5, 0.75
_FLAT, _FLAT_CHANGE = 1.5, 2.5
_OVERSHOOT = 4.0
_PATTERN, _OF_PATTERN = 4.0, 2.0
# A share of the block's range, which is more than noise in the dark has; of sharp text
# 95 % of the blocks have it, of 20,000 blurry ones of GoPro and REDS none.
_STEP, _STEP_RANGE = 0.85, 96.0


class Guard:
    """Keeps the photo where its restored tiles are implausible, and remembers where.

    Attributes:
        kept: booleans, one per block of 16x16 pixels of the photo.

    Args:
        rows, columns: `tiling.spans` of the photo's height and width.
        weights: of the head images in the restored image, which is tested; None for
            their mean.
    """

    def __init__(self, rows, columns, weights=None):
        self._weights = weights
        self.kept = np.zeros(
            [-(-spans[-1][1] // BLOCK) for spans in (rows, columns)], bool
        )
        self._cores = [cores(spans) for spans in (rows, columns)]

    def __call__(self, stack, photo, rows, columns):
        """The head images of a tile, with the photo where they are implausible.

        Args:
            stack: head images (K, h, w, C), or the restored one (1, h, w, C).
            photo: the blurry tile (h, w, C).
            rows, columns: slices, the tile's place.
        """
        stack, blocks = guarded(stack, photo, self._weights)
        if not blocks.any():
            return stack
        tile, place = [], []
        for span, parts in zip((rows, columns), self._cores):
            # Tiles of networks with a fine grid begin inside a block of the photo.
            pixels = np.arange(*parts[span.start])
            both = np.stack([(pixels - span.start) // BLOCK, pixels // BLOCK])
            for indices, found in zip((tile, place), np.unique(both, axis=1)):
                indices.append(found)
        np.logical_or.at(self.kept, np.ix_(*place), blocks[np.ix_(*tile)])
        return stack


def guarded(stack, photo, weights=None):
    """Head images with the photo where they are implausible, and where that is.

    Args:
        stack: head images (K, H, W, C), or the restored one (1, H, W, C).
        photo: the blurry image (H, W, C).
        weights: (K,) of the head images in the image that is tested; None for their
            mean.

    Returns:
        The head images, and booleans (rows, columns) as of `implausible`.
    """
    if weights is None:
        image = stack.mean(axis=0)
    else:
        image = np.tensordot(np.float32(weights), stack, axes=1)
    blocks = implausible(photo, image)
    return keep_photo(stack, photo, blocks) if blocks.any() else stack, blocks


def guarded_image(heads, photo, selection):
    """The restored image of a whole photo, not clipped, as the guard leaves it.

    Args:
        heads: head images (K, H, W, C), not clipped.
        photo: the blurry image (H, W, C).
        selection: `Selection`.

    Returns:
        float32 (H, W, C).
    """
    stack, _ = guarded(heads, photo, selection.weights)
    return selection.image(stack, photo)


def implausible(photo, image):
    """Blocks of a restored image that are no sharp version of the photo's.

    Args:
        photo: blurry image, float32 (H, W, C) in [0, 1].
        image: the restored one, not clipped.

    Returns:
        Booleans (rows, columns), one per block of 16x16 pixels; the last ones may be
        smaller.
    """
    before, after = _blocks(photo), _blocks(image)
    with np.errstate(invalid="ignore"):  # a network may give NaN
        mean, *patterns = _means_and_patterns(before)
        new_mean, *new_patterns = _means_and_patterns(after)
        # NaN compares false.
        low, high = _extremes(before)
        new_low, new_high = _extremes(after)
        contrast = _neighbours(np.maximum, high) - _neighbours(np.minimum, low)
        fine = np.abs(new_mean - mean) <= _MEAN_CHANGE / 255 + _OF_RANGE * contrast
        # Nothing can have been blurred into what is flat.
        change = np.maximum(new_high - high, low - new_low)
        fine &= (contrast > _FLAT / 255) | (change <= _FLAT_CHANGE / 255)
        for old, new in zip(patterns, new_patterns):
            fine &= np.abs(new) <= _PATTERN / 255 + _OF_PATTERN * np.abs(old)
        fine &= _overshoot(after, new_low, new_high) <= _OVERSHOOT / 255
    return ~fine.all(axis=-1) | _has_sharp_steps(before, high - low)


def keep_photo(stack, photo, blocks):
    """Head images with the photo in the given blocks, fading within one block.

    Args:
        stack: head images (K, H, W, C).
        photo: the blurry image (H, W, C).
        blocks: booleans as of `implausible`.

    Returns:
        float32 (K, H, W, C).
    """
    height, width = photo.shape[:2]
    # One block further, so that the fade ends where the block begins.
    share = np.pad(blocks, 1)
    share = _neighbours(np.maximum, share)[1:-1, 1:-1].astype("float32")
    share = at_pixels(share, 0, height, width)[..., None]
    # Not weighted: what is kept out may be NaN.
    return np.where(share < 1, stack + share * (photo - stack), photo).astype("float32")


def _blocks(image):
    """(rows, 16, columns, 16, C), the last blocks completed with their last pixels."""
    height, width, channels = image.shape
    image = np.pad(image, ((0, -height % BLOCK), (0, -width % BLOCK), (0, 0)), "edge")
    return image.reshape(
        -(-height // BLOCK), BLOCK, -(-width // BLOCK), BLOCK, channels
    )


def _means_and_patterns(blocks):
    """Mean of every block, and strength of checks and stripes of one pixel.

    Returns:
        Four arrays (rows, columns, C).
    """
    rows, _, columns, _, channels = blocks.shape
    weights = np.stack([np.ones(BLOCK), np.resize([1, -1], BLOCK)]).astype("float32")
    # Down first, in one product along contiguous memory.
    sums = weights @ blocks.reshape(rows, BLOCK, -1)
    sums = sums.reshape(rows, 2, columns, BLOCK, channels)
    sums = np.einsum("rdcxk,ax->darck", sums, weights) / BLOCK**2
    return sums.reshape(4, rows, columns, channels)


def _extremes(blocks):
    """Lowest and highest values of every block, two arrays (rows, columns, C)."""
    # One axis after the other: along contiguous memory first.
    return blocks.min(axis=1).min(axis=2), blocks.max(axis=1).max(axis=2)


def _overshoot(blocks, low, high):
    """Mean distance of a block's values from [0, 1], (rows, columns, C)."""
    result = np.maximum(np.maximum(high - 1, -low), 0)
    # No more than the farthest value's; most blocks have none.
    for row, column in np.argwhere((result > _OVERSHOOT / 255).any(axis=-1)):
        block = blocks[row, :, column]
        result[row, column] = np.abs(block - np.clip(block, 0, 1)).mean(axis=(0, 1))
    return result


def _has_sharp_steps(blocks, ranges):
    """True for blocks with steps of their own range between two pixels, both ways."""
    down = np.abs(np.diff(blocks, axis=1)).max(axis=1).max(axis=2)
    across = np.abs(np.diff(blocks, axis=3)).max(axis=1).max(axis=2)
    high = ranges >= _STEP_RANGE / 255
    return (high & (np.minimum(down, across) >= _STEP * ranges)).any(axis=-1)


def _neighbours(function, values):
    """Maximum or minimum over 3x3 positions of the first two axes."""
    for axis in (0, 1):
        padding = [(0, 0)] * values.ndim
        padding[axis] = (1, 1)
        wide = np.pad(values, padding, "edge")
        size = values.shape[axis]
        parts = [wide.take(range(k, k + size), axis) for k in range(3)]
        values = function(function(parts[0], parts[1]), parts[2])
    return values
