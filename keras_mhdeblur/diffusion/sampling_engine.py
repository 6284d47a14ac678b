"""Draws the samples of a tile of a photo."""

import math

import keras
import numpy as np

from keras_mhdeblur.deblurrer import Deblurrer
from keras_mhdeblur.diffusion.noise_field import noise_field
from keras_mhdeblur.diffusion.samplers import sample
from keras_mhdeblur.engines.keras_engine import KerasEngine
from keras_mhdeblur.engines.tiling import context_of
from keras_mhdeblur.networks.registry import peak_bytes_per_pixel

# The U-Net pads images to multiples of it.
_MULTIPLE = 8


class SamplingEngine:
    """Samples of a `DiffusionDeblurrer`, tile by tile.

    It reads the model's weights at every call.

    Attributes:
        multiple, alignment, tile_size, bytes_per_pixel, context: of tiles, as in
            `KerasEngine`.

    Args:
        model: `DiffusionDeblurrer`.
    """

    def __init__(self, model):
        self._hypotheses = model.hypotheses
        self._denoiser = _function_of(model.denoiser)
        self._guidance = model.guidance and _function_of(model.guidance)
        networks = [model.denoiser]
        self.multiple, self.context, self.tile_size = _MULTIPLE, context_of(None), None
        self._predictor = self._engine = None
        if isinstance(model.predictor, Deblurrer):
            self._engine = engine = KerasEngine.of(model.predictor)
            self._pairs = model.predictor.head_info.pairs
            self.multiple = math.lcm(self.multiple, engine.multiple)
            self.context = max(self.context, engine.context)
            self.tile_size = engine.tile_size
            networks.append(engine.network)
        elif model.predictor is not None:
            self._predictor = _function_of(model.predictor)
            networks.append(model.predictor)
        self.alignment = self.multiple
        # One after the other.
        self.bytes_per_pixel = max(map(peak_bytes_per_pixel, networks))

    def samples(self, image, rows, columns, count, schedule, seed, eta, on_sample):
        """Samples of a tile.

        Args:
            image: the blurry tile (h, w, C) in [0, 1].
            rows, columns: slices, its place in the photo.
            count, seed, eta: see `DiffusionDeblurrer.restore`.
            schedule: `NoiseSchedule` of the steps.
            on_sample: called after every sample, or None.

        Returns:
            float32 (count, h, w, C) in [0, 1].
        """
        blurry = 2 * image[None] - 1
        guides = ()
        if self._guidance is not None:
            guides = [np.asarray(x, "float32") for x in self._guidance(blurry)[:3]]
        predicted = self._predictions(image)
        images = []
        for index in range(count):
            center = 2 * predicted[index % len(predicted)] - 1

            def denoise(z, level):
                level = np.full(1, level, "float32")
                return self._denoiser(blurry, z[None], level, *guides)[0]

            def noise(step, index=index):
                return noise_field(rows, columns, 3, (seed, index, step))

            residual = sample(denoise, schedule, noise, center, eta)
            images.append((center + residual + 1) / 2)
            if on_sample is not None:
                on_sample()
        return np.stack(images)

    def _predictions(self, image):
        """Images (K, h, w, C) in [0, 1] that the samples are drawn around in turn."""
        if self._predictor is not None:
            return self._predictor(image[None])
        if self._engine is None:
            return np.full((1, 1, 1, 1), 0.5, "float32")
        if self._hypotheses == "each":
            return self._pairs.combined(self._engine.heads(image))
        heads = self._pairs.num_heads
        return self._engine.fold(np.full(heads, 1 / heads))(image)


def _function_of(network):
    """A network as a function of arrays, without tracing it for every image size."""

    def packed(arrays):
        return arrays[0] if len(arrays) == 1 else list(arrays)

    if keras.backend.backend() != "tensorflow":
        return lambda *arrays: network.predict_on_batch(packed(arrays))
    import tensorflow as tf

    function = tf.function(
        lambda *arrays: network(packed(arrays), training=False),
        input_signature=[tf.TensorSpec(x.shape, x.dtype) for x in network.inputs],
    )
    return lambda *arrays: tf.nest.map_structure(np.asarray, function(*arrays))
