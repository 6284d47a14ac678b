"""A small network of one hidden layer, in NumPy: what calibrations are made of."""

import dataclasses
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Perceptron:
    """A number for features: `output @ tanh(hidden @ scaled + hidden_bias) + bias`.

    Args:
        mean, scale: (F,), features are `(features - mean) / scale` first, within +-5.
        hidden, hidden_bias: (N, F) and (N,).
        output, bias: (N,) and a number.
    """

    mean: np.ndarray
    scale: np.ndarray
    hidden: np.ndarray
    hidden_bias: np.ndarray
    output: np.ndarray
    bias: np.ndarray

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """The numbers (...) of features (F, ...)."""
        flat = np.moveaxis(np.asarray(features), 0, -1)
        scaled = np.clip((flat - self.mean) / self.scale, -5, 5)
        return np.tanh(scaled @ self.hidden.T + self.hidden_bias) @ self.output + (
            self.bias
        )

    def get_config(self) -> dict[str, Any]:
        """Dictionary that JSON can hold, of six digits."""
        return {
            field.name: _digits(getattr(self, field.name))
            for field in dataclasses.fields(self)
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Perceptron":
        """The perceptron of such a dictionary.

        Raises:
            ValueError: shapes do not fit each other, or numbers are not finite.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        if not isinstance(config, dict) or sorted(config) != sorted(names):
            raise ValueError(f"must have the entries {', '.join(names)}")
        arrays = {name: np.array(config[name], "float64") for name in names}
        units, size = arrays["hidden"].shape if arrays["hidden"].ndim == 2 else (0, 0)
        shapes = {
            "mean": (size,),
            "scale": (size,),
            "hidden": (units, size),
            "hidden_bias": (units,),
            "output": (units,),
            "bias": (),
        }
        for name, array in arrays.items():
            if array.shape != shapes[name] or not np.isfinite(array).all():
                raise ValueError(f"{name!r} must be numbers of shape {shapes[name]}")
        if units == 0 or (arrays["scale"] <= 0).any():
            raise ValueError("must have hidden units and positive scales")
        return cls(**arrays)


def _digits(values):
    if np.ndim(values) == 0:
        return float(f"{float(values):.6g}")
    return [_digits(value) for value in values]
