"""Largest differences from the official PyTorch outputs, beside the tolerance.

python benchmarks/golden_differences.py [NAME ...]

Names are those of the files in tests/resources/golden; without, it takes all. The exit
code is 1 if a difference is larger.
"""

import json
import sys
from pathlib import Path

import numpy as np

from keras_mhdeblur.convert.conversion import build_model
from keras_mhdeblur.convert.recognition import recognize

GOLDEN = Path(__file__).parents[1] / "tests" / "resources" / "golden"
# Which official output is the final stage.
FINAL = {"hinet": 1, "xydeblur": 2}
failed = False

for path in sorted(GOLDEN.glob("*.npz")):
    family = path.stem.partition("_")[0]
    if family not in ("hinet", "mprnet", "nafnet", "restormer", "xydeblur"):
        continue
    if sys.argv[1:] and path.stem not in sys.argv[1:]:
        continue
    file = np.load(path)
    config = json.loads(str(file["config"]))
    state = {key[3:]: file[key] for key in file.files if key.startswith("sd/")}
    options = {}
    if "combinate_heads" in config["kwargs"]:
        options["combine_heads"] = config["kwargs"]["combinate_heads"]
    if family == "nafnet" and "train_size" in config["kwargs"]:
        options["tlc_train_size"] = tuple(config["kwargs"]["train_size"][2:])
    model = build_model(state, recognize(state), options)
    hypotheses = model.predict_on_batch(np.moveaxis(file["x"], 1, -1))
    stage = FINAL.get(family, 0)
    expected = np.moveaxis(file[f"out/{stage}"], -3, -1).reshape(hypotheses.shape)
    difference = np.abs(hypotheses - expected).max()
    tolerance = max(1e-6, 10 * config["f32_vs_f64_maxabs"][stage])
    failed |= not difference <= tolerance
    print(f"{path.stem:32} {difference:.1e}  (tolerance {tolerance:.1e})", flush=True)
sys.exit(failed)
