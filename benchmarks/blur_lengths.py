"""Length of the blur of pairs in pixels, which a training set must reach.

python benchmarks/blur_lengths.py NAME=BLUR_FOLDER:SHARP_FOLDER... [--tile 160]

A row per pair: the number of tiles with texture, and over these the 10, 50 and 90 %
quantiles of the blur's length and the median of its width. The kernel of a tile is the
regularized least-squares one between the gradients of both images. Its length is that
of a straight path, run through evenly, of the same variance: of a photo moved by 5, 11,
21, 31 and 41 pixels in a straight line it is 4.8, 10.9, 20.9, 30.7 and 40.2. What is
longer than half a tile is cut off.
"""

import argparse

import numpy as np
from named_pairs import named_pair
from PIL import Image

from keras_mhdeblur.data import list_pairs

MIN_GRADIENT_VARIANCE = 2e-4
REGULARIZATION = 0.02  # of the mean power of the sharp tile's gradients
FLOOR = 0.15  # of the kernel's peak: what is below is noise


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pairs", nargs="+", type=named_pair, metavar="NAME=BLUR:SHARP")
    parser.add_argument("--tile", type=int, default=160)
    options = parser.parse_args()
    if options.tile < 8:
        parser.error(f"--tile must be at least 8, not {options.tile}")
    print("| set | image | tiles | length, 10 % | 50 % | 90 % | width |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, folders in options.pairs:
        for pair in list_pairs(*folders):
            blurry, sharp = (
                np.asarray(Image.open(path).convert("L"), "float32") / 255
                for path in pair
            )
            lengths = blur_lengths(blurry, sharp, options.tile)
            cells = [name, pair[0].stem, len(lengths)]
            if len(lengths):
                quantiles = np.percentile(lengths[:, 0], (10, 50, 90))
                width = np.median(lengths[:, 1])
                cells += [f"{length:.1f}" for length in (*quantiles, width)]
            else:
                cells += [""] * 4
            print("|", " | ".join(map(str, cells)), "|", flush=True)


def blur_lengths(blurry, sharp, tile):
    """Length and width of the blur of every textured tile, (tiles, 2)."""
    lengths = []
    for top in range(0, blurry.shape[0] - tile + 1, tile):
        for left in range(0, blurry.shape[1] - tile + 1, tile):
            here = np.s_[top : top + tile, left : left + tile]
            gradients = np.gradient(sharp[here])
            if sum(map(np.var, gradients)) > MIN_GRADIENT_VARIANCE:
                kernel = blur_kernel(np.gradient(blurry[here]), gradients)
                lengths.append(kernel_lengths(kernel))
    return np.array(lengths).reshape(-1, 2)


def blur_kernel(blurry_gradients, sharp_gradients):
    """Kernel, centred and of sum 1, that takes the sharp gradients to the blurry."""
    size = blurry_gradients[0].shape[0]
    window = np.outer(np.hanning(size), np.hanning(size))
    cross = power = 0
    for blurry, sharp in zip(blurry_gradients, sharp_gradients, strict=True):
        blurry, sharp = np.fft.fft2(blurry * window), np.fft.fft2(sharp * window)
        cross = cross + blurry * sharp.conj()
        power = power + np.abs(sharp) ** 2
    kernel = np.fft.ifft2(cross / (power + REGULARIZATION * power.mean())).real
    reach = size // 4
    middle = slice(size // 2 - reach, size // 2 + reach + 1)
    kernel = np.fft.fftshift(kernel)[middle, middle]
    kernel = np.maximum(kernel - FLOOR * kernel.max(), 0)
    return kernel / kernel.sum()


def kernel_lengths(kernel):
    """Lengths of straight paths with the kernel's largest and smallest variance."""
    places = np.stack(np.indices(kernel.shape)).reshape(2, -1)
    covariance = np.cov(places, aweights=kernel.ravel(), bias=True)
    return np.sqrt(12 * np.linalg.eigvalsh(covariance)[::-1].clip(min=0))


if __name__ == "__main__":
    main()
