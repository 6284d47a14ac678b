"""The choice between Keras and LiteRT."""

from keras_mhdeblur.presets import litert
from keras_mhdeblur.utils.types import Engine, LocalStatistics


def choose_engine(
    model, engine: Engine = "auto", tlc_train_size: LocalStatistics = "model"
):
    """The engine that computes a model's head images; `restore` explains the arguments.

    Args:
        model: `Deblurrer`, or an engine, which is returned.
        engine: "auto", "keras" or "litert".
        tlc_train_size: "model", size of the training crops in pixels, or None.

    Returns:
        `KerasEngine`, `LiteRTModel` or `LiteRTEnsemble`.

    Raises:
        ValueError: an argument is out of its range, or does not fit the engine.
    """
    if engine not in ("auto", "keras", "litert"):
        raise ValueError(
            f'`engine` must be "auto", "keras" or "litert". Received: engine={engine!r}'
        )
    if not hasattr(model, "network"):
        return _as_it_is(model, engine, tlc_train_size)
    if engine == "litert":
        return litert.litert_of(model, tlc_train_size)
    # Keras takes seconds to load, which a LiteRT file does without.
    from keras_mhdeblur.engines.keras_engine import KerasEngine, has_gpu

    found = None
    if engine == "auto" and litert.litert_installed() and not has_gpu():
        found = litert.litert_of(model, tlc_train_size, make=False)
    return found or KerasEngine.of(model, tlc_train_size)


def _as_it_is(engine, wanted, tlc_train_size):
    """LiteRT files: what they compute was fixed when they were exported."""
    if wanted == "keras":
        raise ValueError(
            '`engine` must be "auto" or "litert" for a model in a LiteRT file. '
            f"Received: engine={wanted!r}"
        )
    if tlc_train_size != "model":
        raise ValueError(
            "`tlc_train_size` was fixed when the LiteRT file was exported. "
            f"Received: tlc_train_size={tlc_train_size!r}"
        )
    return engine
