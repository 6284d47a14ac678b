"""Names of Flax parameters as files hold them, and where in them the weights are."""

from keras_mhdeblur.convert.pickled_tensors import check, quoted

# Where training codes put the parameters: `flax.optim` in the first, which is that of
# MAXIM's published checkpoints, beside the optimizer's state; `flax.linen` in the last.
ENTRIES = ("opt/target", "params")


def are_flax(names):
    """True for names of Flax parameters; those of PyTorch have no kernels."""
    return any(name.endswith(("/kernel", ".kernel")) for name in names)


def flax_state(content, entry=None):
    """The parameters of one entry of a flattened Flax tree.

    Args:
        content: dictionary of names, their parts separated by "/" or ".".
        entry: the leading parts of the names to take; by default the first that exists
            of `ENTRIES`, or the whole tree.

    Returns:
        (state, entry): the same values by the rest of the names, separated by "/"; and
        the entry, None for the whole tree.

    Raises:
        CheckpointError: there is no such entry.
    """
    slashed = {name.replace(".", "/"): value for name, value in content.items()}
    check(len(slashed) == len(content), "The checkpoint has two weights of one name")
    if entry is None:
        entry = next((known for known in ENTRIES if _inside(slashed, known)), None)
    if entry is None:
        return slashed, None
    state = _inside(slashed, entry)
    first_parts = list(dict.fromkeys(name.partition("/")[0] for name in slashed))
    check(
        state,
        f"The checkpoint has no entry {quoted(entry)}; its entries: "
        + ", ".join(quoted(part) for part in first_parts[:10]),
    )
    return state, entry


def _inside(content, entry):
    prefix = entry.replace(".", "/").rstrip("/") + "/"
    return {
        name.removeprefix(prefix): value
        for name, value in content.items()
        if name.startswith(prefix)
    }
