"""Base of the networks: local statistics, folded heads, further heads."""

import numbers
from collections.abc import Sequence
from typing import Self

import keras
import numpy as np

from keras_mhdeblur.utils.renamed import with_present_names
from keras_mhdeblur.utils.types import CropSize, Tensor


class RestorationNetwork(keras.Model):
    """Base of the networks: a functional model from images to head stacks.

    A subclass adds its constructor's arguments to `get_config`; it makes its layers
    through `layer_factory(_share_layers_of)` and gives the input of its last layer,
    a `MultiHeadOutput`, to this constructor.

    The dtype policy is the global one when a network is made, also when one is loaded
    (`keras.config.set_dtype_policy`); it is no argument and not saved.

    Args:
        inputs: input image.
        outputs: head stack, or the list of them, final stage first.
        head_inputs: call arguments of the layer that makes the final stage.
        head_layer: name of that layer.
        name: name of the model.
        trainable: whether any weight is trained.
    """

    # The pairs of heads that the hypotheses average, see `hypotheses.pairs.Pairs`.
    combination: bool | str = True
    # Largest side in pixels of the tiles that photos are restored in; None where a
    # photo is best restored as a whole, and memory alone limits tiles.
    tile_size: int | None = None

    def __init__(
        self,
        inputs: Tensor,
        outputs: Tensor | Sequence[Tensor],
        head_inputs: Sequence[Tensor],
        head_layer: str = "heads",
        name: str | None = None,
        trainable: bool = True,
    ) -> None:
        super().__init__(inputs=inputs, outputs=outputs, name=name)
        self._head_layer_name = head_layer
        if not trainable:  # True would thaw layers that another network shares
            self.trainable = False
        # In a function, so that Keras does not track the tensors.
        self._head_inputs = lambda: head_inputs

    @property
    def head_layer(self) -> keras.layers.Layer:
        """The layer that makes the head images of the final stage."""
        return self.get_layer(self._head_layer_name)

    def trunk(self) -> keras.Model:
        """A model, sharing these layers, from images to `head_layer`'s arguments."""
        return keras.Model(self.input, list(self._head_inputs()), name="trunk")

    @property
    def num_head_images(self) -> int:
        """Number of head images in a stack."""
        return self.num_heads

    def with_local_statistics(self, train_size: CropSize = 256) -> Self:
        """The same network, sharing these weights, with TLC.

        Args:
            train_size: size in pixels of the crops the network was trained on, one
                number or (height, width); None for global statistics.

        Returns:
            A network of this class whose layers are the layers of this one. This one
            where there is no argument `tlc_train_size` and `train_size` is None.

        Raises:
            ValueError: the network has no argument `tlc_train_size`.
        """
        config = self.get_config()
        if "tlc_train_size" not in config:
            if train_size is None:
                return self
            raise ValueError(
                f"`train_size` must be None: {type(self).__name__} has no "
                f"`tlc_train_size`. Received: train_size={train_size!r}"
            )
        return type(self)(
            **{**config, "tlc_train_size": train_size, "_share_layers_of": self}
        )

    def with_folded_heads(
        self, head_weights: Sequence[float] | np.ndarray
    ) -> keras.Model:
        """A single-head model whose image is a weighted mean of the head images.

        Heads differ in their last convolution only, and a mean of convolutions is
        one convolution with the mean kernel: one image costs what the single-output
        network costs. All other layers are shared with this network; the folded
        kernel is a copy, made now. Only the final stage is an output.

        Args:
            head_weights: K numbers that sum to one.

        Returns:
            A `keras.Model` from images (B, H, W, C) to (B, 1, H, W, C).

        Raises:
            ValueError: `head_weights` are no such numbers.
        """
        weights = np.asarray(head_weights, "float64")
        if weights.shape != (self.num_head_images,) or abs(weights.sum() - 1) > 1e-6:
            raise ValueError(
                f"`head_weights` must be {self.num_head_images} numbers that sum to "
                f"one. Received: head_weights={head_weights}"
            )
        heads = self.head_layer
        folded = heads.single_head()
        model = keras.Model(self.input, folded(*self._head_inputs()), name=self.name)
        heads.fold_into(folded, weights)
        return model

    def with_num_heads(self, num_heads: int) -> Self:
        """A copy of this network; of one head it makes several equal ones.

        Nothing is shared. The heads of all stages are copies of the one that is there,
        and a `SupervisedAttention` heeds only the first of them: every head image is
        the image of this network. Layers that are frozen by themselves are not frozen
        in the copy.

        Args:
            num_heads: number of heads K.

        Returns:
            A network of this class.

        Raises:
            ValueError: this network has several heads, but not `num_heads`.
        """
        if self.num_heads not in (1, num_heads):
            raise ValueError(
                f"`num_heads` must be {self.num_heads}, the number that this network "
                f"has, as it is not one. Received: num_heads={num_heads}"
            )
        network = type(self)(**{**self.get_config(), "num_heads": num_heads})
        for layer in self.layers:
            if not layer.weights:
                continue
            copy = network.get_layer(layer.name)
            if num_heads != self.num_heads and hasattr(copy, "copy_single_head"):
                copy.copy_single_head(layer)
            else:
                copy.set_weights(layer.get_weights())
        return network

    def get_config(self):
        return {"name": self.name, "trainable": self.trainable}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return super().from_config(with_present_names(config), custom_objects)


def layer_factory(shared):
    """Function that makes layers by name, or takes those of a network.

    Args:
        shared: None, or the network whose layers are taken.

    Returns:
        Function (class, *arguments, name=..., **arguments) to a layer.
    """

    def layer(cls, *args, name, **kwargs):
        if shared is not None:
            return shared.get_layer(name)
        return cls(*args, name=name, **kwargs)

    return layer


def crop_size(tlc_train_size):
    """A size of training crops as `local_window` takes it: None, an int or two.

    Height and width become a tuple: from files they come as a list.

    Raises:
        ValueError: it is neither None, nor one or two positive whole numbers.
    """
    if tlc_train_size is None:
        return None
    pair = isinstance(tlc_train_size, (list, tuple)) and len(tlc_train_size) == 2
    sizes = tlc_train_size if pair else [tlc_train_size]
    for size in sizes:
        whole = isinstance(size, numbers.Integral) and not isinstance(size, bool)
        if not whole or size < 1:
            raise ValueError(
                "`tlc_train_size` must be None, or one or two positive whole "
                f"numbers. Received: tlc_train_size={tlc_train_size!r}"
            )
    return tuple(map(int, sizes)) if pair else int(tlc_train_size)


def local_window(train_size, level, multiple):
    """Window of a statistic under TLC, 1.5 times what it saw in training.

    Args:
        train_size: None, or the size of the training crops: a number or (height,
            width).
        level: how often the features were halved.
        multiple: what the network pads images to.

    Returns:
        None, or (height, width) in pixels of the features.
    """
    if train_size is None:
        return None
    sizes = (train_size, train_size) if isinstance(train_size, int) else train_size
    # The feature size at training, scaled by 1.5 in whole pixels as TLC does it.
    return tuple(
        ((size + -size % multiple) >> level) * int(1.5 * size) // size for size in sizes
    )
