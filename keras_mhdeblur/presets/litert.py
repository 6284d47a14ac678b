"""LiteRT files of models: bundled with a preset, or in the user's cache.

Finding and running one needs no Keras; only making one does.
"""

import hashlib
import importlib.util
import json
import numbers
from pathlib import Path

import platformdirs

from keras_mhdeblur.engines.litert_ensemble import LiteRTEnsemble
from keras_mhdeblur.engines.litert_model import LiteRTModel
from keras_mhdeblur.presets.files import (
    CONFIG,
    METADATA,
    PresetError,
    read_json,
    read_metadata,
    read_variant,
    verify,
)
from keras_mhdeblur.presets.members import combined_fingerprint, read_members
from keras_mhdeblur.presets.zoo import builtin_presets, find_preset
from keras_mhdeblur.utils.atomic import atomic_files

# Changes when files in the caches of users would no longer be right.
_FORMAT = 4
# LiteRT's peak memory per pixel against Keras': 1079 to 730 bytes with `nafnet_mh_c`,
# the same from 0.3 to 2.6 megapixels.
_MEMORY = 1.5


def litert_installed():
    """True if the LiteRT runtime is installed."""
    return importlib.util.find_spec("ai_edge_litert") is not None


def litert_from_preset(name, tlc_train_size="model", stages=None):
    """The LiteRT file of a preset, where there is one already.

    Args:
        name: as for `from_preset`.
        tlc_train_size: as for `restore`.
        stages: number of stages that the network ends after; None for all.

    Returns:
        `LiteRTModel`, or `LiteRTEnsemble` of a preset of several networks; None where
        there is none or a damaged one in the cache: `litert_of(from_preset(name))`
        makes one.

    Raises:
        PresetError: the preset does not exist, cannot be reached or is damaged.
    """
    folder, name = find_preset(name), str(name)
    metadata = read_metadata(folder, name)
    config = read_json(folder, CONFIG, name)
    variant = read_variant(folder, metadata, stages, name)
    if tlc_train_size == "model":
        tlc_train_size = variant.tlc_train_size
    members = read_members(config, metadata, name)
    if members is None:
        return _stored(
            folder, metadata, variant, tlc_train_size, name, **variant.choice
        )
    verify(folder, [CONFIG], metadata, name)
    if tlc_train_size is not None and not any(m.has_local_statistics for m in members):
        return None
    if stages is not None and stages > max(member.stages for member in members):
        return None
    engines, fingerprints = [], []
    for member in members:
        own = tlc_train_size if member.has_local_statistics else None
        part = member.variant(stages)
        engine = _stored(member.folder, member.metadata, part, own, member.name)
        if engine is None:
            return None
        engines.append(engine)
        fingerprints.append(part.fingerprint)
    try:
        combine_heads = config["config"].get("combine_heads", True)
        if not isinstance(combine_heads, bool):
            raise ValueError("`combine_heads` must be True or False.")
        return _with_right_choices(
            LiteRTEnsemble(
                engines,
                combine_heads=combine_heads,
                fingerprint=combined_fingerprint(fingerprints, combine_heads),
                **variant.choice,
            )
        )
    except Exception as error:  # wrong choices may be anything
        raise PresetError(
            f"Preset {name!r}: {CONFIG} makes no model: {error} "
            f"Received: folder={str(folder)!r}"
        ) from error


def _stored(folder, metadata, variant, tlc_train_size, name, **choice):
    """The LiteRT file of a variant, bundled or in the cache.

    Args:
        choice: `select` and so on, see `Variant`.

    Returns:
        `LiteRTModel`; None where there is none, or a damaged one in the cache.
    """
    known = variant.fingerprint
    bundled = _is_bundled(variant, known, tlc_train_size)
    if bundled:
        file, facts = _bundled(folder, metadata, variant, name)
    elif known is None:
        return None
    else:
        file, facts = _cached(_cache_path(known, tlc_train_size))
    if file is None:
        return None
    verify(folder, [CONFIG], metadata, name)
    try:
        return _with_right_choices(
            LiteRTModel(
                file,
                tlc_train_size=tlc_train_size,
                fingerprint=known,
                **facts,
                **choice,
            )
        )
    except ImportError:
        raise
    except Exception as error:  # the runtime raises nearly anything
        if not bundled:
            return None
        raise PresetError(
            f"Preset {name!r}: {file.name} and {METADATA} make no model: {error} "
            f"Received: folder={str(folder)!r}"
        ) from error


