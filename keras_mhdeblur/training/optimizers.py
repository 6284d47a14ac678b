"""Optimizers whose arithmetic is that of the published recipes."""

from typing import Any

import keras
from keras import ops

if keras.backend.backend() == "tensorflow":
    from keras_mhdeblur.training.tensorflow_optimizer import FusedAdamW as _AdamW
else:
    from keras_mhdeblur.training.adamw import BiasCorrectedAdamW as _AdamW


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class TorchAdamW(_AdamW):
    """AdamW with PyTorch's arithmetic, for recipes that were tuned there.

    Each step multiplies every variable by `1 - learning_rate * weight_decay` and
    subtracts `learning_rate * m_hat / (sqrt(v_hat) + epsilon)`: epsilon is added to the
    bias-corrected root, where `keras.optimizers.AdamW` adds it to the uncorrected one.
    Source: arXiv 1711.05101, algorithm 2.

    Args:
        learning_rate: number or schedule.
        weight_decay: decay per step, times the learning rate; it applies to every
            variable, biases and norms too.
        beta_1, beta_2: decay of the running means; NAFNet uses 0.9 and 0.9.
        epsilon: added to the bias-corrected root.
        kwargs: of `keras.optimizers.Optimizer`, for example `global_clipnorm=0.01`
            and `use_ema=True`.

    Raises:
        ValueError: `amsgrad` is given and true; there is no such variant here.
    """

    def __init__(
        self,
        learning_rate: float | keras.optimizers.schedules.LearningRateSchedule = 1e-3,
        weight_decay: float = 0.0,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        name: str = "torch_adamw",
        **kwargs: Any,
    ) -> None:
        if kwargs.get("amsgrad"):
            raise ValueError(
                f"{type(self).__name__} has no AMSGrad variant. "
                f"Received: amsgrad={kwargs['amsgrad']!r}"
            )
        super().__init__(
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            name=name,
            **kwargs,
        )


# Newton-Schulz coefficients and steps of Muon: singular values end between 0.7 and 1.2.
_QUINTIC = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5
# Smaller matrices have too few singular values for the step to be worth its cost.
_SMALLEST_MATRIX = 16


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class Muon(TorchAdamW):
    """Muon for the pointwise convolutions, `TorchAdamW` for all other variables.

    A step of a matrix has nearly equal singular values: with the momentum
    `m = momentum * m + g` it is `orthogonal(g + momentum * m)` times the learning rate
    and `0.2 * sqrt(max(shape))`. So it is as large per entry as AdamW's, and rates and
    weight decay tuned for AdamW fit. `keras.optimizers.Muon` moves variables of two
    dimensions so, which these networks lack; here the kernel (1, 1, I, O) of a
    pointwise convolution is the matrix (I, O), if both are at least 16.

    Source: K. Jordan et al., "Muon: An optimizer for hidden layers in neural
    networks", 2024; factor 0.2: arXiv 2502.16982, eq. 4.

    Args:
        learning_rate: number or schedule, of both kinds of step.
        weight_decay: decay per step, times the learning rate, of every variable.
        momentum: decay of the matrices' running sum of gradients.
        kwargs: of `TorchAdamW`.
    """

    def __init__(
        self,
        learning_rate: float | keras.optimizers.schedules.LearningRateSchedule = 1e-3,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
        name: str = "muon",
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, weight_decay, name=name, **kwargs)
        self.momentum = momentum

    def _has_own_step(self, variable):
        shape = variable.shape
        return (
            len(shape) == 4
            and tuple(shape[:2]) == (1, 1)
            and min(shape[2:]) >= _SMALLEST_MATRIX
        )

    def _own_step(self, gradient, variable, rate):
        momentum = self._momentums[self._get_variable_index(variable)]
        total = self.momentum * momentum + gradient
        self.assign(momentum, total)
        step = _orthogonal((gradient + self.momentum * total)[0, 0])
        size = 0.2 * max(variable.shape) ** 0.5
        self.assign_sub(variable, rate * size * step[None, None])

    def get_config(self):
        return {**super().get_config(), "momentum": self.momentum}


def _orthogonal(matrix):
    """About U V^T of the matrix (I, O) with the singular vectors U, V."""
    wide = matrix.shape[0] <= matrix.shape[1]
    x = matrix if wide else ops.transpose(matrix)
    x = x / (ops.norm(x) + 1e-12)
    a, b, c = _QUINTIC
    for _ in range(_ITERATIONS):
        gram = ops.matmul(x, ops.transpose(x))
        x = a * x + ops.matmul(b * gram + c * ops.matmul(gram, gram), x)
    return x if wide else ops.transpose(x)
