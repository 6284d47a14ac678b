"""The arguments NAME=BLUR_FOLDER:SHARP_FOLDER of several benchmarks."""

import argparse


def named_pair(text):
    """(name, [blurry folder, sharp folder]) of "NAME=BLUR_FOLDER:SHARP_FOLDER"."""
    name, _, folders = text.partition("=")
    folders = folders.split(":")
    if not name or len(folders) != 2:
        raise argparse.ArgumentTypeError(f"must be NAME=BLUR:SHARP, not {text!r}")
    return name, folders
