"""A restored photo of which regions show a hypothesis of their own."""

import functools

import numpy as np

from keras_mhdeblur.hypotheses import stacks
from keras_mhdeblur.hypotheses.pairs import Pairs
from keras_mhdeblur.photos import write_image

# In place of a hypothesis' index: the image that the preset makes of all of them.
RESTORED = -1


class Retouched:
    """A result, and regions that a person gives another hypothesis.

    Attributes:
        base: index of the hypothesis that no region covers, or RESTORED.
        feather: pixels over which regions fade, on either side of their border.
        names: names of the hypotheses.

    Args:
        photo: the blurry `Photo`.
        result: its `RestoreResult`.
    """

    def __init__(self, photo, result):
        self.photo = photo
        self.result = result
        self.base = RESTORED
        self.feather = 8
        self.names = result.names
        self._regions = []
        self._changes = 0
        self._composed = None, None

    def __len__(self):
        return len(self._regions)

    def add(self, mask, hypothesis):
        """Gives a region a hypothesis; it covers earlier regions.

        Args:
            mask: booleans (H, W).
            hypothesis: index, or RESTORED.
        """
        self._regions.append((mask, hypothesis))
        self._changes += 1

    def undo(self):
        """Takes the last region away, if there is one."""
        del self._regions[-1:]
        self._changes += 1

    @property
    def labels(self):
        """Integers (H, W): the hypothesis, or RESTORED, at every pixel."""
        labels = np.full(self.photo.values.shape[:2], self.base, "int16")
        for mask, hypothesis in self._regions:
            labels[mask] = hypothesis
        return labels

    def composed(self):
        """The photo as it is now, a `Photo`."""
        state = self._changes, self.base, self.feather
        if self._composed[0] != state:
            self._composed = state, self._compose(self.labels)
        return self._composed[1]

    def _compose(self, labels):
        restored = self._photo_of(self.result)
        brushed = labels != RESTORED
        if brushed.all():
            return self._photo_of(self.result.compose(labels, self.feather))
        if not brushed.any():
            return restored
        # As `compose`, with the restored image as one more hypothesis. Beyond the
        # fade there is nothing but that image.
        place = _around(brushed, 2 * self.feather + 2)
        image = 0
        for label in np.unique(labels[place]):
            share = _faded(labels[place] == label, self.feather)
            image = image + share * self.hypothesis(label).values[place]
        values = restored.values.copy()
        values[place] = np.rint(image)
        return self.photo.with_values(values)

    def hypothesis(self, index):
        """A hypothesis, or the RESTORED image, as a `Photo`."""
        if index == RESTORED:
            return self._photo_of(self.result)
        return self._photo_of(self.result.hypothesis(index))

    @functools.cached_property
    def uncertainty(self):
        """Standard deviation over the hypotheses, float32 (H, W)."""
        return self.result.uncertainty

    def save(self, path, index=RESTORED):
        """Writes the photo as it is now, or a hypothesis; as `RestoreResult.save`."""
        write_image(path, self.shown(index))

    def shown(self, index):
        """The photo as it is now, for RESTORED, or a hypothesis, as a `Photo`."""
        return self.composed() if index == RESTORED else self.hypothesis(index)

    def _photo_of(self, result):
        """The `Photo` that `result.save` writes."""
        image = result.image.reshape(*self.photo.values.shape[:2], -1)
        channels = 1 if self.photo.gray else 3
        return self.photo.with_values(image[..., :channels])


def _around(mask, margin):
    """Slices of the rows and columns of a mask, and of a margin in pixels."""
    slices = []
    for axis in (1, 0):
        places = np.flatnonzero(mask.any(axis=axis))
        slices.append(slice(max(places[0] - margin, 0), places[-1] + 1 + margin))
    return tuple(slices)


def _faded(mask, feather):
    """Shares (H, W, 1) of a region whose border fades as those of `compose`."""
    levels = np.array([0, 1], "float32").reshape(2, 1, 1, 1)
    heads = np.broadcast_to(levels, (2, *mask.shape, 1))
    return stacks.compose(heads, mask.astype("int8"), feather, Pairs(2, False))
