"""The engines restore RGB images."""


def check_rgb(model):
    """Raises a ValueError where a model is not one of RGB images."""
    channels = getattr(getattr(model, "network", None), "image_channels", 3)
    if channels != 3:
        raise ValueError(
            "`model` must restore RGB images; call the model itself for others. "
            f"Received: model.network.image_channels={channels}"
        )