def _with_right_choices(engine):
    for select in (engine.select, "single"):
        engine.head_info.parse(select)
    return engine


def litert_of(model, tlc_train_size="model", make=True):
    """The LiteRT file of a model with its present weights.

    Args:
        model: `Deblurrer`.
        tlc_train_size: as for `restore`.
        make: whether to export the model where there is no such file; takes half a
            minute and writes to the user's cache.

    Returns:
        `LiteRTModel`, or `LiteRTEnsemble` of a model of several networks; None without
        `make`.
    """
    if tlc_train_size == "model":
        tlc_train_size = model.tlc_train_size
    try:
        digests = _digests(model)
    except NotImplementedError:
        # A network of the user's own, without `get_config`, has never been exported.
        if make:
            raise
        return None
    members = _members(model.network)
    if not members:
        return _litert_of(digests[0], tlc_train_size, 1, make and (lambda: model))
    engines = []
    sizes = model.network.local_statistics(tlc_train_size)
    for member, size, known in zip(members, sizes, digests):

        def of_member(member=member, size=size):
            return type(model)(network=member, tlc_train_size=size)

        engine = _litert_of(known, size, len(members), make and of_member)
        if engine is None:
            return None
        engines.append(engine)
    return LiteRTEnsemble(engines, combine_heads=model.combine_heads)


def _litert_of(known, tlc_train_size, keep, make):
    """The LiteRT file of one network.

    Args:
        known: fingerprint of its model.
        tlc_train_size: as for `restore`, but not "model".
        keep: how many files stay loaded.
        make: function that gives the `Deblurrer` to export where there is none, or
            False.
    """
    for name, folder in builtin_presets().items():
        metadata = read_metadata(folder, name)
        for stages in (None, *map(int, metadata.get("stages", {}))):
            variant = read_variant(folder, metadata, stages, name)
            if _is_bundled(variant, known, tlc_train_size):
                file, facts = _bundled(folder, metadata, variant, name)
                return _shared(file, facts, tlc_train_size, keep)
    path = _cache_path(known, tlc_train_size)
    try:
        found = _shared(*_cached(path), tlc_train_size, keep)
    except ImportError:
        raise
    except Exception:  # the file is damaged; the runtime raises nearly anything
        found = None
    if make and found is None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_files(path.parent) as scratch:
            new = scratch / path.name
            facts = export_heads(make(), new, tlc_train_size, "float32")
            Path(f"{new}.json").unlink()  # the report
            new.with_suffix(".json").write_text(json.dumps(facts), "utf-8")
        found = _shared(*_cached(path), tlc_train_size, keep)
    return found


def fingerprint(model, dtype="float32"):
    """Hexadecimal digest of what a `Deblurrer` computes: configuration and weights.

    Args:
        model: `Deblurrer`.
        dtype: dtype that the weights are rounded to first.
    """
    digests = _digests(model, dtype)
    if not _members(model.network):
        return digests[0]
    return combined_fingerprint(digests, model.combine_heads)


def member_fingerprints(model, dtype="float32"):
    """Those of the members of a `Deblurrer` with an `Ensemble`; an empty list else.

    Each is as of a `Deblurrer` of that network with combined heads, so what a preset of
    it has.
    """
    return _digests(model, dtype) if _members(model.network) else []


def _members(network):
    """The networks of an `Ensemble`; none of another network."""
    from keras_mhdeblur.networks.ensemble import Ensemble

    return network.members if isinstance(network, Ensemble) else ()


def _digests(model, dtype="float32"):
    """`fingerprint`s of a model's members, or the one of its network."""
    if members := _members(model.network):
        return [_digest(member, True, dtype) for member in members]
    return [_digest(model.network, model.combine_heads, dtype)]


def _digest(network, combine_heads, dtype):
    config = {**network.get_config(), "class": _class_key(network)}
    for irrelevant in ("name", "trainable", "dtype"):
        config.pop(irrelevant, None)
    if "tlc_train_size" in config:  # its name when the first digests were taken
        config["local_statistics"] = config.pop("tlc_train_size")
    config |= {"compute_dtype": network.compute_dtype, "combine": combine_heads}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    for value in network.get_weights():
        digest.update(value.astype(dtype).astype("float32").tobytes())
    return digest.hexdigest()


