"""from_checkpoint: official checkpoint file -> Deblurrer."""

import inspect
from typing import Any

from keras_mhdeblur.convert.checkpoint_files import read_checkpoint
from keras_mhdeblur.convert.recognition import recognize
from keras_mhdeblur.convert.state_dict import load_official_weights
from keras_mhdeblur.deblurrer import Deblurrer
from keras_mhdeblur.networks.weight_limit import weights_at_most
from keras_mhdeblur.utils.split_options import divide_options
from keras_mhdeblur.utils.types import PathLike


def from_checkpoint(
    path: PathLike,
    architecture: str = "auto",
    *,
    entry: str | None = None,
    **overrides: Any,
) -> Deblurrer:
    """Makes a model of a checkpoint of an official network.

    The checkpoints of NAFNet, Restormer, HINet, MPRNet and XYDeblur and of their
    multi-head variants, as .pth or .safetensors files; of MAXIM, as .npz files of Flax
    or as packages of npm for TensorFlow.js. Width, blocks, heads, biases and norms
    follow from the names and shapes of the weights. Neither PyTorch nor JAX is needed,
    and no code in the file is executed (see `checkpoint_files.read_checkpoint`).

    MAXIM's checkpoints for other tasks than deblurring have the same names and shapes:
    what the weights were trained for is for the user to know.

    Args:
        path: the file; of a package of npm the .tgz, its folder, or the `model.json`.
        architecture: "nafnet", "restormer", "hinet", "mprnet", "xydeblur", "maxim",
            the name of another registered family, or "auto" to tell it by the names.
        entry: which entry of the checkpoint holds the weights; by default the first
            of params_ema, params, state_dict, model, of opt/target, params for Flax,
            or the file itself.
        overrides: arguments of `Deblurrer` (`tlc_train_size=256`) or of the network
            in place of those recognised or assumed. A checkpoint does not tell
            whether heads are combined (assumed if there are several), HINet's
            `relu_slope` (0.2) and whether statistics are local (TLC; they are not).

    Returns:
        A `Deblurrer`, not compiled.

    Raises:
        CheckpointError: the file is damaged, refused or holds no weights.
        ValueError: the architecture is unknown, an override is, or weights are
            missing, surplus or misshapen; the message names them.
        OSError: the file cannot be opened.

    Example:

    ```python
    model = keras_mhdeblur.convert.from_checkpoint("NAFNet-GoPro-width64.pth")
    model.save_to_preset("nafnet_gopro", license="MIT")
    ```
    """
    state = read_checkpoint(path, entry).state
    return build_model(state, recognize(state, architecture), overrides)


# The first name of it, from when all official networks were PyTorch's.
from_torch_checkpoint = from_checkpoint


def build_model(state, recognition, overrides):
    """The Deblurrer of a `Recognition` with the weights of a state dictionary.

    Args:
        state: dictionary of official parameter names to arrays.
        recognition: what `recognize` made of it.
        overrides: dictionary of arguments, see `from_checkpoint`.
    """
    cls = recognition.family.network
    parameters = inspect.signature(cls).parameters
    options = {
        name
        for name, parameter in parameters.items()
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    }
    arguments = {**recognition.arguments, **recognition.assumed, **overrides}
    network_arguments, model_arguments = divide_options(
        cls.__name__, arguments, options, Deblurrer
    )
    try:
        with weights_at_most(
            number=4 * len(state) + 100,
            size=4 * sum(array.size for array in state.values()),
        ):
            network = cls(**network_arguments, name=cls.__name__.lower())
            model = Deblurrer(network, **model_arguments, name="deblurrer")
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
        raise ValueError(
            f"The checkpoint makes no {cls.__name__}: {reason} "
            f"Received: arguments={arguments}"
        ) from error
    load_official_weights(model, state)
    return model
