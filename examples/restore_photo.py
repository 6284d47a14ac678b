"""Restores one photo and shows what the hypotheses say.

python examples/restore_photo.py examples/photos/gopro_street.jpg
"""

import sys

import keras_mhdeblur

model = keras_mhdeblur.from_preset("nafnet_maxim_mh_c")
result = model.restore(sys.argv[1], progress=True)

result.save("restored.png")
result.save_uncertainty("uncertainty.png")
print("hypotheses:", result.names, result.hypotheses.shape)
print(f"mean uncertainty: {255 * result.uncertainty.mean():.2f} of 255 levels")
