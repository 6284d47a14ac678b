"""Estimates the camera response of pairs: the exponent from stored values to light.

python benchmarks/responses.py NAME=BLUR_FOLDER:SHARP_FOLDER... [--kernel 11]
    [--tile 40] [--tiles 12]

Blur is a mean of light, so that a kernel explains a blurry image best where stored
values are taken to the power of the response, `gamma` of `synthesize_motion_blur`. A
row per set: the number of tiles, and for every power how many dB worse than with the
best one the least-squares kernels of the tiles explain them (error in stored values).
The kernel must be as wide as the blur is long (`blur_lengths.py`). Of every pair the
tiles with most contrast count, without those that are saturated or that no kernel
explains.
"""

import argparse

import numpy as np
from named_pairs import named_pair
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image

from keras_mhdeblur.data import list_pairs

POWERS = (1.0, 1.4, 1.8, 2.2, 2.6, 3.0, 3.4, 4.0)
DARKEST, SATURATED = 0.02, 0.98
MAX_SATURATED = 0.01  # of a tile's values
MIN_EXPLAINED = 4.0  # dB by which the best kernel is nearer than the sharp tile


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pairs", nargs="+", type=named_pair, metavar="NAME=BLUR:SHARP")
    parser.add_argument("--kernel", type=int, default=11, help="side, odd")
    parser.add_argument("--tile", type=int, default=40, help="side")
    parser.add_argument("--tiles", type=int, default=12, help="of every pair, at most")
    options = parser.parse_args()
    if options.kernel < 3 or options.kernel % 2 == 0:
        parser.error(f"--kernel must be odd and at least 3, not {options.kernel}")
    if options.tile < 2 * options.kernel:
        parser.error(f"--tile must be at least twice --kernel, not {options.tile}")
    print(f"| set | tiles | {' | '.join(map(str, POWERS))} |")
    print("| --- " * (2 + len(POWERS)) + "|")
    for name, folders in options.pairs:
        errors = [
            tile_errors(*tile)
            for pair in list_pairs(*folders)
            for tile in contrasty_tiles(
                *map(stored_values, pair), options.kernel // 2, options.tile
            )[: options.tiles]
        ]
        errors = [row[1:] for row in errors if row[0] - min(row[1:]) > MIN_EXPLAINED]
        cells = [""] * len(POWERS)
        if errors:
            means = np.mean(errors, axis=0)
            cells = [f"{value:.2f}" for value in means - means.min()]
        print("|", " | ".join([name, str(len(errors)), *cells]), "|", flush=True)


def stored_values(path):
    return np.asarray(Image.open(path).convert("RGB")) / 255


def contrasty_tiles(blurry, sharp, reach, size):
    """Blurry tiles and sharp ones, wider by the reach, those with most contrast first.

    Tiles overlap by half.
    """
    height, width = (side - size - reach + 1 for side in blurry.shape[:2])
    tiles = [
        (
            blurry[top : top + size, left : left + size],
            sharp[top - reach : top + size + reach, left - reach : left + size + reach],
        )
        for top in range(reach, height, size // 2)
        for left in range(reach, width, size // 2)
    ]
    tiles = [
        tile
        for tile in tiles
        if all((values > SATURATED).mean() <= MAX_SATURATED for values in tile)
    ]
    return sorted(tiles, key=lambda tile: -tile[1].std())


def tile_errors(blurry, sharp):
    """Squared errors in dB: of the sharp tile itself, then of the kernels by power."""
    reach = (sharp.shape[0] - blurry.shape[0]) // 2
    size = 2 * reach + 1
    blurry, sharp = np.maximum(blurry, DARKEST), np.maximum(sharp, DARKEST)
    errors = [blurry - sharp[reach:-reach, reach:-reach]]
    for power in POWERS:
        windows = sliding_window_view(sharp**power, (size, size), axis=(0, 1))
        windows = windows.reshape(-1, size**2)
        # A difference in light as one in stored values.
        weights = blurry.ravel() ** (1 - power) / power
        weighted = windows * weights[:, None]
        kernel = np.linalg.lstsq(
            weighted.T @ weighted, weighted.T @ (weights * blurry.ravel() ** power)
        )[0]
        light = np.clip(windows @ kernel, DARKEST**power, 1)
        errors.append(light ** (1 / power) - blurry.ravel())
    return [10 * np.log10(np.mean(error**2) + 1e-9) for error in errors]


if __name__ == "__main__":
    main()
