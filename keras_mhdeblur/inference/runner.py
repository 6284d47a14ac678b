"""Runs a model's inference network without tracing it for every image size."""

import weakref

import keras

from keras_mhdeblur.layers import PadToMultiple


class NetworkRunner:
    """Head images of a `Deblurrer`, and folded heads at the cost of one head.

    Get it with `NetworkRunner.of(model)`: traced functions are kept per model. They
    read the model's weights at every call, so training in between is seen.
    """

    _runners = weakref.WeakKeyDictionary()

    @classmethod
    def of(cls, model):
        """The runner of a model."""
        network = model._inference_network()
        runner = cls._runners.get(model)
        if runner is None or runner.network is not network:
            runner = cls._runners[model] = cls(network)
        return runner

    def __init__(self, network):
        self.network = network
        self.multiple = max(
            (
                layer.multiple
                for layer in network.layers
                if isinstance(layer, PadToMultiple)
            ),
            default=1,
        )
        self._heads = self._folded = None

    def heads(self, image):
        """Head images (K, H, W, C) of an image (H, W, C)."""
        if self._heads is None:
            self._heads = _SizeIndependent(self.network)
        return self._heads.predict_image(image)

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
            return lambda image: _weighted(self.heads(image), weights)
        if self._folded is None:
            self._folded = _SizeIndependent(self.network.with_folded_heads(weights))
        else:
            # The traced function stays; only the output convolution is folded anew,
            # of the kernels as they are now.
            shared = {id(layer) for layer in self.network.layers}
            for layer in self._folded.network.layers:
                if id(layer) not in shared and layer.weights:
                    self.network.get_layer(layer.name).fold_into(layer, weights)
        return self._folded.predict_image


def _weighted(heads, weights):
    return sum(head * float(weight) for head, weight in zip(heads, weights))[None]


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
