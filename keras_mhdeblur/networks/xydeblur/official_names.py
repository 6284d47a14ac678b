"""Official parameter names of XYDeblur."""

from keras_mhdeblur.networks.torch_layouts import conv_entries


def xydeblur_entries(network):
    """Official parameter name to (Keras variable, function from PyTorch's array)."""
    entries = {}

    def add(name, layer):
        entries.update(conv_entries(f"{name}.main.0", layer))

    def add_blocks(name, first, prefix):
        for index in range(network.num_res_blocks):
            block = network.get_layer(f"{prefix}_block_{index}")
            add(f"{name}.layers.{first + index}.main.0", block.conv1)
            add(f"{name}.layers.{first + index}.main.1", block.conv2)

    for level in range(3):
        first = network.get_layer(f"down_{level}" if level else "intro")
        add(f"Encoder{level + 1}.layers.0", first)
        add_blocks(f"Encoder{level + 1}", 1, f"encoder_{level}")
        decoder = f"Decoder1_{3 - level}"
        add_blocks(decoder, 0, f"decoder_{level}")
        if level:
            up = network.get_layer(f"up_{level}")
            add(f"{decoder}.layers.{network.num_res_blocks}", up)
            add(f"Convs1_{3 - level}", network.get_layer(f"merge_{level}"))
    add("Decoder1_4", network.get_layer("heads").conv)
    return entries
