"""A network, the combination of its heads, and the training step that joins them."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import keras

from keras_mhdeblur.hypotheses.adaptive import check_coefficients
from keras_mhdeblur.hypotheses.calibration import Calibration
from keras_mhdeblur.hypotheses.pairs import Pairs
from keras_mhdeblur.hypotheses.selection import HeadInfo, to_python
from keras_mhdeblur.inference.restoring import restore
from keras_mhdeblur.layers import HeadCombination
from keras_mhdeblur.losses import HypothesisLoss, PSNRLoss
from keras_mhdeblur.metrics import HypothesisMetric
from keras_mhdeblur.networks.base import crop_size
from keras_mhdeblur.presets.litert import choice_fingerprint
from keras_mhdeblur.presets.loading import load_preset
from keras_mhdeblur.presets.saving import save_to_preset
from keras_mhdeblur.utils.renamed import with_present_names
from keras_mhdeblur.utils.types import (
    CropSize,
    ImageLike,
    LocalStatistics,
    LossLike,
    Output,
    PathLike,
    Select,
    Size,
    Synthesis,
    Tensor,
)

if TYPE_CHECKING:
    from keras_mhdeblur.export import Report

if keras.backend.backend() == "tensorflow":
    from keras_mhdeblur.trainers.tensorflow_trainer import TensorFlowTrainer as _Trainer
else:
    from keras_mhdeblur.trainers.keras_trainer import KerasTrainer as _Trainer


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class Deblurrer(_Trainer):
    """Deblurs images into several hypotheses; trains the one nearest to the label.

    Inputs are blurry images (B, H, W, C), float in [0, 1], of any size. `model(x)` and
    `model.predict(x)` return the hypotheses (B, K', H, W, C), not clipped: the
    K' = K(K+1)/2 pair averages of the network's K head images, ordered as in
    `hypotheses.pairs.Pairs`, or the heads themselves. With `training=True` the call
    returns what the loss needs, the list of the network's head stacks (B, K, H, W, C),
    one per stage, final stage first.

    In `fit`, every sample's label is assigned to its nearest hypothesis and only that
    one is trained (`losses.HypothesisLoss`; arXiv 2208.13029). Labels (B, T, H, W, C)
    are T targets per sample, each assigned by itself.

    Args:
        network: a model from images to a head stack, or to a list of them, final
            stage first; `keras_mhdeblur.networks` has some.
        combine_heads: whether heads are averaged in pairs. The pairs are those of the
            network's `combination`: all of them, or "axes" for two decoders (see
            `hypotheses.pairs.Pairs`).
        select: how `restore` makes one image of the hypotheses when it is not told:
            "mean", "medoid", "single", "adaptive", a pair of heads (i, j) or a tuple of
            weights, floats, one per hypothesis.
        best_pair: the pair of heads (i, j) whose average is best over a validation
            set; what `restore(select="single")` returns. The first pair by default.
        tlc_train_size: size in pixels of the training crops, to pool over windows
            of 1.5 times that size at inference (TLC); None for global statistics.
            Training uses global statistics always.
        adaptive_weights: what `restore(select="adaptive")` needs, from
            `training.fit_adaptive_weights`; None if there are none.
        calibration: gate and statements of `restore`, from `evaluation.calibrate`, a
            `Calibration` or its configuration; None if there are none. It is of certain
            weights and of `select`, `best_pair` and `adaptive_weights`: with others it
            has no effect.

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

    synthesis: Synthesis | None = None

    def __init__(
        self,
        network: keras.Model,
        combine_heads: bool = True,
        select: Select = "mean",
        best_pair: Sequence[int] | None = None,
        tlc_train_size: CropSize = None,
        adaptive_weights: Sequence[Sequence[float]] | None = None,
        calibration: Calibration | dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        # The layers cast for themselves: the blurry image reaches the heads unrounded.
        super().__init__(autocast=False, **kwargs)
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
        self.tlc_train_size = tlc_train_size = crop_size(tlc_train_size)
        pairs = Pairs(self.num_heads, self.combine_heads)
        self._choose(HeadInfo(pairs), "mean")
        self.adaptive_weights = adaptive_weights
        self.best_pair = best_pair
        self.select = select
        # Its weights may follow: it is compared with them when it is used.
        self._take(calibration)
        inference_network = network
        if tlc_train_size is not None:
            inference_network = network.with_local_statistics(tlc_train_size)
        # In a function, so that Keras does not track the shared layers twice.
        self._inference_network = lambda: inference_network
        self._combine = HeadCombination(
            self.combine_heads, name="combine_heads", dtype="float32"
        )
        self.built = True

    @property
    def select(self) -> Select:
        """The default of `restore`'s argument `select`; checked when it is set."""
        return self._select

    @select.setter
    def select(self, select: Select) -> None:
        self._choose(self.head_info, to_python(select))

    @property
    def best_pair(self) -> tuple[int, int] | None:
        """The pair of heads (i, j) of `select="single"`; checked when it is set."""
        return self.head_info.best_pair

    @best_pair.setter
    def best_pair(self, best_pair: Sequence[int] | None) -> None:
        best_pair = to_python(best_pair)
        if best_pair is not None:
            if not isinstance(best_pair, tuple) or len(best_pair) != 2:
                raise ValueError(
                    "`best_pair` must be a pair of heads (i, j). "
                    f"Received: best_pair={best_pair!r}"
                )
            self.head_info.parse(best_pair, "best_pair")
        info = dataclasses.replace(self.head_info, best_pair=best_pair)
        self._choose(info, self.select)

    @property
    def adaptive_weights(self) -> tuple[tuple[float, ...], ...] | None:
        """Coefficients that `select="adaptive"` needs; checked when they are set."""
        return self.head_info.adaptive_weights

    @adaptive_weights.setter
    def adaptive_weights(self, coefficients: Sequence[Sequence[float]] | None) -> None:
        weights = to_python(coefficients)
        if weights is not None:
            check_coefficients(weights, self.num_heads, "select")
        info = dataclasses.replace(self.head_info, adaptive_weights=weights)
        self._choose(info, self.select)

    @property
    def calibration(self) -> Calibration | None:
        """Gate and statements of `restore`; compared with the model when it is set.

        Raises:
            ValueError: it is of other weights or choices.
        """
        return self.head_info.calibration

    @calibration.setter
    def calibration(self, calibration: Calibration | dict[str, Any] | None) -> None:
        self._take(calibration)
        taken = self.calibration
        if taken is None:
            return
        own = choice_fingerprint(self)
        if taken.fingerprint != own:
            self._take(None)
            raise ValueError(
                "`calibration` must be of this model's present weights, `select`, "
                "`best_pair` and `adaptive_weights`, whose fingerprint is "
                f"{own[:12]}. Received: calibration.fingerprint="
                f"{taken.fingerprint[:12]}"
            )

    def _take(self, calibration):
        if isinstance(calibration, dict):
            calibration = Calibration.from_config(calibration)
        info = dataclasses.replace(self.head_info, calibration=calibration)
        self._choose(info, self.select)

    def _choose(self, info, select):
        """Takes facts about the heads and a default selection that fit each other."""
        info.parse(select)
        # Past Keras, which would replace tuples by containers that it tracks.
        object.__setattr__(self, "_head_info", info)
        object.__setattr__(self, "_select", select)

    @property
    def head_info(self) -> HeadInfo:
        """`HeadInfo` of the heads, for `restore`."""
        return self._head_info

    @property
    def num_heads(self) -> int:
        """Number of head images K of the network."""
        return getattr(self.network, "num_head_images", self.network.num_heads)

    @property
    def num_hypotheses(self) -> int:
        """Number of hypotheses K'."""
        return len(self.head_info.pairs)

    def call(self, images, training=False):
        network = self.network if training else self._inference_network()
        stacks = network(images, training=training)
        stacks = list(stacks) if isinstance(stacks, (list, tuple)) else [stacks]
        return stacks if training else self._combine(stacks[0])

    def compile(
        self,
        optimizer: str | keras.optimizers.Optimizer = "rmsprop",
        loss: LossLike | None = None,
        metrics: Sequence[keras.metrics.Metric] | None = None,
        synthesis: Synthesis | None = None,
        **kwargs: Any,
    ) -> None:
        """Configures training, as `keras.Model.compile`.

        Args:
            optimizer: Keras optimizer. On TensorFlow its `global_clipnorm` is applied
                to the sum over all replicas.
            loss: loss of one image, an `ImageLoss` or any Keras loss;
                `losses.PSNRLoss()` by default. A `HypothesisLoss` is taken as it is.
            metrics: metrics of (labels, hypotheses), for example
                `metrics.PSNROverall()`. Keras gives sample weights, those of targets,
                too, to its `weighted_metrics` only.
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
        for metric in [*(metrics or []), *(kwargs.get("weighted_metrics") or [])]:
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

    @classmethod
    def from_preset(
        cls, preset: PathLike, load_weights: bool = True, **overrides: Any
    ) -> "Deblurrer":
        """Loads a model from a preset.

        Files are compared with the preset's sha256 sums first, and every variable of
        the model must be in the weights file, no more and no less.

        Args:
            preset: name of a built-in preset (see `list_presets`), path of a preset's
                folder, "hf://user/repo" or "hf://user/repo@revision". A folder that has
                a built-in preset's name is written "./name".
            load_weights: whether to load the weights; False gives random ones.
            overrides: arguments of the network (`num_heads=5`) or of `Deblurrer`
                (`select="medoid"`, `tlc_train_size=256`) to use in place of the
                preset's. `stages` of MAXIM may be less than the preset's. Others that
                change the weights' shapes need `load_weights=False`. Of the networks of
                a preset that joins several, `stages` is the only one.

        Returns:
            A `Deblurrer`, not compiled.

        Raises:
            PresetError: the preset does not exist, cannot be reached or is damaged, has
                no weights, or an override is unknown or does not fit the weights.

        Example:

        ```python
        model = keras_mhdeblur.from_preset("nafnet_mh_c")
        model.restore("photo.jpg").save("sharp.png")
        ```
        """
        return load_preset(cls, preset, load_weights, overrides)

    save_to_preset = save_to_preset
    restore = restore

    def export(
        self,
        filepath: PathLike,
        format: Literal[
            "litert", "onnx", "openvino", "saved_model", "tf_saved_model", "torch"
        ] = "tf_saved_model",
        output: Output = "selected",
        *,
        tlc_train_size: LocalStatistics = "model",
        size: Size | None = None,
        weights: str | None = None,
        representative_data: Iterable[ImageLike] | None = None,
        version: int | None = None,
        warm_up_sizes: Sequence[Size] | None = None,
        photo: ImageLike | None = None,
        **keras_options: Any,
    ) -> "Report | None":
        """Writes the model for another runtime.

        All formats but Keras' own are run and compared with Keras.

        Args:
            filepath: the file or folder to write.
            format: "litert", "onnx", "openvino" or "saved_model" (for TensorFlow
                Serving), see `export.to_litert`, `to_onnx`, `to_openvino` and
                `to_saved_model`. "tf_saved_model" or "torch": the hypotheses, not
                clipped, as Keras writes them.
            output: "selected" (the image that `select` names), "mean", "single",
                "adaptive", a pair of heads (i, j), a head i, "heads", "hypotheses" or
                "all", see `export.output_graph`.
            tlc_train_size: size of the training crops for TLC, None for global
                statistics, or "model" for the model's own.
            size: None, or the (height, width) that the input is fixed to.
            weights: of "litert": "float32" (default), "float16", "int8" or
                "full_int8".
            representative_data: of "litert" with "full_int8": blurry images.
            version: of "saved_model": the version's number, 1 by default.
            warm_up_sizes: of "saved_model": sizes that the server prepares for.
            photo: photo to compare with, a path or an array; one comes with the
                package.
            keras_options: for "tf_saved_model" and "torch": arguments of
                `keras.Model.export`.

        Returns:
            `export.Report` of the comparison; None of Keras' own formats.

        Raises:
            ExportError: the model cannot be converted, or the file does not run.
            ImportError: a package is missing; the message names it.
            OSError: the file cannot be written.
            ValueError: an argument is out of its range, or not one of the format.

        Example:

        ```python
        print(model.export("deblur.tflite", "litert", weights="float16"))
        ```
        """
        options = {
            "size": size,
            "weights": weights,
            "representative_data": representative_data,
            "version": version,
            "warm_up_sizes": warm_up_sizes,
            "photo": photo,
        }
        options = {key: value for key, value in options.items() if value is not None}
        if format not in ("tf_saved_model", "torch"):
            # TensorFlow's converters take seconds to load.
            from keras_mhdeblur.export import export_as

            options |= {"output": output, "tlc_train_size": tlc_train_size}
            return export_as(self, filepath, format, **options, **keras_options)
        for name, value in options.items():
            raise ValueError(
                f"`{name}` is not an option of the format {format}. "
                f"Received: {name}={value!r}"
            )
        if format == "tf_saved_model":
            channels = getattr(self.network, "image_channels", 3)
            images = keras.InputSpec("float32", (None, None, None, channels))
            keras_options.setdefault("input_signature", [images])
        return super().export(filepath, format, **keras_options)

    def degraded(self, batch: Sequence[Tensor]) -> Sequence[Tensor]:
        """A batch for training, with the blur that `synthesis` of `compile` adds.

        Args:
            batch: (blurry, sharp) or with weights, or (patches, seeds) as in
                `data.sharp_folder`.

        Returns:
            The batch, of (blurry, sharp) in any case; sharp may have several targets.

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
        else:
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
            "tlc_train_size": self.tlc_train_size,
            "adaptive_weights": self.adaptive_weights,
            "calibration": self.calibration and self.calibration.get_config(),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        network = keras.saving.deserialize_keras_object(
            config["network"], custom_objects=custom_objects
        )
        return cls(**{**with_present_names(config), "network": network})


def from_preset(
    preset: PathLike, load_weights: bool = True, **overrides: Any
) -> Deblurrer:
    """Loads a model from a preset; see `Deblurrer.from_preset`."""
    return Deblurrer.from_preset(preset, load_weights, **overrides)
