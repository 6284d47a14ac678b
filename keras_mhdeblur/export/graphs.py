"""A `Deblurrer` as a graph from images to what an exported model gives."""

import functools
from typing import Literal

import keras
import numpy as np
from keras import ops

from keras_mhdeblur.export.adaptive import AdaptiveMean
from keras_mhdeblur.hypotheses.selection import Medoid
from keras_mhdeblur.layers import HeadCombination
from keras_mhdeblur.utils.spelling import did_you_mean
from keras_mhdeblur.utils.types import AnyDeblurrer, LocalStatistics, Output, Size

# What `output` can be besides heads and pairs of them.
KINDS = ("selected", "mean", "single", "adaptive", "heads", "hypotheses", "all")
INPUT_NAME = "images"
# `tlc_train_size` of an export: those of the model.
OWN: Literal["model"] = "model"


def output_graph(
    model: AnyDeblurrer,
    output: Output = "selected",
    *,
    tlc_train_size: LocalStatistics = OWN,
    size: Size | None = None,
    batch: int | None = None,
) -> keras.Model:
    """The model that is exported: from images to a dict of named outputs.

    Input: "images" (B, H, W, C), float32 in [0, 1]. Outputs, all float32:

    - "image": (B, H, W, C), one restored image, clipped to [0, 1].
    - "heads": (B, K, H, W, C), the head images, not clipped.
    - "hypotheses": (B, K', H, W, C), clipped to [0, 1], ordered as in
      `hypotheses.pairs.Pairs`.
    - "uncertainty": (B, H, W), the standard deviation over the hypotheses before
      clipping, as `RestoreResult.uncertainty`.

    It shares the model's weights but for the output convolution of an image, which
    is folded now (`RestorationNetwork.with_folded_heads`): a graph of one image
    costs what the network with a single head costs, but for "adaptive", whose weights
    depend on all heads. Of several stages only the final one is an output.

    Args:
        model: `Deblurrer`.
        output: "selected": the output "image" as `model.select` has it, the mean for
            "medoid"; "mean", "single", "adaptive", (i, j), i or a weight per
            hypothesis, as `select` of `restore`; "heads"; "hypotheses"; or "all": the
            selected image, hypotheses and uncertainty.
        tlc_train_size: "model" for the model's own; None for global statistics;
            or the size of the training crops in pixels, a number or (height, width),
            for TLC (see `Deblurrer`).
        size: (H, W) to which the graph is fixed, or None for any.
        batch: B to which the graph is fixed, or None for any.

    Returns:
        A `keras.Model`.

    Raises:
        ValueError: if an argument is out of its range.

    Example:

    ```python
    graph = output_graph(model, "all")
    graph(images)["uncertainty"]  # (B, H, W)
    ```
    """
    selection = image_selection(model, output)
    check_size(size)
    shape = (*(size or (None, None)), getattr(model.network, "image_channels", 3))
    if batch is not None and not _is_positive(batch):
        raise ValueError(
            f"`batch` must be None or a positive number. Received: batch={batch!r}"
        )
    network = inference_network(model, tlc_train_size)
    images = keras.Input(shape, batch, "float32", name=INPUT_NAME)

    kind = output if isinstance(output, str) else "pair"
    weights = None if selection is None else selection.weights
    if weights is not None and kind != "all" and hasattr(network, "with_folded_heads"):
        network, weights = network.with_folded_heads(weights), np.ones(1)
    heads = network(images)
    heads = heads[0] if isinstance(heads, (list, tuple)) else heads
    values = {}
    if kind == "heads":
        values["heads"] = heads
    if selection is not None:
        if weights is None:
            image = AdaptiveMean(selection.coefficients)(heads, images)
        else:
            image = _weighted(heads, weights)
        values["image"] = ops.clip(image, 0, 1)
    if kind in ("hypotheses", "all"):
        combine = HeadCombination(model.combine_heads, dtype="float32")
        values["hypotheses"] = ops.clip(combine(heads), 0, 1)
    if kind == "all":
        values["uncertainty"] = _uncertainty(heads, model.head_info.pairs)
    return keras.Model(images, values, name=model.network.name)


def image_selection(model, output):
    """The choice of the output "image" among the heads.

    Args:
        model: `Deblurrer`.
        output: as in `output_graph`.

    Returns:
        `Weighted` or `Adaptive`, or None where there is no image among the outputs.

    Raises:
        ValueError: if there is no such output or no such heads.
    """
    if callable(output) or (isinstance(output, str) and output == "medoid"):
        raise ValueError(
            '`output` cannot be "medoid" or a function: what they choose depends on '
            'the image. Export "hypotheses" or "heads" and choose among them. '
            f"Received: output={output!r}"
        )
    select = output
    if isinstance(output, str):
        if output in ("heads", "hypotheses"):
            return None
        if output not in KINDS:
            raise ValueError(
                '`output` must be "selected", "mean", "single", "adaptive", a pair of '
                'heads (i, j), a head i, "heads", "hypotheses" or "all".'
                f"{did_you_mean(output, KINDS)} Received: output={output!r}"
            )
        if output in ("selected", "all"):
            select = model.select
    selection = model.head_info.parse(select, "output")
    if isinstance(selection, Medoid):
        return model.head_info.parse("mean")
    return selection


def inference_network(model, tlc_train_size=OWN):
    """The network of a `Deblurrer` with the statistics that an export has.

    Args:
        model: `Deblurrer`.
        tlc_train_size: as in `output_graph`.

    Returns:
        A network that shares the model's layers.

    Raises:
        ValueError: if `tlc_train_size` is none of these.
    """
    if isinstance(tlc_train_size, str) and tlc_train_size == OWN:
        return model._inference_network()
    return model.network.with_local_statistics(tlc_train_size)


def check_size(size):
    """Checks the `size` of an `output_graph`; a wrong one is a ValueError."""
    if size is not None and _pair(size) is None:
        raise ValueError(
            "`size` must be None or (height, width), two positive numbers. "
            f"Received: size={size!r}"
        )


def _pair(value):
    """A tuple of two positive numbers, or None if the value is anything else."""
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        return None
    return tuple(value) if all(map(_is_positive, value)) else None


def _is_positive(value):
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _weighted(heads, weights):
    """Weighted mean (B, H, W, C) of head images (B, K, H, W, C)."""
    if len(weights) == 1:
        return heads[:, 0]
    return sum(
        heads[:, k] * float(weights[k]) for k in np.flatnonzero(weights).tolist()
    )


def _uncertainty(heads, pairs):
    """`hypotheses.stacks.uncertainty` of a batch, in `keras.ops`."""
    halves = functools.partial(ops.split, indices_or_sections=2, axis=1)
    return ops.sqrt(pairs.variance(heads, _variance, halves))


def _variance(heads):
    deviation = heads - ops.mean(heads, axis=1, keepdims=True)
    return ops.mean(ops.square(deviation), axis=(1, -1))
