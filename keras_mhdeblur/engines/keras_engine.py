"""Runs a model in Keras, without tracing it for every image size."""

import math
import threading
import weakref

import keras
import numpy as np

from keras_mhdeblur.engines.tiling import context_of
from keras_mhdeblur.hypotheses.stacks import weighted_mean
from keras_mhdeblur.layers import PadToMultiple
from keras_mhdeblur.networks.base import crop_size
from keras_mhdeblur.networks.ensemble import Ensemble
from keras_mhdeblur.networks.registry import peak_bytes_per_pixel


class KerasEngine:
    """Head images of a `Deblurrer`, and folded heads at the cost of one head.

    Get it with `KerasEngine.of(model)`: traced functions are kept per model. They
    read the model's weights at every call, so training in between is seen.

    Attributes:
        num_heads: number of head images K.
        multiple: what sizes of tiles are multiples of: what the network pads images
            to, and windows that it cuts them into.
        alignment: what tiles begin at multiples of.
        tile_size: see `RestorationNetwork`.
        bytes_per_pixel: estimate of the network's peak memory, see
            `networks.registry.peak_bytes_per_pixel`.
        context: pixels of a tile's border that only serve those further inside.
    """

    _engines = weakref.WeakKeyDictionary()

    @classmethod
    def of(cls, model, tlc_train_size="model"):
        """The engine of a model.

        Args:
            model: `Deblurrer`.
            tlc_train_size: "model": as the model has it; otherwise as the argument
                of `Deblurrer`.
        """
        engines = cls._engines.setdefault(model, {})
        if tlc_train_size in ("model", model.tlc_train_size):
            network, key = model._inference_network(), "model"
        else:
            network, key = model.network, crop_size(tlc_train_size)
        if key not in engines or engines[key][0] is not network:
            if key == "model":
                engine = cls(network, model.tlc_train_size)
            else:
                engine = cls(network.with_local_statistics(key), key)
            engines[key] = network, engine
        return engines[key][1]

    def __init__(self, network, tlc_train_size=None):
        self.network = network
        self.num_heads = getattr(network, "num_head_images", 1)
        self.tile_size = getattr(network, "tile_size", None)
        self.context = context_of(tlc_train_size, self.tile_size)
        self.bytes_per_pixel = peak_bytes_per_pixel(network)
        # One after the other: they need not fit into memory together.
        self._parts = network.members if isinstance(network, Ensemble) else (network,)
        self.multiple = math.lcm(*(n for part in self._parts for n in _multiples(part)))
        self.alignment = self.multiple if self.tile_size is None else 1
        self._heads = self._folded = None
        # All folded images share one traced network; `_current` is whose weights it
        # has.
        self._lock = threading.Lock()
        self._current = None

    def heads(self, image):
        """Head images (K, H, W, C) of an image (H, W, C)."""
        if self._heads is None:
            self._heads = [_SizeIndependent(part) for part in self._parts]
        stacks = [part.predict_image(image) for part in self._heads]
        return stacks[0] if len(stacks) == 1 else np.concatenate(stacks)

    def fold(self, weights):
        """Function from an image (H, W, C) to the weighted mean of its head images.

        Args:
            weights: (K,), sum to one.

        Returns:
            Function whose output is (1, H, W, C).
        """
        if len(weights) == 1:
            return self.heads
        if not hasattr(self.network, "with_folded_heads"):
            return lambda image: weighted_mean(self.heads(image), weights)[None]

        def folded(image):
            with self._lock:
                if self._current is not folded:
                    self._fold_anew(weights)
                    self._current = folded
                return self._folded.predict_image(image)

        return folded

    def _fold_anew(self, weights):
        if self._folded is None:
            self._folded = _SizeIndependent(self.network.with_folded_heads(weights))
            return
        # The traced function stays; only the output convolution is folded, of the
        # kernels as they are now.
        shared = {id(layer) for layer in self.network.layers}
        for layer in self._folded.network.layers:
            if id(layer) not in shared and layer.weights:
                self.network.get_layer(layer.name).fold_into(layer, weights)


def _multiples(network):
    """What sizes of a network's tiles are multiples of."""
    for layer in network.layers:
        if isinstance(layer, PadToMultiple):
            yield layer.multiple
    # Tiles have the windows that the image has.
    yield from getattr(network, "attention_window", None) or ()


class _SizeIndependent(keras.Model):
    """The final stage of a network, with a predict function for all image sizes."""

    def __init__(self, network):
        super().__init__(name="final_stage", dtype="float32")
        self.network = network
        self.built = True
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            # XLA would compile for every image size. Keras' own relaxation of
            # shapes traces three times until it has found out which sizes vary;
            # traced here for unknown ones, no image is traced again.
            self.jit_compile = False
            self.make_predict_function()
            images = tf.TensorSpec((None, None, None, 3), "float32")
            self.predict_function.get_concrete_function([(images,)])

    def call(self, images):
        stacks = self.network(images, training=False)
        return stacks[0] if isinstance(stacks, (list, tuple)) else stacks

    def predict_image(self, image):
        return self.predict_on_batch(image[None])[0]


def has_gpu():
    """True if Keras' backend has a GPU."""
    if keras.backend.backend() == "torch":  # which Keras has no list for (3.15)
        import torch

        return torch.cuda.is_available()
    # Of the best kind that there is; to ask JAX for "gpu" fails where there is none.
    return any(name.startswith("gpu") for name in keras.distribution.list_devices())
