"""A model in a LiteRT file: restores photos without Keras and TensorFlow."""

import os
import threading

import numpy as np

from keras_mhdeblur.engines.tiling import context_of
from keras_mhdeblur.hypotheses.calibration import Calibration
from keras_mhdeblur.hypotheses.pairs import Pairs
from keras_mhdeblur.hypotheses.selection import HeadInfo, to_python
from keras_mhdeblur.hypotheses.stacks import weighted_mean


class LiteRTEngine:
    """Base of what `restore` takes in place of a `Deblurrer`: all but the head images.

    Args:
        num_heads, combine_heads, select, best_pair, adaptive_weights, calibration: of
            the model, see `Deblurrer`.
        multiple, tile_size: see `KerasEngine`.
        context: see `tiling.context_of`.
        bytes_per_pixel: peak memory that it takes.
        fingerprint: of the model, see `presets.litert.fingerprint`, or None.
    """

    def __init__(
        self,
        *,
        num_heads,
        combine_heads,
        multiple,
        tile_size,
        context,
        bytes_per_pixel,
        select,
        best_pair,
        adaptive_weights,
        calibration,
        fingerprint,
    ):
        self.num_heads = num_heads
        self.combine_heads = combine_heads
        self.multiple = multiple
        self.tile_size = tile_size
        self.alignment = multiple if tile_size is None else 1
        self.context = context
        self.bytes_per_pixel = bytes_per_pixel
        self.select = to_python(select)
        self.best_pair = to_python(best_pair)
        self.adaptive_weights = to_python(adaptive_weights)
        self.calibration = calibration and Calibration.from_config(calibration)
        self.fingerprint = fingerprint

    @property
    def head_info(self):
        """See `Deblurrer.head_info`."""
        pairs = Pairs(self.num_heads, self.combine_heads)
        choices = self.best_pair, self.adaptive_weights, self.calibration
        return HeadInfo(pairs, *choices)

    def heads(self, image):
        """Head images (K, H, W, C) of an image (H, W, C)."""
        raise NotImplementedError

    def fold(self, weights):
        """Function from an image (H, W, C) to the weighted mean of its head images.

        Args:
            weights: (K,), sum to one.

        Returns:
            Function whose output is (1, H, W, C).
        """
        return lambda image: weighted_mean(self.heads(image), weights)[None]


class LiteRTModel(LiteRTEngine):
    """A model that LiteRT runs; `restore` takes it in place of a `Deblurrer`.

    Importing it and running it needs neither Keras nor TensorFlow, so that the
    command line answers at once.

    Args:
        path: file that `export.to_litert(model, path, output="heads")` wrote.
        num_heads, combine_heads, select, best_pair, adaptive_weights, calibration: of
            the model, see `Deblurrer`.
        multiple, tile_size: see `KerasEngine`.
        bytes_per_pixel: peak memory that it takes.
        tlc_train_size: with which it was exported.
        fingerprint: of the model, see `presets.litert.fingerprint`, or None.

    Raises:
        ImportError: if ai-edge-litert is not installed.
        ValueError: if the file is damaged.
    """

    def __init__(
        self,
        path,
        *,
        num_heads,
        combine_heads,
        multiple,
        bytes_per_pixel,
        tile_size=None,
        tlc_train_size=None,
        select="mean",
        best_pair=None,
        adaptive_weights=None,
        calibration=None,
        fingerprint=None,
    ):
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise ImportError(
                "The LiteRT engine needs the package ai-edge-litert: "
                f"`pip install ai-edge-litert` ({error})."
            ) from error
        super().__init__(
            num_heads=num_heads,
            combine_heads=combine_heads,
            multiple=multiple,
            tile_size=tile_size,
            context=context_of(tlc_train_size, tile_size),
            bytes_per_pixel=bytes_per_pixel,
            select=select,
            best_pair=best_pair,
            adaptive_weights=adaptive_weights,
            calibration=calibration,
            fingerprint=fingerprint,
        )
        self._interpreter = Interpreter(str(path), num_threads=cores())
        (self._input,) = self._interpreter.get_input_details()
        (self._output,) = self._interpreter.get_output_details()
        self._shape = None
        # The interpreter's buffers serve one image at a time.
        self._lock = threading.Lock()
        # The runtime prepares itself at its first image: now, so that a damaged file
        # is found and the runtime's log ends before the work begins.
        self.heads(np.zeros((multiple, multiple, 3), "float32"))

    def heads(self, image):
        """Head images (K, H, W, C) of an image (H, W, C)."""
        interpreter, index = self._interpreter, self._input["index"]
        with self._lock:
            # Planning the memory takes a twentieth of the time: once for tiles alike.
            if image.shape != self._shape:
                self._shape = None
                interpreter.resize_tensor_input(index, (1, *image.shape))
                interpreter.allocate_tensors()
                self._shape = image.shape
            interpreter.set_tensor(index, image[None])
            interpreter.invoke()
            return interpreter.get_tensor(self._output["index"])[0]


def cores():
    """Number of cores that this process may use.

    OMP_NUM_THREADS limits them, as elsewhere; Ray sets it for its workers.
    """
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdecimal() and int(wanted):
        return int(wanted)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
