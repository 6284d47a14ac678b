"""Loading of weights by their official parameter names."""

from collections.abc import Mapping

import numpy as np

from keras_mhdeblur.deblurrer import Deblurrer
from keras_mhdeblur.networks.base import RestorationNetwork
from keras_mhdeblur.networks.registry import families, family_of


def load_official_weights(
    network_or_deblurrer: RestorationNetwork | Deblurrer,
    state: Mapping[str, np.ndarray],
) -> None:
    """Sets all weights from those of the official network, of PyTorch or Flax.

    Args:
        network_or_deblurrer: a network of a registered family that has official names
            (`Family.entries`), or a `Deblurrer` of one.
        state: dictionary of the official parameter names to NumPy arrays in the
            official layout. Those of MAXIM are Flax', joined by "/"
            ("stage_0_input_conv_0/kernel").

    Raises:
        ValueError: the network's family is not registered or has no official names. Or
            entries are missing, surplus, have another shape, or differ where several
            are names of one weight; the message names them, and no weight has been
            changed.
    """
    network = network_or_deblurrer
    if isinstance(network, Deblurrer):
        network = network.network
    family = family_of(network)
    if family is None or family.entries is None:
        names = sorted(known.name for known in families() if known.entries is not None)
        raise ValueError(
            f"Only these networks have official parameter names: {', '.join(names)}. "
            f"Received: network={type(network).__name__}"
        )
    entries = family.entries(network)
    problems = [f"missing: {name}" for name in entries if name not in state]
    problems += [f"surplus: {name}" for name in state if name not in entries]
    values: dict[str, np.ndarray] = {}
    first_names: dict[int, str] = {}
    for name, (variable, to_keras) in entries.items():
        if name not in state:
            continue
        try:
            values[name] = to_keras(np.asarray(state[name]))
            fits = values[name].shape == tuple(variable.shape)
        except ValueError:  # of another rank
            fits = False
        if not fits:
            problems.append(f"misshapen: {name} {tuple(np.shape(state[name]))}")
            continue
        # One weight may have several names, as MPRNet's slope has.
        first = first_names.setdefault(id(variable), name)
        if first != name and not np.array_equal(values[name], values[first]):
            problems.append(f"unequal: {name} and {first}")
    if problems:
        more = [f"and {len(problems) - 20} more"] if len(problems) > 20 else []
        raise ValueError(
            f"The checkpoint does not fit the {type(network).__name__}:\n  "
            + "\n  ".join(sorted(problems)[:20] + more)
        )
    for name, value in values.items():
        entries[name][0].assign(value)


# The first name of it, from when all official networks were PyTorch's.
load_torch_state_dict = load_official_weights
