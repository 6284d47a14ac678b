"""The choice between Keras and LiteRT."""

from keras_mhdeblur.presets import litert
from keras_mhdeblur.utils.types import Engine, LocalStatistics


def choose_engine(
    model, engine: Engine = "auto", local_statistics: LocalStatistics = "model"
):
    """The engine that computes a model's head images; `restore` explains the arguments.

    Args:
        model: `Deblurrer`, or an engine, which is returned.
        engine: "auto", "keras" or "litert".
        local_statistics: "model", size of the training crops in pixels, or None.

    Returns:
        `KerasEngine` or `LiteRTModel`.

    Raises:
        ValueError: an argument is out of its range, or does not fit the engine.
    """
    if engine not in ("auto", "keras", "litert"):
        raise ValueError(
            f'`engine` must be "auto", "keras" or "litert". Received: engine={engine!r}'
        )
    if not hasattr(model, "network"):
        return _as_it_is(model, engine, local_statistics)
    if engine == "litert":
        return litert.litert_of(model, local_statistics)
    # Keras takes seconds to load, which a LiteRT file does without.
    from keras_mhdeblur.engines.keras_engine import KerasEngine, has_gpu

    found = None
    if engine == "auto" and litert.litert_installed() and not has_gpu():
        found = litert.litert_of(model, local_statistics, make=False)
    return found or KerasEngine.of(model, local_statistics)


def _as_it_is(engine, wanted, local_statistics):
    """A `LiteRTModel`: what it computes was fixed when it was exported."""
    if wanted == "keras":
        raise ValueError(
            '`engine` must be "auto" or "litert" for a model in a LiteRT file. '
            f"Received: engine={wanted!r}"
        )
    if local_statistics != "model":
        raise ValueError(
            "`local_statistics` were fixed when the LiteRT file was exported. "
            f"Received: local_statistics={local_statistics!r}"
        )
    return engine
