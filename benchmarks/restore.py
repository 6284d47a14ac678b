"""Seconds per megapixel and peak memory of `restore`, in a fresh process.

python benchmarks/restore.py [MEGAPIXELS] [PRESET]
"""

import resource
import sys
import time

import numpy as np

import keras_mhdeblur as mhd

megapixels = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
model = mhd.from_preset(sys.argv[2] if len(sys.argv) > 2 else "nafnet_mh_c")
height = int((megapixels * 1e6 / 1.5) ** 0.5)
photo = np.random.default_rng(0).integers(
    0, 256, (height, int(1.5 * height), 3), "uint8"
)


def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


print(f"after loading: {peak_mb():.0f} MB")
for hypotheses in (False, True):
    model.restore(photo[:64, :64], hypotheses=hypotheses)  # traces
seconds = {}
for kind, hypotheses in (("one image", False), ("all hypotheses", True)):
    begin = time.perf_counter()
    model.restore(photo, hypotheses=hypotheses)
    seconds[kind] = (time.perf_counter() - begin) / (photo[..., 0].size / 1e6)
    print(f"{kind}: {seconds[kind]:.2f} s per megapixel, peak {peak_mb():.0f} MB")
print(f"ratio {seconds['all hypotheses'] / seconds['one image']:.2f}")
