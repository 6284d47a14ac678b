"""The crops that `fit.py` fits, chooses and reports with.

    python zoo/fitting/crops.py --data DATA --output crops.npz

DATA is a folder of pictures under free licences; README.md beside this file lists
them. No place or photo is in two of the sets to fit, to choose and to report:

- "fit": what the heads and their adaptive weights are fitted to.
- "weigh": more crops of the same photos, for the adaptive weights alone.
- "choose": chooses among fits of the heads (ridge, weight of the mean).
- "choose_weights": more crops of the same photos; both choose the caution.
- "report": what is reported. Nothing is chosen by it.

Pictures are 8 bits, as photos are: blurry and sharp, 256x256 but for "reds_quarter".
"""

import argparse
import dataclasses
import io
from pathlib import Path

import numpy as np
from PIL import Image

from keras_mhdeblur import data

SIZE = 256
SHAKE = data.MotionBlur(
    40.0,
    num_frames=24,
    path_exponent=1.5,
    max_rotation=1.0,
    max_noise=0.02,
    gamma_spread=0.15,
    jpeg_quality=(60, 95),
    max_lights=4,
)
# What photos of all sorts have: noise, objects, defocus, lost resolution, or no blur.
VARIED = dataclasses.replace(
    SHAKE,
    max_noise=0.04,
    max_late_noise=0.02,
    max_objects=2,
    max_defocus=2.0,
    min_resampling=0.5,
    still_share=0.25,
)


def photo(path):
    """An image file as uint8 (H, W, 3)."""
    return data.read_image(path).to_array()[..., :3]


def as_bytes(image):
    """uint8 of float in [0, 1]."""
    return np.clip(np.round(255 * np.asarray(image)), 0, 255).astype("uint8")


def windows(shape, count, random, size=SIZE):
    """Slices of `count` crops at random places."""
    for _ in range(count):
        top, left = (int(random.integers(0, n - size + 1)) for n in shape[:2])
        yield slice(top, top + size), slice(left, left + size)


def of_pairs(folder, names, count, random):
    """Crops of pairs of pictures in folder/blur and folder/sharp."""
    for name in names:
        blur, sharp = (photo(folder / part / name) for part in ("blur", "sharp"))
        for place in windows(blur.shape, count, random):
            yield blur[place], sharp[place]


def of_frames(folders, count, lengths, random, middle=False):
    """Averages of consecutive frames of video, and one of these frames as label.

    Any of them, as the sharp image of a real pair may be of any moment, or the middle
    one.
    """
    frames = [photo(path) for folder in folders for path in sorted(folder.iterdir())]
    for _ in range(count):
        length = int(random.choice(lengths))
        start = int(random.integers(0, len(frames) - length + 1))
        place = next(windows(frames[0].shape, 1, random))
        taken = np.stack([frame[place] for frame in frames[start : start + length]])
        moment = length // 2 if middle else random.integers(0, length)
        yield as_bytes(data.blur_from_frames(taken)), taken[moment]


def of_photos(paths, random, per_photo=1):
    """Crops of sharp photos, for what follows."""
    for path in paths:
        pixels = photo(path)
        for place in windows(pixels.shape, per_photo, random, SIZE + 2 * 48):
            yield pixels[place]


def shaken(patches, seed, label_jitter=0.0, blur=SHAKE, every=1):
    """Camera shake by `data.synthesize_motion_blur`, of one of `every` patches."""
    for index, patch in enumerate(patches):
        if index % every:
            continue
        blurry, label = data.synthesize_motion_blur(
            patch[None].astype("float32") / 255,
            seed + index,
            dataclasses.replace(blur, label_jitter=label_jitter),
            margin=48,
        )
        yield as_bytes(blurry[0]), as_bytes(label[0])


def not_blurred(patches, random):
    """Sharp inputs as they are, with noise, or compressed: nothing is to be done."""
    for index, patch in enumerate(patches):
        sharp = patch[48:-48, 48:-48]
        values = sharp.astype("float32")
        if index % 3 == 1:
            values = values + random.normal(0, random.uniform(2, 8), sharp.shape)
        blurry = as_bytes(values / 255)
        if index % 3 == 2:
            file = io.BytesIO()
            quality = int(random.integers(50, 90))
            Image.fromarray(sharp).save(file, "JPEG", quality=quality)
            blurry = np.array(Image.open(file))
        yield blurry, sharp


