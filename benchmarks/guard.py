"""Effect of the guard of `restore` on pairs, sharp photos and constructed images.

python benchmarks/guard.py PRESET [--pairs NAME=BLUR_FOLDER:SHARP_FOLDER...]
    [--sharp FOLDER] [--blurry FOLDER]

A row per kind of input: images; PSNR gain in dB, mean and least, without and with the
guard (of what is sharp already: PSNR to itself, at most 60 dB); the share of the blocks
where the photo is kept.
"""

import argparse

import numpy as np
from named_pairs import named_pair
from PIL import Image, ImageDraw, ImageFont

import keras_mhdeblur as mhd
from keras_mhdeblur.metrics import finite_psnr


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("preset")
    parser.add_argument(
        "--pairs", nargs="+", default=[], type=named_pair, metavar="NAME=BLUR:SHARP"
    )
    parser.add_argument("--sharp", metavar="FOLDER")
    parser.add_argument("--blurry", metavar="FOLDER", help="without sharp images")
    options = parser.parse_args()
    model = mhd.from_preset(options.preset)
    print("| input | images | without | least | guard | least | kept |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, folders in options.pairs:
        pairs = mhd.data.list_pairs(*folders)
        show(name, model, [[array(path) for path in pair] for pair in pairs])
    if options.sharp:
        crops = [crop(array(path)) for path in mhd.data.list_images(options.sharp)]
        show("sharp photos", model, [(image, image) for image in crops])
    for name, images in constructed().items():
        show(name, model, [(image, image) for image in images])
    if options.blurry:
        paths = mhd.data.list_images(options.blurry)
        kept = [model.restore(path, hypotheses=False).kept.mean() for path in paths]
        print(f"| blurry photos | {len(kept)} | | | | | {100 * np.mean(kept):.3f} % |")


def show(name, model, pairs):
    gains, kept = [], []
    for blurry, sharp in pairs:
        before = min(psnr(blurry, sharp), 60) if blurry is not sharp else 0
        row = []
        for guard in (False, True):
            result = model.restore(blurry, hypotheses=False, guard=guard)
            row.append(min(psnr(result.image, sharp), 60) - before)
        gains.append(row)
        kept.append(result.kept.mean())
    (without, guarded), least = np.mean(gains, axis=0), np.min(gains, axis=0)
    cells = [name, len(gains)]
    cells += [f"{value:+.2f}" for value in (without, least[0], guarded, least[1])]
    cells.append(f"{100 * np.mean(kept):.3f} %")
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def constructed():
    """Sharp images that no camera took: name -> list of uint8 (H, W, 3)."""
    generator = np.random.default_rng(0)
    colours = [(33, 25, 23), (255, 255, 255), (0, 0, 0), (128, 128, 128), (200, 30, 30)]
    sizes = [(64, 64), (97, 131), (200, 300), (333, 517), (512, 512)]
    ramp = np.linspace(0, 255, 512).astype("uint8")
    page = Image.new("RGB", (512, 256), "white")
    for line in range(9):
        font = ImageFont.load_default(12 + line)
        text = "The quick brown fox jumps over 13 lazy dogs. " * 2
        ImageDraw.Draw(page).text((8, 6 + 27 * line), text, "black", font)
    page = np.asarray(page)
    noise = generator.integers(0, 256, (256, 256, 3)).astype("uint8")
    checks = (255 * (np.indices((256, 256)).sum(axis=0) % 2)).astype("uint8")
    return {
        "one colour": [
            np.full((*size, 3), colour, "uint8") for colour in colours for size in sizes
        ],
        "noise": [noise, noise // 40],
        "checks, gradients": [
            np.repeat(np.broadcast_to(plane, (256, plane.shape[-1]))[..., None], 3, -1)
            for plane in (checks, ramp)
        ],
        "text": [page, 255 - page],
    }


def crop(image, size=512):
    top, left = (max((side - size) // 2, 0) for side in image.shape[:2])
    return image[top : top + size, left : left + size]


def array(path):
    return np.asarray(Image.open(path).convert("RGB"))


def psnr(image, sharp):
    return float(finite_psnr(sharp / np.float32(255), image / np.float32(255)))


if __name__ == "__main__":
    main()
