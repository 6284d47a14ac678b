"""Difference between a photo restored in tiles and the same photo restored at once.

python benchmarks/seams.py PHOTO PRESET... [--tiles 640 768] [--size 512 1280]

Largest and mean difference, in levels of 255, without the guard and before rounding.
"""

import argparse
import functools

import numpy as np

import keras_mhdeblur as mhd


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photo")
    parser.add_argument("presets", nargs="+", metavar="PRESET")
    parser.add_argument("--tiles", nargs="+", type=int, default=[640, 768])
    parser.add_argument(
        "--size", nargs=2, type=int, default=(512, 1280), metavar=("HEIGHT", "WIDTH")
    )
    options = parser.parse_args()
    height, width = options.size
    pixels = mhd.data.read_image(options.photo).pixels[:height, :width]
    print("| preset | local statistics | tile | largest | mean |")
    print("| --- | --- | --- | --- | --- |")
    for preset in options.presets:
        model = mhd.from_preset(preset)
        restore = functools.partial(
            model.restore, pixels, hypotheses=False, guard=False
        )
        whole = restore(tile=None).image
        for tile in options.tiles:
            levels = 255 * np.abs(restore(tile=tile).image - whole)
            print(
                f"| {preset} | {model.tlc_train_size} | {tile} | "
                f"{levels.max():.2f} | {levels.mean():.4f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
