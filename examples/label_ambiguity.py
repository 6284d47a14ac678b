"""Several heads trained on labels that are ambiguous on purpose.

python examples/label_ambiguity.py SHARP_PHOTOS HELD_OUT_PHOTOS FIGURE.png

The premise of multi-head deblurring (arXiv 2208.13029) is that the sharp label of a
blurry photo is one of many: the frame at any moment of the exposure. Here that moment
is drawn at random, from always the middle (jitter 0) to anywhere (jitter 0.5), and for
each jitter `nafnet_mh_c`, with its four combined heads, is trained on and asked

- how much better its best hypothesis is than the mean of them,
- how sharp they are, in gradient energy relative to the label's,
- which moment of the exposure each head shows, and how far apart the heads lie.

Needs matplotlib. About half an hour on a CPU core.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from matplotlib.figure import Figure

import keras_mhdeblur as mhd
from keras_mhdeblur.hypotheses.pairs import Pairs

JITTERS = (0.0, 0.1, 0.25, 0.5)
PATCH_SIZE, BATCH_SIZE, MARGIN, NUM_FRAMES = 64, 16, 20, 17
# Of the frames, in parts of the exposure: -0.5 to 0.5, the middle is 0.
MOMENTS = (np.arange(NUM_FRAMES) + 0.5) / NUM_FRAMES - 0.5


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", metavar="SHARP_PHOTOS")
    parser.add_argument("held_out", metavar="HELD_OUT_PHOTOS")
    parser.add_argument("figure", metavar="FIGURE.png")
    parser.add_argument("--steps", type=int, default=400)
    options = parser.parse_args()
    training = exposures(options.photos, 4096)
    test = exposures(options.held_out, 256)
    results = []
    for jitter in JITTERS:
        model = trained(*training, jitter, options.steps)
        results.append(measured(model, *test, jitter))
        print(describe(jitter, results[-1]), flush=True)
    draw(results).savefig(options.figure)


def exposures(folder, count):
    """Blurry patches and the frames they are averages of.

    Returns:
        uint8 (count, H, W, 3) and (count, NUM_FRAMES, H, W, 3).
    """
    size = PATCH_SIZE + 2 * MARGIN
    generator = np.random.default_rng(0)
    images = [mhd.data.read_image(path).pixels for path in mhd.data.list_images(folder)]
    blurry = np.empty((count, PATCH_SIZE, PATCH_SIZE, 3), "uint8")
    frames = np.empty((count, NUM_FRAMES, *blurry.shape[1:]), "uint8")
    for first in range(0, count, BATCH_SIZE):
        crops = []
        for index in range(first, first + BATCH_SIZE):
            image = images[index % len(images)]
            top, left = (generator.integers(n - size + 1) for n in image.shape[:2])
            crops.append(image[top : top + size, left : left + size])
        made = mhd.data.synthesize_motion_blur(
            np.stack(crops),
            np.int32(generator.integers(2**31 - 1, size=BATCH_SIZE)),
            mhd.data.MotionBlur(
                16.0, max_rotation=0.3, num_frames=NUM_FRAMES, max_noise=0.004
            ),
            margin=MARGIN,
            return_frames=True,
        )
        for target, values in zip((blurry, frames), (made[0], made[2])):
            target[first : first + BATCH_SIZE] = np.rint(255 * np.asarray(values))
    return blurry, frames


def labels(frames, jitter, generator):
    """A frame of each exposure, drawn up to `jitter` from the middle."""
    allowed = np.flatnonzero(np.abs(MOMENTS) <= jitter + 1e-6)
    chosen = generator.choice(allowed, size=len(frames))
    return frames[np.arange(len(frames)), chosen]


def trained(blurry, frames, jitter, steps):
    """The preset, trained on with the labels of a jitter; all else is equal."""
    keras.utils.set_random_seed(1)
    model = mhd.from_preset("nafnet_mh_c")
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, steps - 100, warmup_target=3e-4, warmup_steps=100
    )
    model.compile(
        keras.optimizers.AdamW(rate, weight_decay=1e-3, global_clipnorm=0.01),
        mhd.losses.HypothesisLoss(mhd.losses.L1Loss(), relaxation=0.05),
    )

    def batches():
        generator = np.random.default_rng(2)
        while True:
            chosen = generator.integers(len(blurry), size=BATCH_SIZE)
            sharp = labels(frames[chosen], jitter, generator)
            yield np.float32(blurry[chosen]) / 255, np.float32(sharp) / 255

    model.fit(batches(), epochs=1, steps_per_epoch=steps, verbose=0, shuffle=False)
    return model


def measured(model, blurry, frames, jitter):
    """Answers to the questions above, over the test patches, as a dictionary."""
    label = labels(frames, jitter, np.random.default_rng(3))
    blurry, frames, label = (np.float32(x) / 255 for x in (blurry, frames, label))
    heads = np.concatenate(
        [
            keras.ops.convert_to_numpy(
                model.network(blurry[first : first + BATCH_SIZE])
            )
            for first in range(0, len(blurry), BATCH_SIZE)
        ]
    )
    hypotheses = np.stack([Pairs(len(stack)).combined(stack) for stack in heads])
    mean = heads.mean(axis=1)

    def psnr(images, label):
        return -10 * np.log10(np.square(images - label).mean(axis=(-3, -2, -1)))

    # One head at a time: the differences to all frames are large.
    errors = np.stack(
        [
            np.square(head[:, None] - frames).mean(axis=(-3, -2, -1))
            for head in np.moveaxis(heads, 1, 0)
        ],
        axis=1,
    )
    return {
        "input": psnr(blurry, label).mean(),
        "mean": psnr(mean, label).mean(),
        "best": psnr(hypotheses, label[:, None]).max(axis=1).mean(),
        "sharpness of the mean": (energy(mean) / energy(label)).mean(),
        "sharpness of the heads": (energy(heads).mean(axis=1) / energy(label)).mean(),
        # (samples, K), the moment whose frame is nearest.
        "times": MOMENTS[errors.argmin(axis=-1)],
        # (samples, K, 2), pixels down and right of the mean of the heads.
        "shifts": np.stack(
            [
                [shift(head, middle) for head in stack]
                for stack, middle in zip(heads, mean)
            ]
        ),
    }


def energy(images):
    """Mean squared gradient of (..., H, W, C)."""
    down, right = np.gradient(images, axis=(-3, -2))
    return (down**2 + right**2).mean(axis=(-3, -2, -1))


def shift(image, reference):
    """Pixels (down, right) by which an image (H, W, C) lies off: Lucas-Kanade."""
    gradient = np.stack(np.gradient(reference, axis=(0, 1)))
    matrix = np.einsum("ihwc,jhwc->ij", gradient, gradient)
    vector = np.einsum("ihwc,hwc->i", gradient, reference - image)
    return np.linalg.solve(matrix + 1e-6 * np.eye(2), vector)


def describe(jitter, result):
    span = np.ptp(result["times"], axis=1).mean()
    heads = " ".join(f"{time:+.2f}" for time in result["times"].mean(axis=0))
    apart = np.linalg.norm(result["shifts"], axis=-1).mean()
    return (
        f"jitter {jitter}: input {result['input']:.2f}, mean {result['mean']:.2f}, "
        f"best {result['best']:.2f} dB; sharpness of the mean "
        f"{result['sharpness of the mean']:.2f}, of the heads "
        f"{result['sharpness of the heads']:.2f}; moments of the heads {heads}, "
        f"{span:.2f} apart in a photo; heads {apart:.2f} pixels from their mean"
    )


def draw(results):
    figure = Figure((11, 3.4), dpi=150, layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    for key, style in (("best", "s-"), ("mean", "o--"), ("input", "k:")):
        left.plot(JITTERS, [result[key] for result in results], style, label=key)
    left.set_ylabel("PSNR (dB)")
    for key, style in (("heads", "s-"), ("mean", "o--")):
        values = [result[f"sharpness of the {key}"] for result in results]
        middle.plot(JITTERS, values, style, label=key)
    middle.set_ylabel("gradient energy, label = 1")
    for each in (left, middle):
        each.set_xlabel("jitter of the label's moment")
        each.legend(frameon=False)
        each.spines[["top", "right"]].set_visible(False)
    shifts = results[-1]["shifts"]
    for head in range(shifts.shape[1]):
        right.plot(*shifts[:, head, ::-1].T, ".", alpha=0.6, label=f"head {head}")
    limit = np.percentile(np.abs(shifts), 99)
    right.set(xlim=(-limit, limit), ylim=(limit, -limit), aspect="equal")
    right.set_xlabel("pixels to the right of the mean")
    right.set_ylabel("pixels below it")
    right.set_title(f"where the heads lie, jitter {JITTERS[-1]}", fontsize=10)
    right.legend(frameon=False, fontsize=8)
    return figure


if __name__ == "__main__":
    main()
