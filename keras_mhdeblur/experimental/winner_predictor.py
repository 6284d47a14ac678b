"""The best hypothesis, predicted from the blurry image.

No published recipe uses it: on photos it finds the winner more rarely than the most
frequent winner is right. A predictor that beats that brings it back.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from keras_mhdeblur.deblurrer import Deblurrer
from keras_mhdeblur.experimental.winner_metrics import BLOCK, WinnerLoss, block_mse
from keras_mhdeblur.layers import PadToMultiple
from keras_mhdeblur.layers.static_shapes import crop
from keras_mhdeblur.losses.assignment import pairwise_mse
from keras_mhdeblur.metrics import HypothesisMetric
from keras_mhdeblur.networks.base import RestorationNetwork
from keras_mhdeblur.photos import photos_of
from keras_mhdeblur.utils.types import ImageLike, Tensor

# Of the convolutions that halve the features down to one position per block.
_FILTERS = (16, 16, 24, 24)


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class WinnerPredictor(keras.Model):
    """Predicts which hypothesis of a trained `Deblurrer` is nearest to the label.

    A small head on the features from which the network makes its head images. The
    winner is that of the whole image, and that of every block of 16x16 pixels, by the
    mean squared error. `fit` trains this head alone: the `Deblurrer` does not change,
    and restores as without it.

    Inputs are blurry images (B, H, W, C), float in [0, 1], of any size; labels are the
    sharp ones. Outputs are a dictionary:
        "image": logits (B, K').
        "blocks": logits (B, ceil(H/16), ceil(W/16), K').
        "heads": head images (B, K, H, W, C), as of the network.

    Where each hypothesis is the mean of the labels it wins, the mean of the hypotheses
    with the probabilities as weights is the best guess in squared error (resilient
    multiple choice learning, arXiv 2311.01052).

    Files (`save`, `save_weights`) hold the `Deblurrer` as well, and `load_weights`
    gives it the weights in the file.

    Args:
        deblurrer: `Deblurrer` of one of `keras_mhdeblur.networks`.

    Attributes:
        deblurrer: it.

    Example:

    ```python
    model = keras_mhdeblur.from_preset("nafnet_mh_c")
    predictor = WinnerPredictor(model)
    predictor.compile(keras.optimizers.Adam(1e-3))
    predictor.fit(dataset_of_blurry_and_sharp)
    result = model.restore("photo.jpg")
    weighted = result.select(predictor.image_weights("photo.jpg"))
    composed = result.compose(predictor.labels("photo.jpg"))
    ```
    """

    def __init__(self, deblurrer: Deblurrer, **kwargs: Any) -> None:
        network = deblurrer.network
        if not isinstance(network, RestorationNetwork):
            raise ValueError(
                "`deblurrer` must have a network of `keras_mhdeblur.networks`. "
                f"Received: deblurrer.network={network}"
            )
        super().__init__(**{**kwargs, "dtype": "float32"})
        network = deblurrer._inference_network()
        # Of two decoders those of the first: the others' lie rotated.
        features = network._head_inputs()[0]
        trunk = keras.Model(network.inputs[0], [network.outputs[0], features])
        # In functions, so that Keras does not track and train what is frozen.
        self._deblurrer = lambda: deblurrer
        self._trunk = lambda: trunk
        self.head = _head(features.shape[-1], deblurrer.num_hypotheses)
        self.built = True

    @property
    def deblurrer(self) -> Deblurrer:
        return self._deblurrer()

    def call(self, images, training=False):
        heads, features = self.frozen(images)
        return {**self.head(features, training=training), "heads": heads}

    def frozen(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The frozen part, which may be computed once for many epochs of `head`.

        Args:
            images: blurry images (B, H, W, C), float in [0, 1].

        Returns:
            Head images (B, K, H, W, C) and the features (B, H, W, F) that `head` takes.
        """
        heads, features = self._trunk()(images, training=False)
        return heads, ops.stop_gradient(crop(features, images, axis=1))

    def squared_errors(self, heads: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Mean squared errors of the hypotheses, by which winners are found.

        Args:
            heads: head images (B, K, H, W, C).
            labels: sharp images (B, H, W, C).

        Returns:
            Dictionary of those of the "image" (B, K') and of its "blocks"
            (B, ceil(H/16), ceil(W/16), K').
        """
        combine = self.deblurrer.combine_heads
        errors = heads - ops.expand_dims(labels, 1)
        return {
            "image": pairwise_mse(errors, combine),
            "blocks": block_mse(errors, combine),
        }

    def compile(
        self,
        optimizer: str | keras.optimizers.Optimizer = "adam",
        metrics: Mapping[str, Sequence[keras.metrics.Metric]] | None = None,
        **kwargs: Any,
    ) -> None:
        """Configures training, as `keras.Model.compile`.

        The loss is the sum of the `winner_metrics.WinnerLoss`es of the image and of the
        blocks.

        Args:
            optimizer: Keras optimizer.
            metrics: dictionary from "image" and "blocks" to lists of metrics of
                (squared errors, logits), such as `winner_metrics.WinnerAccuracy()`.
            kwargs: further arguments of `keras.Model.compile`.
        """
        for metric in keras.tree.flatten(metrics):
            if isinstance(metric, HypothesisMetric) and metric.num_hypotheses is None:
                metric.build(self.deblurrer.num_hypotheses)
        loss = {"image": WinnerLoss(), "blocks": WinnerLoss()}
        super().compile(optimizer=optimizer, loss=loss, metrics=metrics, **kwargs)
        # A file's optimizer state needs variables to be loaded into.
        self.optimizer.build(self.trainable_variables)

    def compile_from_config(self, config):
        config = keras.saving.deserialize_keras_object(config)
        self.compile(**{key: config[key] for key in config if key != "loss"})

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        errors, logits = self._errors_and_logits(y, y_pred)
        return super().compute_loss(x, errors, logits, sample_weight, training)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        errors, logits = self._errors_and_logits(y, y_pred)
        return super().compute_metrics(x, errors, logits, sample_weight)

    def image_weights(self, image: ImageLike) -> np.ndarray:
        """Probability of every hypothesis to be the best of the whole image.

        Args:
            image: one image, as `restore` takes it. It is not tiled.

        Returns:
            float64 (K',) that sum to one: a `select` of `restore`.
        """
        return self._probabilities(image, "image")

    def block_weights(self, image: ImageLike) -> np.ndarray:
        """Probability of every hypothesis to be the best of a block of 16x16 pixels.

        Args:
            image: one image, as `restore` takes it. It is not tiled.

        Returns:
            float64 (ceil(H/16), ceil(W/16), K'), of which the K' sum to one.
        """
        return self._probabilities(image, "blocks")

    def labels(self, image: ImageLike) -> np.ndarray:
        """The most probable hypothesis of every block, at every pixel.

        Args:
            image: one image, as `restore` takes it. It is not tiled.

        Returns:
            Integers (H, W), for `RestoreResult.compose`.
        """
        photo = _one_photo(image)
        labels = self.block_weights(photo).argmax(axis=-1)
        labels = labels.repeat(BLOCK, axis=0).repeat(BLOCK, axis=1)
        height, width = photo.values.shape[:2]
        return labels[:height, :width]

    def get_config(self):
        return {
            "name": self.name,
            "deblurrer": keras.saving.serialize_keras_object(self.deblurrer),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        deblurrer = keras.saving.deserialize_keras_object(
            config["deblurrer"], custom_objects=custom_objects
        )
        return cls(**{**config, "deblurrer": deblurrer})

    def _errors_and_logits(self, y, y_pred):
        """Squared errors of the hypotheses, and logits, of the image and of blocks."""
        squares = self.squared_errors(y_pred["heads"], y)
        return squares, {name: y_pred[name] for name in squares}

    def _probabilities(self, image, output):
        logits = self(_one_photo(image).pixels[None])[output][0]
        # In double precision: `restore` checks that weights sum to one.
        values = ops.convert_to_numpy(logits).astype("float64")
        values = np.exp(values - values.max(axis=-1, keepdims=True))
        return values / values.sum(axis=-1, keepdims=True)


def _head(channels, num_hypotheses):
    """Functional model from features to logits of the image and of its blocks."""
    features = keras.Input((None, None, channels), name="features")
    # Features have the scale that suits their network.
    x = layers.BatchNormalization(momentum=0.9, dtype="float32", name="norm")(features)
    x = PadToMultiple(BLOCK, name="pad")(x)
    for index, filters in enumerate(_FILTERS):
        x = layers.Conv2D(
            filters, 3, strides=2, padding="same", activation="relu",
            dtype="float32", name=f"down_{index}",
        )(x)  # fmt: skip
    blocks = layers.Dense(num_hypotheses, dtype="float32", name="blocks")(x)
    x = layers.GlobalAveragePooling2D(dtype="float32", name="pool")(x)
    x = layers.Dense(32, activation="relu", dtype="float32", name="hidden")(x)
    image = layers.Dense(num_hypotheses, dtype="float32", name="image")(x)
    return keras.Model(features, {"image": image, "blocks": blocks}, name="head")


def _one_photo(image):
    photos, _ = photos_of(image)
    if len(photos) != 1:
        raise ValueError(
            f"`image` must be one image. Received: image.shape={np.shape(image)}"
        )
    return photos[0]
