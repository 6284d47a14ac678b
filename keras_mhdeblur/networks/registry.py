"""Facts about network families, by the class of their networks."""

import dataclasses
from collections.abc import Callable, Mapping

from keras_mhdeblur.networks.base import RestorationNetwork

# More than any network here takes at its published width, so that tiles of a network
# that nobody has measured are rather too small than too large.
DEFAULT_PEAK_BYTES = 2500


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Detection:
    """Signs by which a state dictionary is of a family, and of which network."""

    modules: str
    """Pattern of the first part of the weights' names, up to "." or "/".

    The family that most names of a checkpoint match is taken.
    """

    anchors: Mapping[str, int]
    """Name of a weight to its rank: the weights that `arguments` reads.

    They are there and have these ranks when it is called.
    """

    arguments: Callable[[Mapping[str, tuple]], dict]
    """Function from shapes by name to constructor arguments.

    `num_heads` must be one of them.
    """

    widest: Callable[..., Mapping[str, tuple]]
    """Function from those arguments to the largest weights: name to leading sizes.

    A checkpoint without weights of these sizes is refused before a network is made:
    a small file must not claim to be a large network.
    """

    assumed: Mapping[str, object] = dataclasses.field(default_factory=dict)
    """Arguments that no checkpoint tells, with the official values."""

    variant: Callable[..., str] | None = None
    """Function from the arguments to the name of the size; None without such names."""

    tasks: Mapping[str, str] | None = None
    """Name of a published package to the task that its weights are for.

    None where the family's checkpoints are for one task.
    """

    license: str | None = None
    """SPDX identifier of the weights in those packages."""

    license_note: str | None = None
    """Whose weights they are, and what else of a package has another licence."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Family:
    """A network family: one class, and what is known of its networks."""

    name: str
    """The name that users see and ask for, in capitals as its paper writes it.

    Files in the caches of users are named by a digest of it: it must not change.
    """

    network: type[RestorationNetwork]
    """The class. Subclasses are of the family, too, if they are of no other."""

    entries: Callable[[RestorationNetwork], dict] | None = None
    """Function from a network to its weights by official name; None without one.

    A dictionary: name to (Keras variable, function from the official array to the
    variable's value).
    """

    detection: Detection | None = None
    """Recognition of official checkpoints; None for a family without them."""

    numbers: str = "num_heads image_channels width"
    """Constructor arguments that are numbers, with spaces between, for recipes."""

    others: str = ""
    """The other constructor arguments."""

    peak_bytes: tuple[float, float] | None = None
    """Peak memory of inference in bytes per pixel: (constant, slope).

    The slope is multiplied by the network's `width`. None: nobody has measured it, or
    the class has the attribute `peak_bytes_per_pixel`. See `peak_bytes_per_pixel`.
    """

    paper: Mapping[str, Mapping[str, object]] = dataclasses.field(default_factory=dict)
    """Name of a benchmark to how arXiv 2208.13029 ran this network on it.

    The settings are arguments of `evaluation.Protocol`.
    """


_families: list[Family] = []


def register(family):
    """Makes a family known: to conversion, recipes, tiling and evaluation.

    Args:
        family: `Family`.

    Raises:
        TypeError: it is no `Family`.
        ValueError: a family of its name, in any case of letters, or of its class is
            registered already.
    """
    if not isinstance(family, Family):
        raise TypeError(f"`family` must be a Family. Received: family={family!r}")
    for known in _families:
        if known.name.lower() == family.name.lower():
            raise ValueError(
                "`name` must be of no other family. `unregister` removes one. "
                f"Received: name={family.name!r}"
            )
        if known.network is family.network:
            raise ValueError(
                f"`network` must be of no other family, and {known.name} has this one. "
                f"Received: network={family.network!r}"
            )
    _families.append(family)


def unregister(family):
    """Removes a family, as tests do, and notebooks that define a class anew.

    Args:
        family: `Family` that is registered.

    Raises:
        ValueError: it is not.
    """
    if family not in _families:
        raise ValueError(f"`family` must be registered. Received: family={family!r}")
    _families.remove(family)


def families():
    """All families, in the order of their registration."""
    return tuple(_families)


def family_of(network):
    """The family of a network's class, or of the nearest class that it inherits.

    Args:
        network: any model.

    Returns:
        `Family`; None where no class of the network is registered. Who calls this
        says what follows from that.
    """
    by_class = {family.network: family for family in _families}
    known = (by_class[cls] for cls in type(network).__mro__ if cls in by_class)
    return next(known, None)


def peak_bytes_per_pixel(network):
    """Estimate of the peak memory of a network's inference, in bytes per pixel.

    It decides how large tiles are. The first of these that there is:

    1. the network's own attribute `peak_bytes_per_pixel`;
    2. what its family's `peak_bytes` makes of the network's `width`;
    3. `DEFAULT_PEAK_BYTES`, 2500: a network that takes more needs one of the others.

    Args:
        network: any model.
    """
    own = getattr(network, "peak_bytes_per_pixel", None)
    if own is not None:
        return own
    family = family_of(network)
    if family is None or family.peak_bytes is None:
        return DEFAULT_PEAK_BYTES
    constant, slope = family.peak_bytes
    return constant + slope * network.width
