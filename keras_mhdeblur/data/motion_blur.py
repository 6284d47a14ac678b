"""Blur with its settings, for the input pipeline or for the training step."""

import inspect

from keras import ops

from keras_mhdeblur.data.synthesis import synthesize_motion_blur
from keras_mhdeblur.utils.spelling import did_you_mean

# What is not left to the user.
_NO_SETTINGS = ("sharp", "seed", "margin", "return_frames")


class MotionBlur:
    """`synthesize_motion_blur` with its settings, for the batches of `sharp_folder`.

    As the `synthesis` of `Deblurrer.compile` it runs in the training step, on the
    device that trains: where that is a GPU, the CPU does not keep up. It gives what
    `synthesized_folder` gives.

    Args:
        max_path: longest path of the camera in pixels.
        settings: further arguments of `synthesize_motion_blur`, but for `margin` and
            `return_frames`.

    Call arguments:
        patches: (B, S + 2 margin, S + 2 margin, C) uint8.
        seeds: (B,) integers.

    Call returns: (blurry, sharp), float32 (B, S, S, C) in [0, 1].

    Raises:
        ValueError: a setting is unknown.

    Example:

    ```python
    blur = keras_mhdeblur.data.MotionBlur(max_path=24)
    data = keras_mhdeblur.data.sharp_folder("photos", margin=blur.margin)
    model.compile(optimizer, synthesis=blur)
    model.fit(data)
    ```
    """

    def __init__(self, max_path=24.0, **settings):
        known = inspect.signature(synthesize_motion_blur).parameters
        known = [name for name in known if name not in _NO_SETTINGS]
        for name, value in settings.items():
            if name not in known:
                raise ValueError(
                    f"Unknown setting of the blur.{did_you_mean(name, known)} "
                    f"Received: {name}={value!r}"
                )
        self.max_path = max_path
        self.settings = settings

    @property
    def margin(self):
        """Pixels around a patch that the blur may reach for."""
        return int(self.max_path) + 4

    def __call__(self, patches, seeds):
        return synthesize_motion_blur(
            ops.cast(patches, "float32") / 255.0,
            seeds,
            max_path=self.max_path,
            margin=self.margin,
            **self.settings,
        )
