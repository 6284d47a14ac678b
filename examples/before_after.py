"""A picture of a photo's crop: before, after, and where the hypotheses differ.

python examples/before_after.py PHOTO PICTURE.jpg LEFT TOP WIDTH HEIGHT
"""

import sys

import numpy as np
from PIL import Image

import keras_mhdeblur
from keras_mhdeblur.inference.heatmap import heat_map

photo, picture, *box = sys.argv[1:]
left, top, width, height = map(int, box)
inside = np.s_[top : top + height, left : left + width]

before = np.array(Image.open(photo).convert("RGB"))
model = keras_mhdeblur.from_preset("nafnet_maxim_mh_c")
result = model.restore(before)
uncertainty = heat_map(result.uncertainty[inside])
panels = [before[inside], result.image[inside], uncertainty[:height]]
gap = np.full((height, 8, 3), 255, "uint8")
row = np.concatenate([panels[0], gap, panels[1], gap, panels[2]], axis=1)
Image.fromarray(row).save(picture, quality=92)
