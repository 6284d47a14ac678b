"""Makes `zoo/nafnet_maxim_mh_c`: two presets as one network, with choices of its own.

    python zoo/fitting/ensemble.py --data DATA --output nafnet_maxim_mh_c

The networks are those of `nafnet_mh_c` and of `maxim_mh_c` after one stage, unchanged:
eight heads. The weights of their mean are fitted to patches of `zoo/sets/train.yaml`,
the statements to `choose.yaml` and `train.yaml`. There is no gate: one that lets one in
a thousand photos become worse left most real photos as they were. CAUTION was chosen by
the gain on 500 images of `choose.yaml`. It takes about four hours on 2 CPU cores.
"""

import argparse
import itertools
from pathlib import Path

import keras_mhdeblur as mhd
from keras_mhdeblur.evaluation import ImageSet, calibrate
from keras_mhdeblur.networks import Ensemble
from keras_mhdeblur.training import fit_adaptive_weights

MEMBERS = "nafnet_mh_c", "maxim_mh_c"
CAUTION, SHRINKAGE, PATCH_SIZE = 0.0, 0.0, 128


def network():
    """The heads of NAFNet, and those of MAXIM after one stage."""
    nafnet, maxim = (mhd.from_preset(name).network for name in MEMBERS)
    return Ensemble([nafnet, maxim.with_stages(1)])


def batches(images):
    """Batches of one (blurry, sharp), float32, one of each kind in turn."""
    for pairs in itertools.zip_longest(*map(images.pairs, images.kinds)):
        for pair in filter(None, pairs):
            yield tuple(
                image[None].astype("float32") / 255
                for image in (pair.blurry, pair.sharp)
            )


def adaptive_weights(model, images):
    """The weights of the mean of a model's heads."""
    return fit_adaptive_weights(
        model,
        batches(images),
        patches=100_000,
        caution=CAUTION,
        shrinkage=SHRINKAGE,
        patch_size=PATCH_SIZE,
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument("--sets", default="zoo/sets", type=Path)
    options = parser.parse_args()
    train, choose = (
        ImageSet(options.sets / f"{name}.yaml", options.data)
        for name in ("train", "choose")
    )
    model = mhd.Deblurrer(network(), tlc_train_size=128)
    model.adaptive_weights = adaptive_weights(model, train)
    model.select = "adaptive"
    model.calibration = calibrate(
        model, choose, training_pairs=train, gate=False, progress=True
    )
    mhd.save_to_preset(model, options.output, members=MEMBERS, license="Apache-2.0")


if __name__ == "__main__":
    main()
