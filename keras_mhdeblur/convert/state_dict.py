"""Loading of PyTorch state dictionaries by their official parameter names."""

import numpy as np

from keras_mhdeblur.convert.nafnet import nafnet_entries
from keras_mhdeblur.deblurrer import Deblurrer
from keras_mhdeblur.networks import NAFNet

_ENTRIES = {NAFNet: nafnet_entries}


def load_torch_state_dict(network_or_deblurrer, state):
    """Sets all weights from the state dictionary of the official PyTorch network.

    Args:
        network_or_deblurrer: a `NAFNet`, or a `Deblurrer` of one.
        state: dictionary of the official parameter names to NumPy arrays in PyTorch's
            layout.

    Raises:
        ValueError: entries are missing, surplus or have another shape; the message
            names them, and no weight has been changed.
    """
    network = network_or_deblurrer
    if isinstance(network, Deblurrer):
        network = network.network
    if type(network) not in _ENTRIES:
        raise ValueError(
            "Only these networks have official parameter names: "
            f"{', '.join(cls.__name__ for cls in _ENTRIES)}. "
            f"Received: network={type(network).__name__}"
        )
    entries = _ENTRIES[type(network)](network)
    problems = [f"missing: {name}" for name in entries if name not in state]
    problems += [f"surplus: {name}" for name in state if name not in entries]
    values = {}
    for name in entries.keys() & state.keys():
        variable, to_keras = entries[name]
        try:
            values[name] = to_keras(np.asarray(state[name]))
            fits = values[name].shape == tuple(variable.shape)
        except ValueError:  # of another rank
            fits = False
        if not fits:
            problems.append(f"misshapen: {name} {tuple(np.shape(state[name]))}")
    if problems:
        more = [f"and {len(problems) - 20} more"] if len(problems) > 20 else []
        raise ValueError(
            f"The state dictionary does not fit the {type(network).__name__}:\n  "
            + "\n  ".join(sorted(problems)[:20] + more)
        )
    for name, value in values.items():
        entries[name][0].assign(value)
