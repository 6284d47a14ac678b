"""Values of a model and of its parts on torch: WEIGHTS INPUTS OUTPUTS."""

import sys

import keras
import numpy as np

import keras_mhdeblur as mhd
from keras_mhdeblur.data.jpeg import jpeg_compress

assert keras.backend.backend() == "torch"
network = mhd.networks.NAFNet(4, (1, 1), 1, (1, 1), num_heads=3)
model = mhd.Deblurrer(network)
metrics = [mhd.metrics.PSNROverall(), mhd.metrics.HypothesisUsage()]
model.load_weights(sys.argv[1])
arrays = np.load(sys.argv[2])
(heads,) = model(arrays["x"], training=True)
model.compile(metrics=metrics)
loss = model.compute_loss(y=keras.ops.convert_to_tensor(arrays["y"]), y_pred=heads)
seeds = np.array([0, 2])
blur = mhd.data.MotionBlur(max_noise=0.0)
blurry, _ = mhd.data.synthesize_motion_blur(arrays["x"], seeds, blur)
packed = jpeg_compress(arrays["x"], np.array([40, 90]))
numbers = mhd.data.seeded.uniform(seeds, 50)
hypotheses = model(arrays["x"])
luma = mhd.losses.PSNRLoss(to_luma=True)(arrays["y"], hypotheses[:, 0])
outputs = {
    "heads": heads,
    "hypotheses": hypotheses,
    "loss": loss,
    "luma": luma,
    "blurry": blurry,
    "packed": packed,
    "numbers": numbers,
}
np.savez(sys.argv[3], **{k: keras.ops.convert_to_numpy(v) for k, v in outputs.items()})
