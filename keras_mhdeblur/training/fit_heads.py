"""Fits several heads to a trained network's features, in closed form."""

import numpy as np

from keras_mhdeblur.deblurrer import Deblurrer
from keras_mhdeblur.hypotheses.pairs import pair_indices
from keras_mhdeblur.layers.heads import head_parameters, set_head_parameters
from keras_mhdeblur.networks.base import RestorationNetwork
from keras_mhdeblur.training.head_statistics import (
    HeadStatistics,
    head_statistics,
    hypothesis_weights,
)
from keras_mhdeblur.utils.types import Batches

# Added to squared errors, as in `losses.PSNRLoss`.
_EPSILON = 1e-8
_CROPS_PER_HEAD = 4
# Crops, per head, whose own best heads are tried as first ones, and these heads' least
# ridge.
_CANDIDATES, _CANDIDATE_RIDGE = 8, 1e-3
# Of the objective, in nepers of squared errors: 1e-4 are 0.0004 dB.
_ROUGH, _FINE = 1e-4, 1e-6
_ITERATIONS, _SWEEPS = 200, 4


def fit_heads(
    model: Deblurrer,
    data: Batches | HeadStatistics,
    num_heads: int = 4,
    combine_heads: bool = True,
    ridge: float = 1e-2,
    mean_weight: float = 0.0,
    hold_first: bool = False,
    restarts: int = 4,
    seed: int = 0,
    crops: int = 1024,
) -> Deblurrer:
    """Gives a trained network several heads, without training.

    The trunk stays as it is. Head images are linear in the kernels of the last
    convolution, so one pass of the trunk over the crops tells the squared errors of all
    kernels (`head_statistics`). Minimised is, as in training,

        mean over crops of log(MSE of the nearest hypothesis)
        + `mean_weight` * mean over crops of log(MSE of the mean hypothesis)
        + `ridge` * mean over heads of |head - reference|^2

    by turns: every crop is assigned to its nearest hypothesis, then all heads are the
    solution of one linear system, weighted least squares with weights 1 / MSE (which
    minimises a bound of the logarithms). The objective never rises. The reference is
    the head that is there, or the mean of those that are there; the norm measures what
    a change adds to the image, feature by feature, relative to the reference's MSE
    (its median over the crops).

    Args:
        model: trained `Deblurrer` whose network has one head, or `num_heads` heads,
            which are then improved; it does not change.
        data: iterable of batches (blurry, sharp), float (B, H, W, C) in [0, 1], or the
            `HeadStatistics` of them, with which another fit takes seconds. Crops of
            the size that the model was trained on are right: a crop has one nearest
            hypothesis.
        num_heads: number of heads K. 1 fits the one head anew.
        combine_heads: whether heads are averaged in pairs; see `Deblurrer`.
        ridge: how much the heads are drawn towards the reference, positive.
        mean_weight: weight of the mean of all hypotheses, which `select="mean"`
            restores. With 0 only the nearest hypothesis counts, and the mean becomes
            worse than the image of one head; with 1 it need not.
        hold_first: keep head 0 as it is in a model of one head, so that hypothesis
            (0, 0) is the image of that model.
        restarts: number of starts, of which the one with the lowest objective is
            continued to its end.
        seed: seed of the starts.
        crops: how many crops of `data` to take, at most; no matter for statistics.

    Returns:
        A new `Deblurrer`, configured as `model` is, with the network
        `RestorationNetwork.with_num_heads(num_heads)`; `select` is "mean", `best_pair`
        the hypothesis with the lowest mean log MSE over the crops.

    Raises:
        ValueError: an argument is out of its range, the model's network is none of
            `keras_mhdeblur.networks` or an `Ensemble`, its number of heads is neither
            1 nor `num_heads`, there are fewer crops than 4 per head, or they are not
            as `head_statistics` needs them.

    Example:

    ```python
    statistics = head_statistics(model, training_data)
    fitted = fit_heads(model, statistics, mean_weight=1.0)
    head_statistics(model, validation_data).evaluate(fitted).hypotheses  # MSEs
    ```
    """
    if not isinstance(model.network, RestorationNetwork):
        raise ValueError(
            "`model` must have a single network of `keras_mhdeblur.networks`. "
            f"Received: model.network={type(model.network).__name__}"
        )
    _check(model, num_heads, ridge, mean_weight, hold_first, restarts)
    network = model.network.with_num_heads(num_heads)
    fitted = type(model)(
        **{
            **model.get_config(),
            "network": network,
            "combine_heads": combine_heads,
            "select": "mean",
            "best_pair": None,
            "adaptive_weights": None,
        }
    )
    if not isinstance(data, HeadStatistics):
        data = head_statistics(model, data, crops)
    reference = head_parameters(model.network.head_layer)
    if not np.array_equal(reference.mean(axis=0), data.reference):
        raise ValueError(
            "`data` must be statistics of `model`. Received: data=HeadStatistics of "
            "other heads"
        )
    if len(data.squares) < _CROPS_PER_HEAD * num_heads:
        raise ValueError(
            f"`data` must hold at least {_CROPS_PER_HEAD} crops per head. "
            f"Received: data with {len(data.squares)} crops, num_heads={num_heads}"
        )
    weights = hypothesis_weights(network, fitted.combine_heads)
    start = reference - data.reference if model.network.num_heads > 1 else None
    objective = Objective(data, weights, ridge, mean_weight, hold_first)
    changes, _ = _solve(objective, start, restarts, seed)
    set_head_parameters(network.head_layer, data.reference + changes)
    scores = np.log(data.errors(changes, weights) + _EPSILON).mean(axis=0)
    pairs = pair_indices(fitted.num_heads, fitted.combine_heads)
    fitted.best_pair = pairs[int(scores.argmin())]
    return fitted


