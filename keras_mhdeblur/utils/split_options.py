"""Options that a network and its `Deblurrer` take, given together by name."""

import inspect

from keras_mhdeblur.utils.spelling import did_you_mean


def divide_options(owner, options, network_options, model_class):
    """Divides options into those of a network and those of `Deblurrer`.

    What both take, as `tlc_train_size`, is an option of `Deblurrer`.

    Args:
        owner: who is asked for them, for the message.
        options: dictionary of names to values.
        network_options: names of the options that the network takes.
        model_class: `Deblurrer`, whose signature has the others.

    Returns:
        Two dictionaries, the network's options and those of `Deblurrer`.

    Raises:
        ValueError: neither takes an option; the message lists those that exist.
    """
    own = set(inspect.signature(model_class).parameters) - {"network", "kwargs"}
    known = sorted(own | set(network_options))
    for name, value in options.items():
        if name not in known:
            raise ValueError(
                f"{owner} has no option {name!r}.{did_you_mean(name, known)} "
                f"Options: {', '.join(known)}. Received: {name}={value!r}"
            )
    return (
        {name: value for name, value in options.items() if name not in own},
        {name: value for name, value in options.items() if name in own},
    )
