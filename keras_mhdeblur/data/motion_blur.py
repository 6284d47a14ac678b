"""Blur with its settings, for the input pipeline or for the training step."""

import dataclasses
from collections.abc import Callable

import keras
from keras import ops

from keras_mhdeblur.data.synthesis import synthesize_motion_blur

# Ranges of the settings that have one.
_RANGES = {
    "max_path": (0, 10000),
    "label_jitter": (0, 0.5),
    "still_share": (0, 1),
    "max_defocus": (0, 3),
    "gamma_spread": (0, 0.5),
    "min_resampling": (0.25, 1),
}


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
@dataclasses.dataclass(frozen=True)
class MotionBlur:
    """The simulated camera of `synthesize_motion_blur`: all settings of its blur.

    It blurs the batches of `sharp_folder`. As the `synthesis` of `Deblurrer.compile`
    it runs in the training step, on the device that trains: where that is a GPU, the
    CPU does not keep up. `synthesized_folder` gives the same patches.

    Args:
        max_path: Number from 0, longest path of the camera in pixels.
        max_rotation: Number, largest rotation over the exposure in degrees, about the
            centre.
        label_jitter: Number from 0 to 0.5. The label's time is uniform within this
            distance of the middle; the exposure lasts 1, so 0 is the middle frame and
            0.5 is any frame.
        num_frames: Integer, number of sub-exposures. Take one for every two pixels of
            `max_path`, or a network learns to take what repeats in a picture for blur.
        num_targets: Integer T from 1 to `num_frames`. With 1 the label is one image, at
            the time that `label_jitter` says. With more it is T images: the
            sub-exposures nearest to the middles of T equal parts of the exposure (the
            later of two), in order of time. All of them are right answers
            (`losses.HypothesisLoss`). They are interpolated, so a little softer than
            the one image, which is not; `label_jitter` says at which moment the picture
            lies where it does in the photo.
        gamma: Number, exponent of the camera's response, or a pair of functions (to
            linear, from linear). Functions must be registered with Keras to be saved
            and loaded.
        max_noise: Number, largest standard deviation of the noise at mid-grey.
        max_highlight: Number; saturated pixels had up to this many times full exposure.
        jpeg_quality: None, or (lowest, highest) quality; half the samples are
            compressed.
        max_zoom: Number, largest relative change of scale over the exposure.
        path_exponent: Number. Lengths of paths are `max_path * u**path_exponent`, u
            uniform in [0, 1): more than 1 for more short exposures.
        still_share: Number from 0 to 1, share of the samples with a camera at rest.
        max_objects: Integer. A sample has 0 to this many blobs of the picture, with
            more or less soft borders, that move on paths of their own: 0.5 to 1.5 times
            the camera's and up to `max_path / 2` besides.
        max_lights: Integer. Half the samples are darkened, and have up to this many
            small lamps (three channels only).
        max_defocus: Number from 0 to 3. Half the samples are out of focus, by a
            Gaussian of up to this standard deviation in pixels.
        gamma_spread: Number from 0 to 0.5. Each sample's exponent is `gamma` times 1
            minus to 1 plus this.
        max_late_noise: Number, largest standard deviation of noise that is added
            behind the camera's response.
        min_resampling: Number from 0.25 to 1. Half the samples are reduced by up to
            this factor and enlarged again.

    Call arguments:
        patches: (B, S + 2 margin, S + 2 margin, C) uint8.
        seeds: (B,) integers.

    Call returns: (blurry, sharp), float32 (B, S, S, C) in [0, 1]; with several targets
        sharp is (B, num_targets, S, S, C).

    Raises:
        ValueError: a setting is out of its range.

    Example:

    ```python
    data = keras_mhdeblur.data
    blur = data.MotionBlur(max_path=24)
    patches = data.Patches(patch_size=128, batch_size=32)
    photos = data.sharp_folder("photos", patches, margin=blur.margin)
    model.compile(optimizer, synthesis=blur)
    model.fit(photos)
    ```
    """

    max_path: float = 24.0
    _: dataclasses.KW_ONLY
    max_rotation: float = 1.0
    label_jitter: float = 0.1
    num_frames: int = 16
    num_targets: int = 1
    gamma: float | tuple[Callable, Callable] = 2.2
    max_noise: float = 0.01
    max_highlight: float = 3.0
    jpeg_quality: tuple[float, float] | None = None
    max_zoom: float = 0.0
    path_exponent: float = 1.0
    still_share: float = 0.0
    max_objects: int = 0
    max_lights: int = 0
    max_defocus: float = 0.0
    gamma_spread: float = 0.0
    max_late_noise: float = 0.0
    min_resampling: float = 1.0

    def __post_init__(self):
        for name in ("gamma", "jpeg_quality"):
            if isinstance(getattr(self, name), list):  # JSON and YAML have no tuples
                object.__setattr__(self, name, tuple(getattr(self, name)))
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(
                    f"`{name}` must be between {low} and {high}. "
                    f"Received: {name}={value}"
                )
        count = self.num_targets
        if not isinstance(count, int) or not 1 <= count <= self.num_frames:
            raise ValueError(
                "`num_targets` must be an integer from 1 to `num_frames`, "
                f"{self.num_frames}. Received: num_targets={count!r}"
            )

    @property
    def target_frames(self) -> list[int]:
        """Numbers of the sub-exposures that are the targets, from 0, in order."""
        count, frames = self.num_targets, self.num_frames
        return [(2 * t + 1) * frames // (2 * count) for t in range(count)]

    @property
    def margin(self) -> int:
        """Pixels around a patch that the blur may reach for."""
        return int(self.max_path) + 4

    def __call__(self, patches, seeds):
        sharp = ops.cast(patches, "float32") / 255.0
        return synthesize_motion_blur(sharp, seeds, self, margin=self.margin)

    def get_config(self):
        config = dataclasses.asdict(self)
        if self.jpeg_quality is not None:
            config["jpeg_quality"] = list(self.jpeg_quality)
        return config | {"gamma": keras.saving.serialize_keras_object(self.gamma)}

    @classmethod
    def from_config(cls, config):
        gamma = keras.saving.deserialize_keras_object(config["gamma"])
        return cls(**config | {"gamma": gamma})
