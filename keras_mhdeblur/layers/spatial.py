"""Padding to a multiple and pixel shuffle, in forms that survive export."""

from typing import Any, Literal

import keras
from keras import ops

from keras_mhdeblur.layers.static_shapes import reshape


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class PadToMultiple(keras.layers.Layer):
    """Pads the bottom and the right so that height and width become multiples.

    Input: (B, H, W, C), any H and W, also unknown. Output: (B, H', W', C).
    It computes in float32 under every dtype policy: an image goes through it.

    Args:
        multiple: what H' and W' are multiples of.
        mode: "constant" (zeros) or "reflect": mirrored at the last row and column,
            which are not repeated, and back again at the first where an image is
            smaller than what is padded (as NumPy's); a single row or column is
            repeated.
    """

    def __init__(
        self,
        multiple: int,
        mode: Literal["constant", "reflect"] = "constant",
        **kwargs: Any,
    ) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        if mode not in ("constant", "reflect"):
            raise ValueError(
                f'`mode` must be "constant" or "reflect". Received: mode={mode!r}'
            )
        self.multiple = multiple
        self.mode = mode

    def call(self, x):
        for axis, old in self._axes_to_pad(x):
            new = padded_size(old, self.multiple)
            if self.mode == "reflect":
                indices = _mirrored_indices(old, new)
            else:
                # Behind the last row is one of zeros, taken as often as needed.
                x = ops.pad(x, [(0, int(axis == index)) for index in range(4)])
                indices = ops.minimum(ops.arange(new), old)
            x = ops.take(x, indices, axis=axis)
        return x

    def _axes_to_pad(self, x):
        """(axis, size) of height and width, but for sizes known to need no padding.

        A gather that takes every row once is one that GPUs of phones and browsers
        refuse.
        """
        for axis, size in enumerate(ops.shape(x)[1:3], 1):
            if not isinstance(size, int) or size % self.multiple:
                yield axis, size

    def compute_output_shape(self, input_shape):
        batch, *size, channels = input_shape
        size = [None if n is None else n + -n % self.multiple for n in size]
        return (batch, *size, channels)

    def get_config(self):
        return {
            **super().get_config(),
            "multiple": self.multiple,
            "mode": self.mode,
        }


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class PadCentered(PadToMultiple):
    """Pads all sides so that height and width become multiples, as MAXIM does it.

    The image is mirrored at its borders, whose pixels are not repeated; half of what
    is added stands on either side, and of an odd number one more at the bottom or the
    right: there a single row or column is mirrored first.
    Source: the official code of MAXIM, arXiv 2201.02973.

    Input: (B, H, W, C), any H and W, also unknown. Output: (B, H', W', C).
    It computes in float32 under every dtype policy. `static_shapes.crop` with
    `centered=True` undoes it.

    Args:
        multiple: what H' and W' are multiples of, an even number.
    """

    def __init__(self, multiple: int, **kwargs: Any) -> None:
        super().__init__(multiple, **{**kwargs, "mode": "reflect"})

    def call(self, x):
        for axis, old in self._axes_to_pad(x):
            new = padded_size(old, self.multiple)
            even = old + old % 2
            start = (new - even) // 2
            period = 2 * even - 2
            # Mirrored at the first row without a remainder of negative numbers, which
            # ONNX files have wrong.
            place = ops.arange(new)
            index = ops.maximum(place - start, start - place) % period
            index = ops.minimum(index, period - index)
            # The mirrored row that makes an odd number even.
            index = ops.where(index == old, ops.maximum(old - 2, 0), index)
            x = ops.take(x, index, axis=axis)
        return x


def padded_size(size, multiple):
    """The least multiple that is not less than `size`.

    It is the size of a tensor: LiteRT infers that, but nothing from arithmetic with
    sizes (see `static_shapes`).
    """
    return ops.shape(ops.tile(ops.arange(size)[::multiple], multiple))[0]


def _mirrored_indices(size, padded_size):
    """0 to size - 1, down to 0, up again, and so on: padded_size indices.

    Unlike `ops.pad`, which needs more rows than it adds, this takes any size.
    """
    period = ops.maximum(2 * size - 2, 1)
    index = ops.arange(padded_size) % period
    return ops.minimum(index, period - index)


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class PixelShuffle(keras.layers.Layer):
    """Moves blocks of channels into space: (B, H, W, C r^2) to (B, rH, rW, C).

    The channel order is that of `depth_to_space`, (r, r, C). PyTorch's PixelShuffle
    has (C, r, r): `convert` permutes the preceding convolution accordingly.

    Args:
        factor: upscaling factor r.
    """

    def __init__(self, factor: int = 2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, x):
        return ops.nn.depth_to_space(x, self.factor)

    def compute_output_shape(self, input_shape):
        batch, *size, channels = input_shape
        size = [None if n is None else n * self.factor for n in size]
        return (batch, *size, channels // self.factor**2)

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class PixelUnshuffle(keras.layers.Layer):
    """Moves blocks of space into channels: (B, rH, rW, C) to (B, H, W, C r^2).

    The channel order is PyTorch's, (C, r, r): unlike before a `PixelShuffle`, there is
    no one convolution that `convert` could permute.

    Args:
        factor: downscaling factor r; it divides the height and the width.
    """

    def __init__(self, factor: int = 2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, x):
        blocks, channels = self.factor**2, x.shape[-1]
        x = ops.nn.space_to_depth(x, self.factor)
        height, width = ops.shape(x)[1:3]
        x = reshape(x, (-1, height, width, blocks, channels))
        x = ops.transpose(x, (0, 1, 2, 4, 3))
        return reshape(x, (-1, height, width, channels * blocks))

    def compute_output_shape(self, input_shape):
        batch, *size, channels = input_shape
        size = [None if n is None else n // self.factor for n in size]
        return (batch, *size, channels * self.factor**2)

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}