def all_crops(folder):
    """(set, kind) to lists of (blurry, sharp), uint8."""
    gopro = folder / "gopro"

    def random(seed):
        return np.random.default_rng(seed)

    official = gopro / "pairs_GOPR0372_07_00"
    half = gopro / "crops_half"
    halves = sorted(path.name for path in (half / "blur").iterdir())
    reds = folder / "reds_full"
    frames = [gopro / "frames_GOPR0477_11_00_199-213", gopro / "frames_GOPR0477_11_00"]
    others = [gopro / "frames_GOPR0477_11_00_280-299"]
    photos = sorted((folder / "sharp" / "open_photos").glob("*.jpg"))
    # Every photo is in one set; which is not by the alphabet, that is by source.
    photos = [photos[index] for index in random(7).permutation(len(photos))]
    fit, choose, report = photos[:48], photos[48:68], photos[80:]

    def names(path):
        return sorted(file.name for file in (path / "blur").iterdir())

    def quarter(scene):
        path = folder / "reds_quarter" / scene
        for name in names(path):
            yield photo(path / "blur" / name), photo(path / "sharp" / name)

    def remade():
        for path in sorted((gopro / "pairs").glob("*_gt.png")):
            blur, sharp = photo(str(path).replace("_gt", "")), photo(path)
            for place in windows(blur.shape, 2, random(8)):
                yield blur[place], sharp[place]

    made = {
        ("fit", "gopro"): of_pairs(official, names(official), 2, random(0)),
        ("fit", "gopro_half"): of_pairs(half, halves[:18], 1, random(1)),
        ("fit", "frames"): of_frames(frames, 28, (7, 9, 11, 13, 15), random(2)),
        ("fit", "reds"): of_pairs(
            reds / "train_020", names(reds / "train_020"), 3, random(3)
        ),
        ("fit", "shake"): shaken(of_photos(fit[:32], random(4)), 1000, 0.25),
        ("fit", "not_blurred"): not_blurred(of_photos(fit[::3], random(5)), random(6)),
        ("weigh", "varied"): shaken(
            of_photos(fit, random(30), 8), 4000, 0.1, VARIED, every=2
        ),
        ("choose", "gopro_half"): of_pairs(half, halves[18:], 1, random(10)),
        ("choose", "frames"): of_frames(others, 20, (7, 9, 11, 13), random(11), True),
        ("choose", "reds"): of_pairs(
            reds / "train_000", names(reds / "train_000"), 4, random(12)
        ),
        ("choose", "shake"): shaken(of_photos(choose, random(13)), 2000),
        ("choose", "not_blurred"): not_blurred(
            of_photos(choose[::2], random(14)), random(15)
        ),
        ("choose_weights", "varied"): shaken(
            of_photos(choose, random(31), 6), 5000, blur=VARIED, every=2
        ),
        ("report", "reds_quarter"): (
            pair
            for scene in ("train_001", "val_000", "val_001")
            for pair in quarter(scene)
        ),
        ("report", "shake"): shaken(of_photos(report, random(20)), 3000),
        ("report", "not_blurred"): not_blurred(
            of_photos(report[::3], random(21)), random(22)
        ),
        ("report", "gopro_remade"): remade(),
    }
    return {key: list(pairs) for key, pairs in made.items()}


def save(crops, path):
    """Writes crops to an .npz file."""
    arrays = {}
    for (part, kind), pairs in crops.items():
        for name, images in zip(("blurry", "sharp"), zip(*pairs)):
            arrays[f"{part}/{kind}/{name}"] = np.stack(images)
    np.savez_compressed(path, **arrays)


def load(path):
    """Kinds of a file of `save`: (set, kind) to (blurry, sharp), uint8 (N, H, W, 3)."""
    arrays = np.load(path)
    keys = {tuple(name.split("/")[:2]) for name in arrays.files}
    return {
        key: tuple(arrays["/".join((*key, name))] for name in ("blurry", "sharp"))
        for key in sorted(keys)
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    save(all_crops(options.data), options.output)
    for (part, kind), (blurry, sharp) in load(options.output).items():
        mse = np.square((blurry / 255.0) - (sharp / 255.0)).mean(axis=(1, 2, 3))
        psnr = -10 * np.log10(mse + 1e-8)
        print(f"{part:7} {kind:13} {len(blurry):3}  {psnr.mean():.2f} dB")
