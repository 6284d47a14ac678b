"""What benchmarks of a preset on the named sets of images share."""

import argparse
import pathlib
import pickle

from keras_mhdeblur import from_preset
from keras_mhdeblur.evaluation import ImageSet


def loaded(name):
    """The model of NAME or NAME@STAGES."""
    name, _, stages = name.partition("@")
    return from_preset(name, **({"stages": int(stages)} if stages else {}))


def parser_of(description):
    """A parser of PRESET[@STAGES], --data, --keep and --sets."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("preset", metavar="PRESET[@STAGES]")
    parser.add_argument("--data", required=True)
    parser.add_argument("--keep", required=True, type=pathlib.Path)
    parser.add_argument("--sets", default="zoo/sets", type=pathlib.Path)
    return parser


def sets_of(options):
    """The sets of images by their names: train, choose, report."""
    options.keep.mkdir(parents=True, exist_ok=True)
    return {
        name: ImageSet(options.sets / f"{name}.yaml", options.data)
        for name in ("train", "choose", "report")
    }


def kept(path, make):
    """The value of a function, of the file where it was kept the first time."""
    if not path.is_file():
        path.write_bytes(pickle.dumps(make()))
    return pickle.loads(path.read_bytes())