def _check(model, num_heads, ridge, mean_weight, hold_first, restarts):
    for name, value in ("num_heads", num_heads), ("restarts", restarts):
        if value < 1:
            raise ValueError(f"`{name}` must be at least 1. Received: {name}={value}")
    if not ridge > 0:
        raise ValueError(f"`ridge` must be positive. Received: ridge={ridge}")
    if not mean_weight >= 0:
        raise ValueError(
            f"`mean_weight` must be at least 0. Received: mean_weight={mean_weight}"
        )
    if hold_first and num_heads < 2:
        raise ValueError(
            "`num_heads` must be at least 2 with `hold_first`. "
            f"Received: num_heads={num_heads}, hold_first={hold_first}"
        )
    if hold_first and model.network.num_heads != 1:
        raise ValueError(
            "`hold_first` needs a model of one head. Received: "
            f"hold_first={hold_first}, model.network.num_heads="
            f"{model.network.num_heads}"
        )


class Objective:
    """The objective of `fit_heads`, a function of the heads' changes (K, P, C).

    Args:
        statistics: `HeadStatistics`.
        weights: (K', V, K), see `head_statistics.hypothesis_weights`.
        ridge, mean_weight, hold_first: see `fit_heads`.
    """

    def __init__(self, statistics, weights, ridge, mean_weight, hold_first=False):
        self.statistics = statistics
        self.weights = self.all_weights = weights
        self.mean_weight = mean_weight
        if mean_weight:
            mean = weights.mean(axis=0, keepdims=True)
            self.all_weights = np.concatenate([weights, mean])
        self.num_heads = weights.shape[-1]
        self.first = int(hold_first)
        metric = statistics.gram_diagonals().sum(axis=1).mean(axis=0)
        metric /= np.median(statistics.squares) + _EPSILON
        # Features that are always zero change nothing.
        self.metric = np.maximum(metric, 1e-9 * metric.max())
        self.ridge = ridge

    def errors(self, changes):
        """MSE of all hypotheses, and of their mean if that counts: (N, K' or + 1)."""
        return self.statistics.errors(changes, self.all_weights)

    def assignment(self, errors):
        """Index of the nearest hypothesis of each crop, (N,)."""
        return errors[:, : len(self.weights)].argmin(axis=1)

    def value(self, changes, errors):
        """The objective, of changes and their errors."""
        logs = np.log(errors + _EPSILON)
        value = logs[:, : len(self.weights)].min(axis=1).mean()
        if self.mean_weight:
            value += self.mean_weight * logs[:, -1].mean()
        penalty = np.einsum("kpc,p->", np.square(changes), self.metric)
        return value + self.ridge * penalty / self.num_heads

    def minimiser(self, errors, assigned):
        """Changes that minimise a bound of the objective, tight where errors are these.

        log(x) <= log(x0) + (x - x0) / x0 makes squared errors of the logarithms.
        """
        crops = np.arange(len(assigned))
        slopes = np.zeros_like(errors)
        slopes[crops, assigned] = 1 / (errors[crops, assigned] + _EPSILON)
        if self.mean_weight:
            slopes[:, -1] = self.mean_weight / (errors[:, -1] + _EPSILON)
        grams, products = self.statistics.sums(slopes / len(crops))
        free = self.all_weights[..., self.first :]
        count, views, heads = free.shape
        size, channels = len(self.metric), products.shape[-1]
        grams = grams.reshape(count, views, size, views, size)
        products = products.reshape(count, views, size, channels)
        matrix = np.einsum("avk,awl,avpwq->kplq", free, free, grams, optimize=True)
        matrix = matrix.reshape(heads * size, heads * size)
        right = np.einsum("avk,avpc->kpc", free, products, optimize=True)
        penalty = np.tile(self.ridge * self.metric / self.num_heads, heads)
        changes = _solution(matrix, right.reshape(-1, channels), penalty)
        changes = changes.reshape(heads, size, channels)
        return np.concatenate([np.zeros((self.first, size, channels)), changes])


