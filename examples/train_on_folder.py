"""Goes on training the preset with your own sharp photos, blurred on the fly.

python examples/train_on_folder.py FOLDER_OF_SHARP_PHOTOS
"""

import sys

import keras_mhdeblur as mhd

model = mhd.from_preset("nafnet_mh_c")
patches = mhd.data.Patches(patch_size=128, batch_size=8)
data = mhd.data.synthesized_folder(sys.argv[1], patches)
# With pairs: mhd.data.paired_folder("blur", "sharp", patches)
model.compile(
    optimizer=mhd.training.TorchAdamW(1e-4, global_clipnorm=0.01),
    loss=mhd.losses.L1Loss(),
    metrics=[mhd.metrics.PSNROverall(), mhd.metrics.PSNRMean()],
)
model.fit(data, epochs=10)
model.adaptive_weights = mhd.training.fit_adaptive_weights(model, data, patches=1024)
model.save_to_preset("my_deblurrer")
