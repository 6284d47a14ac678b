"""Padding to a multiple and pixel shuffle, in forms that survive export."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class PadToMultiple(keras.layers.Layer):
    """Pads the bottom and the right so that height and width become multiples.

    Input: (B, H, W, C), any H and W, also unknown. Output: (B, H', W', C).
    It computes in float32 under every dtype policy: an image goes through it.

    Args:
        multiple: what H' and W' are multiples of.
        mode: "constant" (zeros) or "reflect" (needs H, W >= multiple).
    """

    def __init__(self, multiple, mode="constant", **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        if mode not in ("constant", "reflect"):
            raise ValueError(
                f'`mode` must be "constant" or "reflect". Received: mode={mode!r}'
            )
        self.multiple = multiple
        self.mode = mode

    def call(self, x):
        height, width = ops.shape(x)[1:3]
        bottom, right = -height % self.multiple, -width % self.multiple
        y = ops.pad(x, ((0, 0), (0, bottom), (0, right), (0, 0)), mode=self.mode)
        # A pad of unknown amount loses the number of channels, and LiteRT then needs
        # Flex operators; the reshape states it again.
        return ops.reshape(y, (-1, height + bottom, width + right, x.shape[-1]))

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
class PixelShuffle(keras.layers.Layer):
    """Moves blocks of channels into space: (B, H, W, C r^2) to (B, rH, rW, C).

    The channel order is that of `depth_to_space`, (r, r, C). PyTorch's PixelShuffle
    has (C, r, r): `convert` permutes the preceding convolution accordingly.

    Args:
        factor: upscaling factor r.
    """

    def __init__(self, factor=2, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, x):
        return ops.nn.depth_to_space(x, self.factor)

    def compute_output_shape(self, input_shape):
        batch, height, width, channels = input_shape
        scale = self.factor
        return (
            batch,
            None if height is None else height * scale,
            None if width is None else width * scale,
            channels // scale**2,
        )

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}
