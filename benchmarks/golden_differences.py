"""Largest differences from the official PyTorch outputs, beside the tolerance.

python benchmarks/golden_differences.py
"""

import json
from pathlib import Path

import numpy as np

import keras_mhdeblur as mhd

GOLDEN = Path(__file__).parents[1] / "tests" / "data" / "golden"

for path in sorted(GOLDEN.glob("nafnet_*.npz")):
    file = np.load(path)
    config = json.loads(str(file["config"]))
    kwargs = config["kwargs"]
    network = mhd.networks.NAFNet(
        width=kwargs["width"],
        encoder_blocks=kwargs["enc_blk_nums"],
        middle_blocks=kwargs["middle_blk_num"],
        decoder_blocks=kwargs["dec_blk_nums"],
        num_heads=kwargs.get("n_heads", 1),
    )
    state = {key[3:]: file[key] for key in file.files if key.startswith("sd/")}
    mhd.convert.load_torch_state_dict(network, state)
    train_size = kwargs.get("train_size")  # (N, C, H, W)
    model = mhd.Deblurrer(
        network,
        combine_heads=kwargs.get("combinate_heads", False),
        local_statistics=train_size and train_size[2:],
    )
    hypotheses = np.asarray(model(np.moveaxis(file["x"], 1, -1)))
    expected = np.moveaxis(file["out/0"], -3, -1).reshape(hypotheses.shape)
    difference = np.abs(hypotheses - expected).max()
    tolerance = 10 * config["f32_vs_f64_maxabs"][0]
    print(f"{path.stem:32} {difference:.1e}  (tolerance {tolerance:.1e})")
