"""Callbacks of `runs.train`: state, log, pictures, emergency stop."""

import csv
import shutil
import time

import h5py
import keras
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from keras_mhdeblur.inference.heatmap import colour_map
from keras_mhdeblur.utils.atomic import atomic_file

_EPOCHS = "finished_epochs"
# Always the same, so that kills do not leave many behind.
_PARTIAL = "partial.weights.h5"


class SaveEpoch(keras.callbacks.Callback):
    """After each epoch, adds a row to the log, then replaces the saved state.

    Files appear whole or not at all. Rows of epochs that are trained again, because
    the state was not saved any more, are replaced. (Of `keras.callbacks.CSVLogger`'s
    rows half the columns are "NA", and it repeats epochs.) That the state can be
    written is tried before the first step.

    Args:
        log: path of the CSV file.
        state: path of the weights file, "NAME.weights.h5"; `finished_epochs` tells how
            many epochs are in it.
    """

    def __init__(self, log, state):
        super().__init__()
        self.log = log
        self.state = state

    def on_train_begin(self, logs=None):
        partial = self.state.with_name(_PARTIAL)
        self._write_state(partial, 0)
        size, free = partial.stat().st_size, shutil.disk_usage(partial.parent).free
        partial.unlink()
        if free < 2 * size:
            raise OSError(
                f"There is too little room in {partial.parent}: {free / 1e6:.0f} MB, "
                f"and {2 * size / 1e6:.0f} MB are needed to replace the saved state."
            )

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        seconds = round(time.monotonic() - self.started, 1)
        values = dict(sorted((logs or {}).items()))
        self._write_row({"epoch": epoch, **values, "seconds": seconds})
        with atomic_file(self.state, _PARTIAL) as partial:
            self._write_state(partial, epoch + 1)

    def _write_state(self, path, epochs):
        self.model.save_weights(path)
        with h5py.File(path, "a") as file:
            file.attrs[_EPOCHS] = epochs

    def _write_row(self, row):
        rows = []
        if self.log.exists():
            with open(self.log, newline="") as file:
                rows = list(csv.DictReader(file))
        rows = [old for old in rows if int(old["epoch"]) < row["epoch"]] + [row]
        columns = dict.fromkeys(key for row in rows for key in row)
        with atomic_file(self.log) as partial, open(partial, "w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)


def finished_epochs(state):
    """Number of epochs in a state of `SaveEpoch`; None in states before version 0.1."""
    with h5py.File(state) as file:
        epochs = file.attrs.get(_EPOCHS)
    return None if epochs is None else int(epochs)


class ImagesPerSecond(keras.callbacks.Callback):
    """Adds `images_per_second`, training patches of an epoch, to its logs.

    Args:
        batch_size: patches per step (global batch size).
    """

    def __init__(self, batch_size):
        super().__init__()
        self.batch_size = batch_size

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        images = self.params["steps"] * self.batch_size
        logs["images_per_second"] = images / (time.monotonic() - self.started)


class StopOnNonFinite(keras.callbacks.Callback):
    """Counts steps whose loss is not finite; ends the training after some in a row.

    On TensorFlow such a step is taken with gradients of zero. The epoch's metrics start
    anew after it, and its logs say how many there were: `non_finite_steps`.

    Args:
        limit: steps in a row.

    Raises:
        FloatingPointError: from `fit`, after that many.
    """

    def __init__(self, limit=20):
        super().__init__()
        self.limit = limit
        self.in_a_row = 0

    def on_epoch_begin(self, epoch, logs=None):
        self.count = 0

    def on_train_batch_end(self, batch, logs=None):
        if np.isfinite(logs["loss"]):
            self.in_a_row = 0
            return
        self.count += 1
        self.in_a_row += 1
        self.model.reset_metrics()
        if self.in_a_row == self.limit:
            raise FloatingPointError(
                f"The loss was not finite in {self.limit} steps in a row. The state of "
                "the last whole epoch is kept; a lower learning rate may help."
            )

    def on_epoch_end(self, epoch, logs=None):
        logs["non_finite_steps"] = self.count


class PicturePanel(keras.callbacks.Callback):
    """Every few epochs, a picture of what the model does to the same patches.

    Rows are samples; columns are the blurry patch, its best hypothesis, the sharp
    label (of several targets the middle one) and the disagreement of the hypotheses
    (standard deviation; the brightest colour is 0.05). Below, the share of the epoch's
    samples that each hypothesis won, if `HypothesisUsage` is among the metrics.

    Args:
        folder: where epoch_NNNN.png are written, and patches.npz, with which a
            training that goes on shows the same patches.
        dataset: of (blurry, sharp, ...); its first batch is shown.
        every: epochs between two pictures.
        count: samples shown.
    """

    def __init__(self, folder, dataset, every, count=4):
        super().__init__()
        self.folder = folder
        self.every = every
        patches = folder / "patches.npz"
        if not patches.exists():
            blurry, sharp = map(keras.ops.convert_to_numpy, next(iter(dataset))[:2])
            if sharp.ndim > blurry.ndim:
                sharp = sharp[:, sharp.shape[1] // 2]
            folder.mkdir(parents=True, exist_ok=True)
            with atomic_file(patches) as partial, open(partial, "wb") as file:
                np.savez(file, blurry=blurry[:count], sharp=sharp[:count])
        with np.load(patches) as kept:
            self.blurry, self.sharp = kept["blurry"], kept["sharp"]

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self.every:
            return
        # `predict_on_batch` would show every replica the whole batch.
        hypotheses = keras.ops.convert_to_numpy(self.model(self.blurry))
        errors = np.mean((hypotheses - self.sharp[:, None]) ** 2, axis=(2, 3, 4))
        best = hypotheses[np.arange(len(errors)), errors.argmin(axis=1)]
        spread = np.std(hypotheses, axis=1).mean(axis=-1)
        columns = [self.blurry, best, self.sharp]
        columns = [np.rint(255 * np.clip(c, 0, 1)).astype("uint8") for c in columns]
        columns.append(colour_map(spread / 0.05))
        panel = np.concatenate([np.concatenate(c, axis=0) for c in columns], axis=1)
        if "usage_0" in logs:
            # Not in the order of the logs, in which 10 comes before 2.
            usage = [logs[f"usage_{k}"] for k in range(hypotheses.shape[1])]
            panel = np.concatenate([panel, _bars(usage, panel.shape[1])])
        with atomic_file(self.folder / f"epoch_{epoch + 1:04d}.png") as partial:
            Image.fromarray(panel).save(partial, "PNG")


def _bars(shares, width, height=80):
    """Histogram of shares as an RGB picture (height, width, 3)."""
    picture = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(10)
    step = width / len(shares)
    for k, share in enumerate(shares):
        left, right = k * step + 2, (k + 1) * step - 2
        top = height - 14 - (height - 28) * share
        draw.rectangle((left, top, right, height - 14), fill=(74, 12, 107))
        middle = (left + right) / 2
        draw.text((middle, height - 12), str(k), "black", font, anchor="ma")
        draw.text((middle, top - 1), f"{100 * share:.0f}%", "black", font, anchor="ms")
    return np.array(picture)
