"""The model that restores photos, and what computes it: LiteRT where possible."""

import sys

from keras_mhdeblur.cli.common import UsageError, load_preset, one_line, quiet_import


def load_engine(preset, stages=None, engine="auto", tlc_train_size="model"):
    """Loads a preset: its LiteRT file, which is made once where there is none.

    Args:
        preset: as for `from_preset`.
        stages: stages after which the network ends; None for all.
        engine: "litert", "keras", or "auto": LiteRT where possible, else Keras.
        tlc_train_size: as for `restore`.

    Returns:
        A model, and the arguments of `restore` that say what computes.

    Raises:
        UsageError: if there is no such preset, or the engine cannot run it.
    """
    keras_engine = {"engine": "keras", "tlc_train_size": tlc_train_size}
    if engine == "keras":
        return load_preset(preset, stages=stages), keras_engine

    from keras_mhdeblur.presets import litert

    if not litert.litert_installed():
        if engine == "litert":
            raise UsageError("--engine litert needs `pip install ai-edge-litert`")
        return load_preset(preset, stages=stages), keras_engine
    try:
        with quiet_import():  # LiteRT says which delegate it has created
            model = litert.litert_from_preset(preset, tlc_train_size, stages)
    except ValueError as error:  # a damaged preset, or a damaged LiteRT file
        raise UsageError(f"--preset {preset}: {one_line(error)}") from None
    if model is not None:
        return model, {}
    model = load_preset(preset, stages=stages)
    print(
        f"Exporting {preset} to LiteRT, once for this machine ...",
        file=sys.stderr,
    )
    try:
        with quiet_import():
            from keras_mhdeblur.inference.engine_choice import choose_engine

            choose_engine(model, "litert", tlc_train_size)
    except Exception as error:
        if engine == "litert":
            raise UsageError(f"--engine litert: {one_line(error)}") from None
        print(f"mhdeblur: using Keras: {one_line(error)}", file=sys.stderr)
        return model, keras_engine
    return model, {**keras_engine, "engine": "litert"}
