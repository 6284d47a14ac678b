"""Sums over the trunk's features of crops that tell the errors of any heads.

Head images are linear in the kernels of the last convolution, so that squared errors
are quadratic in them: the products of the convolution's input windows with each other
and with the residuals, summed over a crop, replace the crop.
"""

import dataclasses
import itertools
from typing import NamedTuple

import keras
import numpy as np

from keras_mhdeblur.deblurrer import Deblurrer
from keras_mhdeblur.hypotheses.pairs import pair_indices
from keras_mhdeblur.layers.heads import head_parameters
from keras_mhdeblur.networks.base import RestorationNetwork
from keras_mhdeblur.utils.types import Batches

# Pixels, and crops, that are computed with at a time.
_ROWS, _CROPS = 4096, 32


class HypothesisErrors(NamedTuple):
    """Mean squared errors of crops.

    Attributes:
        hypotheses: (N, K'), float64, in the order of `hypotheses.pairs.Pairs`.
        mean: (N,), float64, of the mean of all hypotheses.
    """

    hypotheses: np.ndarray
    mean: np.ndarray


@dataclasses.dataclass(frozen=True)
class HeadStatistics:
    """Statistics of N crops for `fit_heads`, made by `head_statistics`.

    With the matrix A of a crop, pixels x VP: the windows with P values that the last
    convolution sees, of V views side by side (`MultiHeadOutput.regressors`; V is 2 for
    XYDeblur and 1 else), and the residual T, pixels x C: label - mean head image.

    Attributes:
        grams: (N, VP (VP + 1) / 2), the lower triangle, row by row, of the symmetric
            A'A / (pixels C).
        products: (N, VP, C), A'T / (pixels C).
        squares: (N,), |T|^2 / (pixels C): the mean head image's squared error.
        reference: (P, C), the mean of the heads that made the mean head image, ordered
            as `layers.heads.head_parameters`.

    All are float64: squared errors are small differences of large numbers.
    """

    grams: np.ndarray
    products: np.ndarray
    squares: np.ndarray
    reference: np.ndarray

    @property
    def num_views(self) -> int:
        """Number of views V."""
        return self.products.shape[1] // len(self.reference)

    def errors(self, changes: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Mean squared errors of hypotheses.

        Args:
            changes: (K, P, C), heads minus `reference`.
            weights: (K', V, K), see `hypothesis_weights`.

        Returns:
            (N, K').
        """
        return self.errors_of_forms(*self.forms(changes), weights)

    def forms(self, changes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Quadratic forms of the squared errors in the changes.

        Args:
            changes: (K, P, C), heads minus `reference`.

        Returns:
            (N, V, K), products of what changes add to the image, view by view, with
            the residual, and (N, V, K, V, K), with each other.
        """
        heads, size, channels = changes.shape
        views = self.num_views
        columns = changes.transpose(1, 0, 2).reshape(size, -1)
        rows = changes.reshape(heads, -1)
        products = self.products.reshape(-1, views, size * channels)
        linear = products @ rows.T
        quadratic = np.empty((len(linear), views, heads, views, heads))
        for start in range(0, len(linear), _CROPS):
            crops = slice(start, start + _CROPS)
            grams = _full(self.grams[crops], views * size)
            part = grams.reshape(-1, size) @ columns
            part = part.reshape(-1, views, size, views, heads, channels)
            part = np.einsum("nvpwlc,kpc->nvkwl", part, changes, optimize=True)
            quadratic[crops] = part
        return linear, quadratic

    def errors_of_forms(
        self, linear: np.ndarray, quadratic: np.ndarray, weights: np.ndarray
    ) -> np.ndarray:
        """Mean squared errors (N, K') of `forms` and `weights` (K', V, K)."""
        weights = weights.reshape(len(weights), -1)
        squares = (weights[:, :, None] * weights[:, None]).reshape(len(weights), -1)
        count = len(linear)
        change = quadratic.reshape(count, -1) @ squares.T
        change -= 2 * linear.reshape(count, -1) @ weights.T
        return np.maximum(self.squares[:, None] + change, 0)

    def sums(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weighted sums over the crops.

        Args:
            weights: (N, Q).

        Returns:
            (Q, VP, VP) of A'A / (pixels C), and (Q, VP, C) of `products`.
        """
        grams = _full(weights.T @ self.grams, self.products.shape[1])
        return grams, np.tensordot(weights, self.products, (0, 0))

    def gram_diagonals(self) -> np.ndarray:
        """Diagonals (N, V, P) of A'A / (pixels C)."""
        size = np.arange(self.products.shape[1])
        diagonals = self.grams[:, size * (size + 3) // 2]
        return diagonals.reshape(len(diagonals), self.num_views, -1)

    def evaluate(self, model: Deblurrer) -> HypothesisErrors:
        """Errors of a model with the same trunk, such as `fit_heads` returns.

        Args:
            model: `Deblurrer`.

        Returns:
            `HypothesisErrors`; images are not clipped.

        Raises:
            ValueError: the model's heads do not fit the statistics.
        """
        heads = head_parameters(model.network.head_layer)
        weights = hypothesis_weights(model.network, model.combine_heads)
        expected = (*self.reference.shape, self.num_views)
        found = (*heads.shape[1:], weights.shape[1])
        if found != expected:
            raise ValueError(
                "`model` must have the trunk that the statistics are of. "
                f"Received: model with heads of shape {heads.shape[1:]}, statistics of "
                f"shape {self.reference.shape}"
            )
        weights = np.concatenate([weights, weights.mean(axis=0, keepdims=True)])
        errors = self.errors(heads - self.reference, weights)
        return HypothesisErrors(errors[:, :-1], errors[:, -1])


def head_statistics(
    model: Deblurrer, data: Batches, crops: int = 1024
) -> HeadStatistics:
    """Runs a model's trunk over crops and keeps what `fit_heads` needs of them.

    Every crop takes 4 (V P)^2 bytes, where P is 289 for the 32 last features of NAFNet
    at width 32, so 0.3 MB; 1.3 MB for 64 features and for XYDeblur with 32, 5.3 MB for
    MPRNet with 128. While a crop is looked at, its windows take 8 V P bytes per pixel.

    Args:
        model: trained `Deblurrer`; it does not change. The features are those that its
            inference has: with local statistics if the model has them.
        data: iterable of batches (blurry, sharp), float (B, H, W, C) in [0, 1].
        crops: how many of them to take, at most.

    Returns:
        `HeadStatistics`.

    Raises:
        ValueError: there is no crop, or crops have wrong shapes or numbers; the model's
            network is none of `keras_mhdeblur.networks`.
    """
    network = model._inference_network()
    if not isinstance(network, RestorationNetwork):
        raise ValueError(
            "`model` must have a network of `keras_mhdeblur.networks`. "
            f"Received: model.network={type(network).__name__}"
        )
    trunk, layer = network.trunk(), network.head_layer
    trunk.jit_compile = False  # XLA would compile for every crop size.
    reference = head_parameters(layer).mean(axis=0)
    size = layer.image_weights.shape[1] * len(reference)
    # Memory that is not written to is not used.
    triangle = np.tril_indices(size)
    grams = np.empty((crops, len(triangle[0])))
    products: list[np.ndarray] = []
    squares: list[float] = []
    for arguments, label in itertools.islice(_arguments(trunk, data), crops):
        gram, product, square = _products(layer, arguments, label)
        if not np.isfinite([square, gram.sum(), product.sum()]).all():
            raise ValueError(
                "`data` and what the network makes of it must be finite. "
                f"Received: data with NaN or infinity in crop {len(squares)}"
            )
        grams[len(squares)] = gram[triangle]
        products.append(product)
        squares.append(square)
    if not squares:
        raise ValueError("`data` must hold at least one crop. Received: data=none")
    return HeadStatistics(
        grams[: len(squares)], np.array(products), np.array(squares), reference
    )


def hypothesis_weights(network, combine_heads):
    """Weights of the kernels of K heads in the residuals of hypotheses.

    Args:
        network: `RestorationNetwork`.
        combine_heads: see `hypotheses.pairs.Pairs`.

    Returns:
        (K', V, K): the residual of a hypothesis is the sum over views and heads of
        weight * view @ head. For a view they sum to one.
    """
    images = network.head_layer.image_weights
    pairs = np.array(pair_indices(len(images), combine_heads))
    return images[pairs].mean(axis=1)


def _full(triangles, size):
    """Symmetric matrices (N, size, size) of lower triangles (N, ...)."""
    large = np.maximum(*np.ogrid[:size, :size])
    small = np.minimum(*np.ogrid[:size, :size])
    return triangles[:, large * (large + 1) // 2 + small]


def _arguments(trunk, data):
    """Arguments of the head layer and label of each crop, batches of one."""
    for batch in data:
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:
            raise ValueError(
                "`data` must hold batches (blurry, sharp). "
                f"Received: data with a {type(batch).__name__}"
            )
        blurry, sharp = map(np.asarray, batch)
        channels = trunk.input.shape[-1]
        right = blurry.shape == sharp.shape and blurry.ndim == 4
        floats = blurry.dtype.kind == sharp.dtype.kind == "f"
        if not right or blurry.shape[-1] != channels or not floats:
            raise ValueError(
                f"`data` must hold float images (B, H, W, {channels}), blurry and "
                "sharp ones of the same shape. Received: data with blurry="
                f"{blurry.dtype}{blurry.shape}, sharp={sharp.dtype}{sharp.shape}"
            )
        arguments = trunk.predict_on_batch(blurry.astype("float32"))
        for index, label in enumerate(sharp):
            yield [array[index : index + 1] for array in arguments], label[None]


def _products(layer, arguments, label):
    """Gram (VP, VP), product (VP, C) and square of a crop, in float64."""
    convert = keras.ops.convert_to_numpy
    arguments = [keras.ops.convert_to_tensor(array) for array in arguments]
    views = [convert(view)[0] for view in layer.regressors(*arguments)]
    residual = (label - convert(layer(*arguments)).mean(axis=1))[0]
    columns = np.concatenate([*views, residual], axis=-1)
    size, channels = columns.shape[-1], residual.shape[-1]
    columns = columns.reshape(-1, size)
    sums = np.zeros((size, size))
    for start in range(0, len(columns), _ROWS):
        rows = columns[start : start + _ROWS].astype("float64")
        sums += rows.T @ rows
    sums /= residual.size
    return (
        sums[:-channels, :-channels],
        sums[:-channels, -channels:],
        sums[-channels:, -channels:].trace(),
    )
