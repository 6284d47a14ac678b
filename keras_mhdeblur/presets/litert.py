"""LiteRT files of models: bundled with a preset, or in the user's cache.

Finding and running one needs no Keras; only making one does.
"""

import hashlib
import importlib.util
import json
import numbers
from pathlib import Path

import platformdirs

from keras_mhdeblur.engines.litert_model import LiteRTModel
from keras_mhdeblur.presets.files import (
    CONFIG,
    METADATA,
    PresetError,
    read_metadata,
    read_variant,
    verify,
)
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
        `LiteRTModel`; None where there is none or a damaged one in the cache:
        `litert_of(from_preset(name))` makes one.

    Raises:
        PresetError: the preset does not exist, cannot be reached or is damaged.
    """
    folder = find_preset(name)
    metadata = read_metadata(folder, str(name))
    variant = read_variant(folder, metadata, stages, str(name))
    if tlc_train_size == "model":
        tlc_train_size = variant.tlc_train_size
    known = variant.fingerprint
    bundled = _is_bundled(variant, known, tlc_train_size)
    if bundled:
        file, facts = _bundled(folder, metadata, variant, str(name))
    elif known is None:
        return None
    else:
        file, facts = _cached(_cache_path(known, tlc_train_size))
    if file is None:
        return None
    verify(folder, [CONFIG], metadata, str(name))
    try:
        model = LiteRTModel(
            file,
            tlc_train_size=tlc_train_size,
            fingerprint=known,
            **facts,
            **variant.choice,
        )
        for select in (model.select, "single"):
            model.head_info.parse(select)
    except ImportError:
        raise
    except Exception as error:  # the runtime raises nearly anything
        if not bundled:
            return None
        raise PresetError(
            f"Preset {str(name)!r}: {file.name} and {METADATA} make no model: {error} "
            f"Received: folder={str(folder)!r}"
        ) from error
    return model


def litert_of(model, tlc_train_size="model", make=True):
    """The LiteRT file of a model with its present weights.

    Args:
        model: `Deblurrer`.
        tlc_train_size: as for `restore`.
        make: whether to export the model where there is no such file; takes half a
            minute and writes to the user's cache.

    Returns:
        `LiteRTModel`; None without `make`.
    """
    if tlc_train_size == "model":
        tlc_train_size = model.tlc_train_size
    try:
        known = fingerprint(model)
    except NotImplementedError:
        # A network of the user's own, without `get_config`, has never been exported.
        if make:
            raise
        return None
    for name, folder in builtin_presets().items():
        metadata = read_metadata(folder, name)
        for stages in (None, *map(int, metadata.get("stages", {}))):
            variant = read_variant(folder, metadata, stages, name)
            if _is_bundled(variant, known, tlc_train_size):
                file, facts = _bundled(folder, metadata, variant, name)
                return _shared(file, facts, tlc_train_size)
    path = _cache_path(known, tlc_train_size)
    try:
        found = _shared(*_cached(path), tlc_train_size)
    except ImportError:
        raise
    except Exception:  # the file is damaged; the runtime raises nearly anything
        found = None
    if make and found is None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_files(path.parent) as scratch:
            new = scratch / path.name
            facts = export_heads(model, new, tlc_train_size, "float32")
            Path(f"{new}.json").unlink()  # the report
            new.with_suffix(".json").write_text(json.dumps(facts), "utf-8")
        found = _shared(*_cached(path), tlc_train_size)
    return found


def fingerprint(model, dtype="float32"):
    """Hexadecimal digest of what a `Deblurrer` computes: configuration and weights.

    Args:
        model: `Deblurrer`.
        dtype: dtype that the weights are rounded to first.
    """
    network = model.network
    config = {**network.get_config(), "class": _class_key(network)}
    for irrelevant in ("name", "trainable", "dtype"):
        config.pop(irrelevant, None)
    if "tlc_train_size" in config:  # its name when the first digests were taken
        config["local_statistics"] = config.pop("tlc_train_size")
    config |= {"compute_dtype": network.compute_dtype, "combine": model.combine_heads}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    for value in network.get_weights():
        digest.update(value.astype(dtype).astype("float32").tobytes())
    return digest.hexdigest()


def choice_fingerprint(model, dtype="float32"):
    """Hexadecimal digest of what a calibration depends on: a model and its choices.

    Args:
        model: `Deblurrer` or `LiteRTModel`.
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


def _shared(file, facts, tlc_train_size):
    """The model in a file, loaded once; None without a file."""
    if file is None:
        return None
    if file not in _loaded:
        # One is kept: a model that is trained on leaves many files behind.
        _loaded.clear()
        _loaded[file] = LiteRTModel(file, tlc_train_size=tlc_train_size, **facts)
    return _loaded[file]
