"""Arguments that had other names when files were written."""

_PRESENT = {"local_statistics": "tlc_train_size"}


def with_present_names(config):
    """A configuration with the present names of its arguments."""
    return {_PRESENT.get(name, name): value for name, value in config.items()}
