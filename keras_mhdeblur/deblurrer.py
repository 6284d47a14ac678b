"""A network, the combination of its heads, and the training step that joins them."""

import keras

from keras_mhdeblur.combination import pair_indices
from keras_mhdeblur.layers import HeadCombination
from keras_mhdeblur.losses import HypothesisLoss, PSNRLoss
from keras_mhdeblur.metrics import HypothesisMetric
from keras_mhdeblur.networks.base import crop_size

if keras.backend.backend() == "tensorflow":
    from keras_mhdeblur.training.tensorflow_trainer import TensorFlowTrainer as _Trainer
else:
    from keras_mhdeblur.training.keras_trainer import KerasTrainer as _Trainer


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class Deblurrer(_Trainer):
    """Deblurs images into several hypotheses; trains the one nearest to the label.

    Inputs are blurry images (B, H, W, C), float in [0, 1], of any size. `model(x)` and
    `model.predict(x)` return the hypotheses (B, K', H, W, C), not clipped: the
    K' = K(K+1)/2 pair averages of the network's K head images, ordered as in
    `combination.pair_indices`, or the heads themselves. With `training=True` the call
    returns what the loss needs, the list of the network's head stacks (B, K, H, W, C),
    one per stage, final stage first.

    In `fit`, every sample's label is assigned to its nearest hypothesis and only that
    one is trained (`losses.HypothesisLoss`; arXiv 2208.13029).

    Args:
        network: a model from images to a head stack, or to a list of them, final
            stage first; `keras_mhdeblur.networks` has some.
        combine_heads: whether heads are averaged in pairs. The pairs are those of the
            network's `combination`: all of them, or "axes" for two decoders (see
            `combination.pair_indices`).
        select: how `restore` makes one image of the hypotheses when it is not told:
            "mean", "medoid", "single", "adaptive", a pair of heads (i, j) or a tuple of
            weights, floats, one per hypothesis.
        best_pair: the pair of heads (i, j) whose average is best over a validation
            set; what `restore(select="single")` returns. The first pair by default.
        local_statistics: size in pixels of the training crops, to pool over windows
            of 1.5 times that size at inference (TLC); None for global statistics.
            Training uses global statistics always.
        adaptive_weights: what `restore(select="adaptive")` needs, from
            `training.fit_adaptive_weights`; None if there are none.

    Raises:
        ValueError: an argument is wrong, or does not fit the network's heads.

    Example:

    ```python
    network = keras_mhdeblur.networks.NAFNet(width=16, num_heads=4)
    model = keras_mhdeblur.Deblurrer(network)
    model.compile(optimizer=keras.optimizers.AdamW(1e-3, global_clipnorm=0.01))
    model.fit(dataset_of_blurry_and_sharp)
    ```
    """

    synthesis = None

    def __init__(
        self,
        network,
        combine_heads=True,
        select="mean",
        best_pair=None,
        local_statistics=None,
        adaptive_weights=None,
        **kwargs,
    ):
        # The layers cast for themselves: the blurry image reaches the heads unrounded.
        super().__init__(autocast=False, **kwargs)
        from keras_mhdeblur.inference.adaptive import check_coefficients
        from keras_mhdeblur.inference.selection import head_weights

        if not isinstance(combine_heads, bool):
            raise ValueError(
                "`combine_heads` must be True or False. "
                f"Received: combine_heads={combine_heads!r}"
            )
        combination = getattr(network, "combination", True)
        if combination == "axes" and not combine_heads:
            raise ValueError(
                "The heads of this network are no images by themselves and must be "
                f"combined. Received: combine_heads={combine_heads}"
            )
        self.network = network
        self.combine_heads = combination if combine_heads else False
        self.select = select
        self.best_pair = best_pair
        self.local_statistics = local_statistics = crop_size(local_statistics)
        self.adaptive_weights = adaptive_weights
        head_weights(self, self.select)
        if best_pair is not None:
            if not isinstance(self.best_pair, tuple) or len(self.best_pair) != 2:
                raise ValueError(
                    "`best_pair` must be a pair of heads (i, j). "
                    f"Received: best_pair={best_pair!r}"
                )
            head_weights(self, self.best_pair, "best_pair")
        if adaptive_weights is not None:
            check_coefficients(adaptive_weights, self.num_heads, "select")
        inference_network = network
        if local_statistics is not None:
            inference_network = network.with_local_statistics(local_statistics)
        # In a function, so that Keras does not track the shared layers twice.
        self._inference_network = lambda: inference_network
        self._combine = HeadCombination(
            self.combine_heads, name="combine_heads", dtype="float32"
        )
        self.built = True

    def __setattr__(self, name, value):
        if name in ("select", "best_pair", "adaptive_weights"):
            from keras_mhdeblur.inference.selection import plain

            value = plain(value)
        super().__setattr__(name, value)

    @property
    def num_heads(self):
        """Number of head images K of the network."""
        return getattr(self.network, "num_head_images", self.network.num_heads)

    @property
    def num_hypotheses(self):
        """Number of hypotheses K'."""
        return len(pair_indices(self.num_heads, self.combine_heads))

    def call(self, images, training=False):
        network = self.network if training else self._inference_network()
        stacks = network(images, training=training)
        stacks = list(stacks) if isinstance(stacks, (list, tuple)) else [stacks]
        return stacks if training else self._combine(stacks[0])

    def compile(
        self, optimizer="rmsprop", loss=None, metrics=None, synthesis=None, **kwargs
    ):
        """Configures training, as `keras.Model.compile`.

        Args:
            optimizer: Keras optimizer. On TensorFlow its `global_clipnorm` is applied
                to the sum over all replicas.
            loss: loss of one image, an `ImageLoss` or any Keras loss;
                `losses.PSNRLoss()` by default. A `HypothesisLoss` is taken as it is.
            metrics: metrics of (labels, hypotheses), for example
                `metrics.PSNROverall()`.
            synthesis: what makes (blurry, sharp) of the (patches, seeds) of
                `data.sharp_folder` in the training step, on the device that trains; a
                `data.MotionBlur`. Batches of images are taken as they are. It is not
                saved with the model.
            kwargs: further arguments of `keras.Model.compile`.
        """
        loss = PSNRLoss() if loss is None else loss
        if not isinstance(loss, HypothesisLoss):
            loss = HypothesisLoss(loss, combine=self.combine_heads)
        if loss.combine != self.combine_heads:
            raise ValueError(
                f"The model has combine_heads={self.combine_heads}, and `loss` must "
                f"combine likewise. Received: loss.combine={loss.combine}"
            )
        for metric in metrics or []:
            if isinstance(metric, HypothesisMetric) and metric.num_hypotheses is None:
                metric.build(self.num_hypotheses)
        super().compile(optimizer=optimizer, loss=loss, metrics=metrics, **kwargs)
        self.synthesis = synthesis
        # Built here, the optimizer's variables are not created inside the first
        # training step, which would trace it twice.
        if self.optimizer is not None and not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)

    def compile_from_config(self, config):
        # Keras does not call an overridden `compile` by itself when it loads a model.
        self.compile(**keras.saving.deserialize_keras_object(config))

    def restore(self, image, **options):
        """Restores a photo; see `keras_mhdeblur.inference.restore`."""
        from keras_mhdeblur.inference import restore

        return restore(self, image, **options)

    def inference_engine(self, engine="auto", local_statistics="model"):
        """What computes the head images in `restore`, which explains the arguments.

        Returns:
            `inference.KerasEngine` or `inference.LiteRTModel`.
        """
        from keras_mhdeblur.inference.keras_engine import KerasEngine
        from keras_mhdeblur.presets import litert

        if engine not in ("auto", "keras", "litert"):
            raise ValueError(
                '`engine` must be "auto", "keras" or "litert". '
                f"Received: engine={engine!r}"
            )
        if engine == "litert":
            return litert.litert_of(self, local_statistics)
        found = None
        if engine == "auto" and litert.litert_installed() and not _has_gpu():
            found = litert.litert_of(self, local_statistics, make=False)
        return found or KerasEngine.of(self, local_statistics)

    def save_to_preset(self, folder, **options):
        """Writes a preset folder; see `keras_mhdeblur.presets.save_to_preset`."""
        from keras_mhdeblur.presets import save_to_preset

        save_to_preset(self, folder, **options)

    def export(self, filepath, format="tf_saved_model", **options):
        """Writes the model for another runtime.

        Args:
            filepath: the file or folder to write.
            format: "litert", "onnx", "openvino" or "saved_model" (for TensorFlow
                Serving): one image by default, compared with Keras, see
                `keras_mhdeblur.export`. "tf_saved_model" or "torch": the hypotheses,
                not clipped, as Keras writes them.
            options: arguments of `export.to_litert`, `to_onnx`, `to_openvino` or
                `to_saved_model`, or of `keras.Model.export`.

        Returns:
            `export.Report` of the comparison; None of Keras' own formats.
        """
        if format in ("tf_saved_model", "torch"):
            if format == "tf_saved_model":
                channels = getattr(self.network, "image_channels", 3)
                images = keras.InputSpec("float32", (None, None, None, channels))
                options.setdefault("input_signature", [images])
            return super().export(filepath, format, **options)
        from keras_mhdeblur.export import export_as

        return export_as(self, filepath, format, **options)

    def train_step(self, *arguments):
        *state, batch = arguments  # only JAX passes a state
        return super().train_step(*state, self.blurred(batch))

    def test_step(self, *arguments):
        *state, batch = arguments
        return super().test_step(*state, self.blurred(batch))

    def blurred(self, batch):
        """A batch for training, with the blur that `synthesis` of `compile` adds.

        Args:
            batch: (blurry, sharp) or with weights, or (patches, seeds) as in
                `data.sharp_folder`.

        Returns:
            The batch, of (blurry, sharp) in any case.

        Raises:
            ValueError: the batch is to be blurred, and nothing is there to do it.
        """
        patches, seeds, weights = keras.utils.unpack_x_y_sample_weight(batch)
        if len(getattr(seeds, "shape", ())) != 1:
            return batch
        if self.synthesis is None:
            raise ValueError(
                "Batches of sharp patches and seeds need `synthesis` in `compile`. "
                f"Received: synthesis={self.synthesis}"
            )
        return (*self.synthesis(patches, seeds), weights)

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        loss = self.loss
        if not isinstance(y_pred, list):  # hypotheses, no head stacks
            loss = HypothesisLoss(
                loss.base,
                False,
                loss.relaxation,
                reduction=loss.reduction,
                dtype=loss.dtype,
            )
        elif loss.assignment == "annealed":
            loss = loss.at_step(self.current_step())
        total = loss(y, y_pred, sample_weight)
        return sum(self.losses, total)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        if isinstance(y_pred, list):
            y_pred = self._combine(y_pred[0])
        return super().compute_metrics(x, y, y_pred, sample_weight)

    def get_config(self):
        return {
            **super().get_config(),
            "network": keras.saving.serialize_keras_object(self.network),
            "combine_heads": bool(self.combine_heads),
            "select": self.select,
            "best_pair": self.best_pair,
            "local_statistics": self.local_statistics,
            "adaptive_weights": self.adaptive_weights,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        network = keras.saving.deserialize_keras_object(
            config["network"], custom_objects=custom_objects
        )
        return cls(**{**config, "network": network})


def _has_gpu():
    return bool(keras.distribution.list_devices("gpu"))
