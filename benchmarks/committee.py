"""Decibels that several presets gain as one: the heads of all, weighted place by place.

python benchmarks/committee.py crops.npz [--presets maxim_mh_c@1 nafnet_mh_c]
    [--caution 2]

crops.npz is of `zoo/fitting/crops.py`. The adaptive weights of every committee are
fitted to its crops "fit" and "weigh". Of all other sets: mean and least gain over the
blurry crop in dB, and the number of crops that lose more than 0.1 dB, of every preset
alone, of the first preset's heads with the mean of each other preset's as one more
head, and with all of their heads. A preset is given as NAME or NAME@STAGES.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from keras_mhdeblur import training
from keras_mhdeblur.hypotheses.selection import Adaptive
from keras_mhdeblur.inference.engine_choice import choose_engine
from keras_mhdeblur.presets.litert import litert_from_preset

sys.path.insert(0, str(Path(__file__).parents[1] / "zoo" / "fitting"))
from crops import load


class Committee:
    """Head images that are there already, as a model for `fit_adaptive_weights`.

    Args:
        stacks: dictionary from the bytes of an image to head images (K, H, W, C).
    """

    def __init__(self, stacks):
        self.stacks = stacks
        self.num_heads = len(next(iter(stacks.values())))

    def heads(self, image):
        return self.stacks[image.tobytes()]


def engine_of(name):
    name, _, stages = name.partition("@")
    stages = int(stages) if stages else None
    model = litert_from_preset(name, stages=stages)
    if model is None:
        from keras_mhdeblur import from_preset

        overrides = {"stages": stages} if stages else {}
        model = choose_engine(from_preset(name, **overrides), "litert")
    return model


def psnr(image, label):
    return -10 * np.log10(np.square(np.clip(image, 0, 1) - label).mean() + 1e-8)


def print_gains(name, pairs, committee, weights):
    """A line of mean gain, least gain and losers for every kind of crops."""
    adaptive = Adaptive(weights)
    for kind, crops in pairs.items():
        gains = np.array(
            [
                psnr(adaptive.image(committee.heads(x), x), y) - psnr(x, y)
                for x, y in crops
            ]
        )
        print(
            f"{name:36} {kind:24} {gains.mean():+6.2f} {gains.min():+7.2f} "
            f"{np.sum(gains < -0.1):3} of {len(gains)}",
            flush=True,
        )


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("crops")
parser.add_argument("--presets", nargs="+", default=["maxim_mh_c@1", "nafnet_mh_c"])
parser.add_argument("--caution", type=float, default=2.0)
options = parser.parse_args()
pairs = {
    f"{part} {kind}": [
        tuple(image.astype("float32") / 255 for image in pair) for pair in zip(*crops)
    ]
    for (part, kind), crops in load(options.crops).items()
}
fitted = [
    pair for kind in pairs if kind.startswith(("fit", "weigh")) for pair in pairs[kind]
]
others = {k: v for k, v in pairs.items() if not k.startswith(("fit", "weigh"))}
images = [image for crops in pairs.values() for image, _ in crops]
members = {}
for name in options.presets:
    engine = engine_of(name)
    members[name] = Committee({x.tobytes(): engine.heads(x) for x in images})
    print_gains(name, others, members[name], engine.adaptive_weights)
first, *rest = members.values()
for name, part in (
    (" + mean of ".join(options.presets), lambda heads: heads.mean(axis=0)[None]),
    (" + ".join(options.presets), lambda heads: heads),
):
    together = Committee(
        {
            x.tobytes(): np.concatenate(
                [first.heads(x), *(part(member.heads(x)) for member in rest)]
            )
            for x in images
        }
    )
    weights = training.fit_adaptive_weights(
        together,
        [(x[None], y[None]) for x, y in fitted],
        caution=options.caution,
        shrinkage=0,
        patch_size=128,
    )
    print_gains(name, others, together, weights)
