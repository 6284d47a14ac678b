"""Deblurring by sampling: a predictor, and a denoiser that refines its images."""

from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from keras_mhdeblur.deblurrer import Deblurrer
from keras_mhdeblur.diffusion.guidance import StructureGuidance
from keras_mhdeblur.diffusion.sampling_engine import SamplingEngine
from keras_mhdeblur.diffusion.schedule import NoiseSchedule, check_count
from keras_mhdeblur.engines.tiling import TilePlan, run_tiled
from keras_mhdeblur.hypotheses.pairs import Pairs
from keras_mhdeblur.hypotheses.selection import HeadInfo
from keras_mhdeblur.inference.guard import Guard
from keras_mhdeblur.inference.restoring import check_memory_limit, memory_shares
from keras_mhdeblur.inference.result import RestoreResult, selected_values
from keras_mhdeblur.losses import L1Loss
from keras_mhdeblur.photos import photos_of
from keras_mhdeblur.utils.disk_arrays import Budget
from keras_mhdeblur.utils.progress import tile_progress
from keras_mhdeblur.utils.types import ImageLike, Progress, Select, Tensor

# Memory of Python, its libraries and the model.
_RUNTIME_BYTES = 700e6


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class DiffusionDeblurrer(keras.Model):
    """Deblurs images into samples of what may have been sharp.

    With `target="residual"` it is DvSR (Whang et al., CVPR 2022, arXiv 2112.02475): a
    predictor g deblurs the image y, and a denoiser draws samples of the residual
    x - g(y) to the sharp image x. With `target="image"` the denoiser draws samples of x
    itself; with a `StructureGuidance` this is arXiv 2212.01789.

    `fit` takes batches of (blurry, sharp), (B, H, W, C) in [0, 1] of any size. The loss
    is the mean absolute error of the predicted noise, at random noise levels of
    `schedule`. It needs no `loss` in `compile`. An optimizer with `use_ema=True` leaves
    moving averages of the weights, which give better samples. `restore` draws samples;
    `model(x)` returns what the loss needs.

    Args:
        predictor: a model from images in [0, 1] to images, such as a `UNet`, or a
            `Deblurrer`, whose `hypotheses` are taken as it restores with them. It is
            trained with the denoiser; with `predictor.trainable = False` it stays as it
            is. None if `target` is "image".
        denoiser: a `UNet` with `noise_input=True`.
        guidance: `StructureGuidance` of a guided denoiser, or None. The mean absolute
            errors of its predictions are added to the loss.
        target: "residual" or "image".
        hypotheses: of a `Deblurrer` as predictor. "mean": the mean of its hypotheses is
            refined. "each": every sample refines one of them, in turn, in training a
            random one.
        schedule: `NoiseSchedule` of the training; the default one if None.
        lambda_predictor: weight in the loss of the predictor's own mean absolute error,
            in [-1, 1]. The paper has none, and the default is 0. But then nothing holds
            the colours of a predictor that is trained, as the denoiser can make up for
            them: 0.1 is stable.

    Raises:
        ValueError: an argument is wrong, or the parts do not fit each other.

    Example:

    ```python
    diffusion = keras_mhdeblur.diffusion
    model = diffusion.DiffusionDeblurrer(
        predictor=diffusion.UNet(base=64),
        denoiser=diffusion.UNet(base=32, noise_input=True),
    )
    model.compile(keras.optimizers.AdamW(1e-4, use_ema=True, ema_momentum=0.9999))
    model.fit(dataset_of_blurry_and_sharp)
    result = model.restore("photo.jpg", samples=8, steps=20)
    ```
    """

    def __init__(
        self,
        predictor: keras.Model | None,
        denoiser: keras.Model,
        guidance: StructureGuidance | None = None,
        target: Literal["residual", "image"] = "residual",
        hypotheses: Literal["mean", "each"] = "mean",
        schedule: NoiseSchedule | None = None,
        lambda_predictor: float = 0.0,
        **kwargs: Any,
    ) -> None:
        # The layers cast for themselves: images reach the loss unrounded.
        super().__init__(autocast=False, **kwargs)
        if target not in ("residual", "image"):
            raise ValueError(
                f'`target` must be "residual" or "image". Received: target={target!r}'
            )
        if (target == "residual") != (predictor is not None):
            raise ValueError(
                '`predictor` must be a model with the target "residual", and None with '
                f'"image". Received: predictor={predictor}, target={target!r}'
            )
        if hypotheses not in ("mean", "each"):
            raise ValueError(
                '`hypotheses` must be "mean" or "each". '
                f"Received: hypotheses={hypotheses!r}"
            )
        if hypotheses == "each" and not isinstance(predictor, Deblurrer):
            raise ValueError(
                '`hypotheses` must be "mean" unless `predictor` is a `Deblurrer`. '
                f"Received: hypotheses={hypotheses!r}"
            )
        if not lambda_predictor >= 0 or (lambda_predictor and predictor is None):
            raise ValueError(
                "`lambda_predictor` must be at least 0, and 0 without a predictor. "
                f"Received: lambda_predictor={lambda_predictor}"
            )
        if not denoiser.noise_input:
            raise ValueError(
                "`denoiser` must have a noise input. "
                f"Received: denoiser.noise_input={denoiser.noise_input}"
            )
        if denoiser.guided != (guidance is not None):
            raise ValueError(
                "`guidance` must be there for a guided denoiser, and only then. "
                f"Received: guidance={guidance}, denoiser.guided={denoiser.guided}"
            )
        if guidance is not None and guidance.base != denoiser.base:
            raise ValueError(
                f"`guidance` must have the base of the denoiser, {denoiser.base}. "
                f"Received: guidance.base={guidance.base}"
            )
        for name, model in ("predictor", predictor), ("guidance", guidance):
            if isinstance(model, Deblurrer):
                model = model.network
            channels = getattr(model, "image_channels", denoiser.image_channels)
            if channels != denoiser.image_channels:
                raise ValueError(
                    f"`{name}` must be of images of {denoiser.image_channels} "
                    "channels, as the denoiser. "
                    f"Received: {name} of image_channels={channels}"
                )
        self.predictor = predictor
        self.denoiser = denoiser
        self.guidance = guidance
        self.target = target
        self.hypotheses = hypotheses
        self.schedule = NoiseSchedule() if schedule is None else schedule
        self.lambda_predictor = float(lambda_predictor)
        self._seeds = keras.random.SeedGenerator()
        self._l1 = L1Loss()
        self._engine: SamplingEngine | None = None
        self.built = True

    def call(self, images: Tensor, training: bool = False) -> dict[str, Tensor]:
        shape = ops.shape(images)
        drawn = {
            "noise_level": self.schedule.draw(shape[0], self._seeds),
            "noise": keras.random.normal(shape, dtype="float32", seed=self._seeds),
        }
        if self.predictor is not None:
            drawn["prediction"] = self._predicted(images)
        return drawn

    def _predicted(self, images):
        predicted = self.predictor(images, training=False)
        if isinstance(self.predictor, Deblurrer):
            predicted = ops.cast(predicted, "float32")
            if self.hypotheses == "mean":
                predicted = ops.mean(predicted, axis=1)
            else:
                batch, count = ops.shape(predicted)[0], predicted.shape[1]
                chosen = keras.random.randint((batch,), 0, count, seed=self._seeds)
                weights = ops.one_hot(chosen, count, dtype="float32")
                predicted = ops.sum(weights[:, :, None, None, None] * predicted, axis=1)
        if not self.predictor.trainable_weights:
            predicted = ops.stop_gradient(predicted)
        return predicted

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        if self.loss is not None:
            raise ValueError(
                "`loss` of `compile` must be None: the model has its own. "
                f"Received: loss={self.loss!r}"
            )
        blurry, sharp = (2 * ops.cast(images, "float32") - 1 for images in (x, y))
        clean, noise, level = sharp, y_pred["noise"], y_pred["noise_level"]
        total = 0.0
        if self.predictor is not None:
            prediction = 2 * y_pred["prediction"] - 1
            clean = sharp - prediction
            if self.lambda_predictor:
                error = self._l1(sharp, prediction, sample_weight)
                total = total + self.lambda_predictor * error
        inputs = [blurry, _noisy(clean, noise, level), level]
        if self.guidance is not None:
            outputs = self.guidance(blurry, training=training)
            inputs += outputs[:3]
            for target, found in zip(self.guidance.targets(sharp), outputs[3:]):
                total = total + self._l1(target, found, sample_weight)
        found = self.denoiser(inputs, training=training)
        return sum(self.losses, total + self._l1(noise, found, sample_weight))

    def restore(
        self,
        image: ImageLike,
        *,
        samples: int = 4,
        steps: int = 20,
        noise: float | None = None,
        seed: int = 0,
        eta: float = 1.0,
        select: Select = "mean",
        tile: int | Literal["auto"] | None = "auto",
        memory_limit_mb: float = 2048,
        guard: bool = True,
        progress: Progress = False,
    ) -> RestoreResult:
        """Draws samples of what a blurry photo may have been.

        The samples take the place of hypotheses: `result.hypotheses` are the samples,
        and `result.uncertainty` is their standard deviation. The same seed gives the
        same samples, in tiles of any size but for what a tile does not see around it.

        Args:
            image: as `inference.restore` takes it.
            samples: number of samples.
            steps: number of steps per sample.
            noise: variance of the noise in the first of them, see
                `NoiseSchedule.for_sampling`; by default as there.
            seed: a whole number from 0 to 2**32 - 1 that fixes the noise.
            eta: share of the noise that steps add, see `samplers.sample`: 1 is
                ancestral sampling, 0 is DDIM.
            select: how one image is made of the samples. "mean": their average, which
                has the lowest error. "medoid": the one nearest to it. i: sample i. A
                weight per sample, that sum to one, or a function, as in
                `inference.restore`.
            tile: "auto", tile size in pixels, or None: the whole image at once. See
                `inference.restore`.
            memory_limit_mb: memory in MB, an estimate, for "auto". It covers the
                runtime, the networks' activations, the blended tiles, the result and
                the samples (12 bytes per sample and pixel). Result and samples take a
                quarter of it at most; the rest of them lies in temporary files
                (TMPDIR). The smallest tile may need more.
            guard: whether to keep the photo where the mean of the samples cannot be
                what was blurred (`result.kept`).
            progress: whether to show a progress bar over samples and tiles on stderr;
                or a function that is called with the numbers of samples of tiles done
                and in all, first with 0.

        Returns:
            `inference.RestoreResult`.

        Raises:
            FloatingPointError: a step gave values that are no numbers.
            ImageFileError: the file cannot be read.
            ValueError: an argument is out of its range.
        """
        check_count("samples", samples)
        schedule = self.schedule.for_sampling(steps, noise)
        if not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**32:
            raise ValueError(
                "`seed` must be a whole number from 0 to 2**32 - 1. "
                f"Received: seed={seed!r}"
            )
        if not 0 <= eta <= 1:
            raise ValueError(f"`eta` must be from 0 to 1. Received: eta={eta}")
        check_memory_limit(memory_limit_mb)
        if self.denoiser.image_channels != 3:
            raise ValueError(
                "`denoiser` must be of RGB images to restore photos. "
                f"Received: denoiser.image_channels={self.denoiser.image_channels}"
            )
        info = HeadInfo(Pairs(samples, False))
        selection = info.parse(select)
        photos, array = photos_of(image, memory_limit_mb)
        engine = self._sampling_engine()
        height, width = photos[0].values.shape[:2]
        for_results, for_tiles = memory_shares(
            memory_limit_mb, photos, samples, _RUNTIME_BYTES
        )
        budget = Budget(for_results)
        plan = TilePlan.of(tile, (height, width), engine, for_tiles, samples)

        def restored(photo, on_sample):
            watch = Guard(plan.rows, plan.columns, selection.weights) if guard else None

            def drawn(rows, columns):
                blurry = photo.crop(rows, columns)
                stack = engine.samples(
                    blurry, rows, columns, samples, schedule, seed, eta, on_sample
                )
                return watch(stack, blurry, rows, columns) if watch else stack

            channels = 1 if photo.gray else 3
            heads = budget.empty((samples, height, width, channels), "float32")
            for top, bottom, stack in run_tiled(drawn, plan):
                if photo.gray:
                    stack = stack.mean(axis=-1, keepdims=True)
                heads[:, top:bottom] = stack
            values = selected_values(heads, photo, selection)
            return values, heads, watch and watch.kept

        with tile_progress(progress, len(photos) * len(plan) * samples) as on_sample:
            images, stacks, kept = zip(
                *[restored(photo, on_sample) for photo in photos]
            )
        return RestoreResult(
            photos, images, array, stacks, kept if guard else None, info
        )

    def _sampling_engine(self):
        if self._engine is None:
            # Past Keras, which would track the networks a second time.
            object.__setattr__(self, "_engine", SamplingEngine(self))
        return self._engine

    def get_config(self):
        parts = {
            name: keras.saving.serialize_keras_object(getattr(self, name))
            for name in ("predictor", "denoiser", "guidance", "schedule")
        }
        return {
            **super().get_config(),
            **parts,
            "target": self.target,
            "hypotheses": self.hypotheses,
            "lambda_predictor": self.lambda_predictor,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        parts = {
            name: keras.saving.deserialize_keras_object(config[name], custom_objects)
            for name in ("predictor", "denoiser", "guidance", "schedule")
        }
        return cls(**{**config, **parts})


def _noisy(clean, noise, level):
    """Images (B, H, W, C) with normal noise, at noise levels (B,)."""
    level = level[:, None, None, None]
    rest = ops.sqrt(ops.maximum(1 - level * level, 0))
    return level * clean + rest * noise
