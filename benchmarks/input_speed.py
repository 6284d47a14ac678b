"""Patches per second of every source of training data, against what a step consumes.

python benchmarks/input_speed.py [--data FOLDER] [--pairs 8] [--seconds 5] [--steps 5]

FOLDER holds the folders blur and sharp; by default 1280x720 PNG pairs are made of the
example photos. Patches, batches, blur and network are those of the preset nafnet_mh_c.
The second part trains for some steps from each source and times the waiting for data.
The last line is the time of a step that blurs its patches itself (`on_device`).
"""

import argparse
import dataclasses
import pathlib
import tempfile
import time

import numpy as np
from PIL import Image, ImageFilter

from keras_mhdeblur import data
from keras_mhdeblur.training import recipes

ROOT = pathlib.Path(__file__).resolve().parents[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", metavar="FOLDER")
    parser.add_argument("--pairs", type=int, default=8, help="number of pairs made")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each source")
    parser.add_argument("--steps", type=int, default=5, help="of each source")
    options = parser.parse_args()
    recipe = recipes.load_recipe(ROOT / "zoo" / "nafnet_mh_c" / "recipe.yaml")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        source = pathlib.Path(options.data) if options.data else folder
        if not options.data:
            make_pairs(folder, options.pairs)
        sources = make_sources(source, folder, recipe)
        step = measure(sources, recipe, options)
        blurring = blurring_step(source / "sharp", recipe)
    ratio = blurring / step
    print(f"A step that blurs its patches, too, takes {ratio:.2f} times as long.")


def make_pairs(folder, count):
    photos = sorted((ROOT / "examples" / "photos").glob("gopro_*.jpg"))
    for k in range(count):
        photo = np.asarray(Image.open(photos[k % len(photos)]))
        sharp = Image.fromarray(np.roll(photo, 101 * k, axis=1))
        blurry = sharp.filter(ImageFilter.BoxBlur(3))
        for name, image in (("blur", blurry), ("sharp", sharp)):
            (folder / name).mkdir(exist_ok=True)
            image.save(folder / name / f"{k:03}.png")


def make_sources(source, folder, recipe):
    """Name -> endless dataset of batches."""
    pairs = data.list_pairs(source / "blur", source / "sharp")
    megabytes = np.mean([path.stat().st_size for pair in pairs for path in pair]) / 1e6
    size = "{}x{}".format(*Image.open(pairs[0][0]).size)
    print(f"{len(pairs)} pairs of {size} pixels, {megabytes:.2f} MB a file")
    of_recipe = recipes.recipe_patches(recipe, stream_from=0)
    one, four = (
        dataclasses.replace(of_recipe, crops_per_image=count) for count in (1, 4)
    )
    sources = {
        "files, 1 patch a pair": data.paired_files(pairs, one),
        "files, 4 patches a pair": data.paired_files(pairs, four),
    }
    for name, tile in (("prepared images", None), ("prepared tiles", 512)):
        begin = time.perf_counter()
        prepared = data.prepare(pairs, folder / f"prepared_{tile}", tile)
        seconds = time.perf_counter() - begin
        bytes_ = sum(path.stat().st_size for path in prepared.iterdir())
        print(f"{name}: {bytes_ / 1e6:.0f} MB, made in {seconds:.1f} s")
        sources[name] = data.prepared_folder(prepared, one)
    sources["synthesis"] = data.synthesized_folder(
        source / "sharp", of_recipe, recipes.recipe_blur(recipe)
    )
    return sources


def measure(sources, recipe, options):
    """Prints the table; returns the seconds of a step."""
    batch_size = recipe["data"]["batch_size"]
    rates = {name: rate(x, options.seconds) for name, x in sources.items()}
    model = recipes.build_model(recipe)
    batch = next(iter(sources["prepared images"]))
    step = step_seconds(model, batch)
    consumed = batch_size / step
    side = recipe["data"]["patch_size"]
    print(
        f"A training step of nafnet_mh_c takes {step:.2f} s: it consumes "
        f"{consumed:.1f} patches of {side}x{side} a second."
    )
    print(f"{'source':24} patches/s  of files  of consumed  waiting in training")
    slowest = rates["files, 1 patch a pair"]
    for name, dataset in sources.items():
        waiting = waiting_share(model, dataset, options.steps)
        print(
            f"{name:24}{rates[name] * batch_size:10.0f}{rates[name] / slowest:9.1f}x"
            f"{rates[name] * step:12.1f}x{100 * waiting:19.1f} %"
        )
    return step


def blurring_step(photos, recipe):
    """Seconds of a training step with the blur in it."""
    recipe = {**recipe, "data": {**recipe["data"], "on_device": True}}
    model = recipes.build_model(recipe)
    batch = next(iter(recipes.build_dataset(recipe, {"photo_dir": str(photos)})))
    return step_seconds(model, batch)


def step_seconds(model, batch):
    model.train_on_batch(*batch)  # builds the graph
    return np.median([seconds_of(model.train_on_batch, *batch) for _ in range(5)])


def rate(dataset, seconds):
    """Batches per second of a source alone."""
    batches = iter(dataset)
    next(batches)
    count, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        next(batches)
        count += 1
    return count / (time.perf_counter() - begin)


def waiting_share(model, dataset, steps):
    """Share of the time of training steps that is spent waiting for the batch."""
    batches = iter(dataset)
    model.train_on_batch(*next(batches))
    waiting = working = 0.0
    for _ in range(steps):
        begin = time.perf_counter()
        batch = next(batches)
        waiting += time.perf_counter() - begin
        working += seconds_of(model.train_on_batch, *batch)
    return waiting / (waiting + working)


def seconds_of(function, *arguments):
    begin = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