def _solve(objective, start=None, restarts=4, seed=0, tolerance=_FINE):
    """Minimises an objective from several starts.

    Args:
        objective: `Objective`.
        start: changes (K, P, C) to begin with, beside `restarts` starts where all are
            zero and the crops' assignment differs; or None.
        restarts, seed: see `fit_heads`.
        tolerance: how much an iteration lowers the objective, at least, to go on.

    Returns:
        Changes (K, P, C), and the list of the objective's values from the start on.
    """
    shape = (objective.num_heads, *objective.statistics.reference.shape)
    runs = []
    for restart in range(restarts):
        random = np.random.default_rng([seed, restart])
        candidates = _candidates(objective, random)
        assigned = _first_assignment(objective, candidates)
        run = _descend(objective, np.zeros(shape), assigned, candidates, _ROUGH)
        runs.append((*run, candidates))
        if restart == 0 and start is not None:
            run = _descend(objective, start, None, candidates, _ROUGH)
            runs.append((*run, candidates))
    changes, history, candidates = min(runs, key=lambda run: run[1][-1])
    changes, further = _descend(objective, changes, None, candidates, tolerance)
    return changes, history + further[1:]


def _descend(objective, changes, assigned, candidates, tolerance):
    """Assigns and updates by turns.

    Args:
        assigned: first assignment (N,), each to one of the hypotheses that are nearest;
            None for the first of them.

    Returns:
        Changes and history, as `_solve`.
    """
    errors = objective.errors(changes)
    if assigned is None:
        assigned = objective.assignment(errors)
    history = [objective.value(changes, errors)]
    for _ in range(_ITERATIONS):
        updated = objective.minimiser(errors, assigned)
        updated_errors = objective.errors(updated)
        updated, updated_errors = _revived(
            objective, updated, updated_errors, candidates
        )
        value = objective.value(updated, updated_errors)
        if value > history[-1]:  # by rounding
            break
        changes, errors = updated, updated_errors
        assigned = objective.assignment(errors)
        history.append(value)
        if history[-2] - value < tolerance:
            break
    return changes, history