def choice_fingerprint(model, dtype="float32"):
    """Hexadecimal digest of what a calibration depends on: a model and its choices.

    Args:
        model: `Deblurrer`, `LiteRTModel` or `LiteRTEnsemble`.
        dtype: of `fingerprint`.
    """
    is_file = not hasattr(model, "network")
    own = model.fingerprint if is_file else fingerprint(model, dtype)
    choices = [own, model.select, model.best_pair, model.adaptive_weights]
    return hashlib.sha256(json.dumps(choices, default=str).encode()).hexdigest()


def _class_key(network):
    """A name that no other class has.

    A family's class has the family's name: files in the caches of users and the
    fingerprints of presets stay valid if the class is moved. A class that is of no
    family, also one that inherits from a family's class, has its module's name too.
    """
    from keras_mhdeblur.networks.registry import family_of

    cls = type(network)
    family = family_of(network)
    if family is not None and family.network is cls:
        return family.name
    return f"{cls.__module__}.{cls.__qualname__}"


def export_heads(model, path, tlc_train_size, weights):
    """Writes the LiteRT file that `LiteRTModel` runs; returns its facts."""
    from keras_mhdeblur.engines.keras_engine import KerasEngine
    from keras_mhdeblur.export import to_litert

    to_litert(model, path, "heads", tlc_train_size=tlc_train_size, weights=weights)
    engine = KerasEngine.of(model)
    return {
        "num_heads": model.num_heads,
        "combine_heads": model.combine_heads,
        "multiple": engine.multiple,
        "bytes_per_pixel": _MEMORY * engine.bytes_per_pixel,
        "tile_size": engine.tile_size,
    }


def _is_bundled(variant, known, tlc_train_size):
    return (
        variant.litert_file is not None
        and variant.fingerprint == known
        and variant.tlc_train_size == tlc_train_size
    )


def _bundled(folder, metadata, variant, name):
    """File and facts."""
    file, facts = variant.litert_file, variant.litert
    verify(folder, [file], metadata, name)
    # A test image of multiple x multiple pixels must not take all memory.
    limits = {"num_heads": 1000, "multiple": 1000, "bytes_per_pixel": 1e9}
    possible = (
        isinstance(facts, dict)
        and {*limits, "combine_heads"} <= facts.keys()
        and facts["combine_heads"] in (True, False, "axes")
        and all(
            isinstance(facts[key], numbers.Real) and 0 < facts[key] <= limit
            for key, limit in limits.items()
        )
        and isinstance(facts.get("tile_size"), (int, type(None)))
    )
    if not possible:
        raise PresetError(
            f"Preset {name!r}: {METADATA} does not describe {file}. Download or copy "
            f"it again. Received: litert={facts!r}"
        )
    return Path(folder) / file, facts


def _cached(path):
    """File and facts, None where they are missing or cannot be read."""
    try:
        facts = json.loads(path.with_suffix(".json").read_text("utf-8"))
    except (OSError, ValueError):
        return None, None
    return (path, facts) if path.is_file() else (None, None)


def _cache_path(known, tlc_train_size):
    key = json.dumps([known, tlc_train_size, _FORMAT]).encode()
    cache = platformdirs.user_cache_path("keras_mhdeblur", appauthor=False)
    return cache / "litert" / f"{hashlib.sha256(key).hexdigest()}.tflite"


_loaded: dict[Path, LiteRTModel] = {}


def _shared(file, facts, tlc_train_size, keep):
    """The model in a file, loaded once; None without a file.

    Args:
        keep: how many loaded files there may be: as many as one model needs. One that
            is trained on leaves many behind.
    """
    if file is None:
        return None
    model = _loaded.pop(file, None)
    if model is None:
        for oldest in list(_loaded)[: max(0, len(_loaded) - keep + 1)]:
            _loaded.pop(oldest, None)
        model = LiteRTModel(file, tlc_train_size=tlc_train_size, **facts)
    _loaded[file] = model  # the latest
    return model
