"""Transposed convolution that doubles height and width."""

from typing import Any

import keras
from keras import ops

from keras_mhdeblur.layers.static_shapes import static_shapes_wanted
from keras_mhdeblur.utils.types import Size


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class Conv2DTranspose(keras.layers.Conv2DTranspose):
    """`keras.layers.Conv2DTranspose` with strides 2 and padding "same".

    Inside `static_shapes` it is four convolutions, as LiteRT does not infer the size
    of a transposed one. It has the name of Keras' class, which files of weights hold.

    Input: (B, H, W, C). Output: (B, 2H, 2W, filters).

    Args:
        filters: number of output channels.
        kernel_size: 2 or 4, or a pair of either.
    """

    def __init__(self, filters: int, kernel_size: int | Size, **kwargs: Any) -> None:
        super().__init__(filters, kernel_size, strides=2, padding="same", **kwargs)
        if self.kernel_size not in ((2, 2), (4, 4)):
            raise ValueError(
                f"`kernel_size` must be 2 or 4. Received: kernel_size={kernel_size}"
            )

    def call(self, x):
        if not static_shapes_wanted():
            return super().call(x)
        pixels = [self._pixel(x, row, column) for row in (0, 1) for column in (0, 1)]
        return ops.nn.depth_to_space(ops.concatenate(pixels, axis=-1), 2)

    def _pixel(self, x, row, column):
        """One of the four pixels that each pixel becomes, (B, H, W, filters).

        Every second tap of the kernel counts for it, in reverse order.
        """
        # Of a kernel of 4, one tap of the two lies on the pixel before or after.
        margin = self.kernel_size[0] // 2 - 1
        padding = [(margin * (1 - index), margin * index) for index in (row, column)]
        taps = [slice((index + margin) % 2, None, 2) for index in (row, column)]
        kernel = ops.flip(ops.swapaxes(self.kernel[*taps], 2, 3), axis=(0, 1))
        x = ops.pad(x, ((0, 0), *padding, (0, 0)))
        y = ops.conv(x, kernel, padding="valid")
        return self.activation(y + self.bias if self.use_bias else y)

    def get_config(self):
        config = super().get_config()
        del config["strides"], config["padding"]
        return config