def _candidates(objective, random):
    """Changes (M, P, C): best ones for single crops drawn by chance, and twice those.

    Twice, as a pair of such a head and the reference is the crop's best image.
    """
    statistics, size = objective.statistics, len(objective.metric)
    number = min(_CANDIDATES * objective.num_heads, len(statistics.squares))
    drawn = np.sort(random.choice(len(statistics.squares), number, replace=False))
    weights = np.zeros((len(statistics.squares), number))
    weights[drawn, range(number)] = 1 / (statistics.squares[drawn] + _EPSILON)
    grams, products = statistics.sums(weights)
    # One head makes all views.
    views = statistics.num_views
    grams = grams.reshape(number, views, size, views, size).sum(axis=(1, 3))
    products = products.reshape(number, views, size, -1).sum(axis=1)
    penalty = max(objective.ridge, _CANDIDATE_RIDGE) * objective.metric
    candidates = [_solution(*each, penalty) for each in zip(grams, products)]
    return np.concatenate([candidates, 2 * np.array(candidates)])


def _solution(matrix, right, penalty):
    """Solves (matrix + diagonal of the penalty) x = right, both positive."""
    # Features of different size are of the same size to the solver.
    scale = 1 / np.sqrt(matrix.diagonal() + penalty)
    matrix = matrix * scale * scale[:, None]
    matrix[np.diag_indices_from(matrix)] += penalty * scale**2
    return np.linalg.solve(matrix, right * scale[:, None]) * scale[:, None]


def _first_assignment(objective, candidates):
    """Assignment of the crops to hypotheses of candidates that complement each other.

    Of all heads equal to the reference, each in turn becomes what lowers the objective
    most, until none changes.
    """
    pool = np.concatenate([np.zeros_like(candidates[:1]), candidates])
    chosen = [0] * objective.num_heads
    heads = range(objective.first, objective.num_heads)
    for _ in range(_SWEEPS):
        before = list(chosen)
        chosen = _chosen(objective, pool, chosen, heads)
        if chosen == before:
            break
    return objective.assignment(objective.errors(pool[chosen]))


def _chosen(objective, pool, chosen, heads):
    """Chooses heads of a pool anew, one after the other.

    Args:
        objective: `Objective`, of which only the nearest hypothesis counts here.
        pool: changes (M, P, C).
        chosen: list of K indices of the pool.
        heads: which of the K to choose anew.

    Returns:
        List of K indices.
    """
    statistics, weights = objective.statistics, objective.weights
    linear, quadratic = statistics.forms(pool)

    def cost(chosen):
        forms = linear[:, :, chosen], quadratic[:, :, chosen][..., chosen]
        errors = statistics.errors_of_forms(*forms, weights)
        return np.log(errors.min(axis=1) + _EPSILON).sum()

    for head in heads:
        trials = [
            [*chosen[:head], index, *chosen[head + 1 :]] for index in range(len(pool))
        ]
        chosen = min([chosen, *trials], key=cost)
    return chosen


def _revived(objective, changes, errors, candidates):
    """Changes and errors where heads without crops are candidates, if that is better.

    Such a head becomes the candidate with which the nearest hypotheses are best.
    """
    used = objective.weights[objective.assignment(errors)].any(axis=(0, 1))
    dead = np.flatnonzero(~used[objective.first :]) + objective.first
    if not len(dead):
        return changes, errors
    pool = np.concatenate([changes, candidates])
    chosen = _chosen(objective, pool, list(range(len(changes))), dead)
    revived = pool[chosen]
    revived_errors = objective.errors(revived)
    if objective.value(revived, revived_errors) < objective.value(changes, errors):
        return revived, revived_errors
    return changes, errors
