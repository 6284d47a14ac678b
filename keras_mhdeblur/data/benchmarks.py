"""The deblurring benchmarks in the layouts in which they are distributed."""

import dataclasses
import pathlib
import re
import warnings
from collections.abc import Callable

import tensorflow as tf

from keras_mhdeblur.data.folders import list_images, match_folders, paired_files
from keras_mhdeblur.data.patches import Patches
from keras_mhdeblur.utils.types import PathLike

# Sequences of GoPro: number of the recording, of averaged frames, and of the part.
_GOPRO_SEQUENCES = {
    "train": (
        "0372_07_00 0372_07_01 0374_11_00 0374_11_01 0374_11_02 0374_11_03 "
        "0378_13_00 0379_11_00 0380_11_00 0384_11_01 0384_11_02 0384_11_03 "
        "0384_11_04 0385_11_00 0386_11_00 0477_11_00 0857_11_00 0868_11_01 "
        "0868_11_02 0871_11_01 0881_11_00 0884_11_00"
    ),
    "test": (
        "0384_11_00 0384_11_05 0385_11_01 0396_11_00 0410_11_00 0854_11_00 "
        "0862_11_00 0868_11_00 0869_11_00 0871_11_00 0881_11_01"
    ),
}
# Copies of a benchmark in two folders, as the codes of MPRNet and Restormer read them.
_FLAT_FOLDERS = (("input", "target"), ("blur", "sharp"))

_HINT = " (`allow_partial=True` takes them)"


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """Pairs of files of a benchmark. Iterating gives (blurry path, sharp path).

    Attributes:
        name: name of the benchmark, for example "gopro".
        split: for example "test".
        pairs: tuple of (blurry path, sharp path), sorted.
        groups: tuple of one label per pair: the sequence (GoPro, REDS), the scene
            (RealBlur), "close-ups" or "long-shot" (HIDE's test split); "" if the files
            do not say.
        expected: number of pairs of the complete split.
    """

    name: str
    split: str
    pairs: tuple
    groups: tuple
    expected: int

    def __len__(self):
        return len(self.pairs)

    def __iter__(self):
        return iter(self.pairs)

    def dataset(
        self, patches: Patches | None = None, *, skip_broken: bool = False
    ) -> tf.data.Dataset:
        """Dataset of (blurry, sharp), as `paired_files` makes it of the pairs."""
        return paired_files(self.pairs, patches, skip_broken=skip_broken)


def benchmark(
    name: str,
    root: PathLike,
    split: str = "train",
    *,
    blur: str = "blur",
    allow_partial: bool = False,
) -> Benchmark:
    """Finds the pairs of a benchmark on disk and checks that it is complete.

    Names, splits with their numbers of pairs, and the folders below `root`:

    - "gopro" (GOPRO_Large, Nah et al. 2017): train 2103, test 1111;
      SPLIT/SEQUENCE/{blur, blur_gamma, sharp}.
    - "hide" (Shen et al. 2019): train 6397, test 2025;
      train, test/{test-close-ups, test-long-shot}, GT.
    - "realblur_j" and "realblur_r" (Rim et al. 2020): train 3758, test 980;
      the files of the official RealBlur_J_SPLIT_list.txt.
    - "reds" (Nah et al. 2019): train 24000, val 3000, val_300 300;
      {train, val}_{blur, sharp}/SEQUENCE, also below {train, val}. "val_300" are the
      frames of val whose numbers end in 9, on which HINet and NAFNet are scored (with
      `blur="blur_jpeg"`).

    All but REDS are also read from flattened copies, SPLIT/{input, target} or
    SPLIT/{blur, sharp}; if there is no folder SPLIT, `root` is taken for it.

    Args:
        name: see above.
        root: folder.
        split: see above.
        blur: which blurry images. GoPro: "blur" (mean of the frames as stored, on which
            the published models are trained and scored; input folders of flattened
            copies are taken for these) or "blur_gamma" (mean in gamma 2.2 light).
            REDS: "blur", "blur_comp" (video compression) or "blur_jpeg".
        allow_partial: warn instead of raising if the number of pairs is wrong.

    Returns:
        `Benchmark`.

    Raises:
        ValueError: an argument is none of its choices, there is nothing in a known
            layout, or pairs are missing or too many; the message gives the numbers and
            names what is missing.
    """
    check_choice("name", name, _LAYOUTS)
    layout = _LAYOUTS[name]
    check_choice("split", split, layout.counts)
    check_choice("blur", blur, layout.blurs)
    root = _existing_folder(root)
    found, missing = layout.find(root, split, blur)
    expected = layout.counts[split]
    if not found and not missing:
        raise ValueError(
            f"There is no {layout.title} in a known layout: {layout.folders}, or "
            "SPLIT/input and SPLIT/target, or SPLIT/blur and SPLIT/sharp, with "
            f"SPLIT={split}. Received: root={str(root)!r}"
        )
    if len(found) != expected or missing:
        lines = [f"  {line}\n" for line in missing[:10]]
        more = [f"  and {len(missing) - 10} more\n"] if len(missing) > 10 else []
        report = (
            f"{layout.title} {split} has {expected} pairs, {len(found)} were found"
            f"{_HINT * (not allow_partial)}.\n{''.join(lines + more)}"
            f"Received: root={str(root)!r}"
        )
        if not (allow_partial and found):
            raise ValueError(report)
        warnings.warn(report, stacklevel=2)
    found.sort(key=lambda pair: pair[2:] + pair[:2])
    return Benchmark(
        name=name,
        split=split,
        pairs=tuple((blurry, sharp) for blurry, sharp, _ in found),
        groups=tuple(group for _, _, group in found),
        expected=expected,
    )


def _find_gopro(root, split, blur):
    found, missing = _find_flat(root, split, blur)
    if found or missing:
        return found, missing
    folder = root / split
    if not folder.is_dir():
        return [], []
    for name in _gopro_sequences(split):
        if not (folder / name).is_dir():
            missing.append(f"{folder / name}: no such folder")
    for sequence in sorted(path for path in folder.iterdir() if path.is_dir()):
        if not sequence.name.startswith("."):
            _add_matches(found, missing, sequence / blur, sequence / "sharp")
    return (found, missing) if found else ([], [])


def _find_hide(root, split, blur):
    found, missing = _find_flat(root, split, blur)
    folder, labels = root / split, root / "GT"
    if found or missing or not (folder.is_dir() and labels.is_dir()):
        return found, missing
    if split == "test":
        for name in ("test-close-ups", "test-long-shot"):
            if not (folder / name).is_dir():
                missing.append(f"{folder / name}: no such folder")
    for blurry in list_images(folder):
        sharp = labels / blurry.name  # one folder for the labels of both splits
        if sharp.is_file():
            found.append((blurry, sharp, _group(blurry)))
        else:
            missing.append(f"{blurry}: no partner in {labels}")
    return found, missing


def _find_realblur_j(root, split, blur):
    return _find_realblur(root, split, blur, "J")


def _find_realblur_r(root, split, blur):
    return _find_realblur(root, split, blur, "R")


def _find_realblur(root, split, blur, letter):
    list_file = root / f"RealBlur_{letter}_{split}_list.txt"
    if not list_file.is_file():
        return _find_flat(root, split, blur)
    found, missing = [], []
    for line in list_file.read_text().splitlines():
        if not line.strip():
            continue
        sharp, blurry = (root / path for path in line.split()[:2])
        absent = [path for path in (blurry, sharp) if not path.is_file()]
        if absent:
            missing.append(f"{absent[0]}: no such file")
        else:
            found.append((blurry, sharp, _group(blurry)))
    return found, missing


def _find_reds(root, split, blur):
    part = split.removesuffix("_300")
    for folder in (root, root / part):
        blurry, sharp = folder / f"{part}_{blur}", folder / f"{part}_sharp"
        if blurry.is_dir() or sharp.is_dir():
            break
    else:
        return [], []
    found, missing = [], []
    _add_matches(found, missing, blurry, sharp)
    present = {group for _, _, group in found}
    for number in range(240 if part == "train" else 30):
        if f"{number:03}" not in present:
            missing.append(f"{blurry}: no sequence {number:03}")
    if split == "val_300":
        found = [pair for pair in found if pair[0].stem.endswith("9")]
    return found, missing


def _find_flat(root, split, blur):
    """Pairs of a flattened copy, of two folders with files of equal names."""
    found, missing = [], []
    folder = root / split
    folder = folder if folder.is_dir() else root
    # What lies in the folders `input` of GoPro are the images of its folders `blur`.
    for names in _FLAT_FOLDERS if blur == "blur" else [(blur, "sharp")]:
        blurry, sharp = (folder / name for name in names)
        if blurry.is_dir() and sharp.is_dir():
            _add_matches(found, missing, blurry, sharp)
            break
    return found, missing


def _add_matches(found, missing, blur_dir, sharp_dir):
    try:
        matches = match_folders(blur_dir, sharp_dir, _plain_name)
    except ValueError as error:  # a folder is missing or empty
        missing.append(str(error))
        return
    for files, problem in matches.items():
        if problem:
            missing.append(problem)
        else:
            found.append((*files, _group(files[0])))


def _plain_name(path):
    """Name that both files of a pair have; RealBlur's start with blur_ and gt_."""
    stem = re.sub(r"(^|_)(blur|gt)_", r"\1", path.stem)
    return path.with_name(stem)


def _group(path):
    """Label of the group a file belongs to, by the names of benchmarks."""
    text = "/".join(path.parts[-3:])
    for pattern in (
        r"GOPR\d{4}_\d\d_\d\d",
        r"(?<=test-)(close-ups|long-shot)",
        r"scene\d+",
        r"(?<=/)\d{3}(?=[/_]\d{8}\.)",  # REDS: sequence and frame
    ):
        match = re.search(pattern, text)
        if match:
            return match[0]
    return ""


def _gopro_sequences(split):
    return [f"GOPR{name}" for name in _GOPRO_SEQUENCES[split].split()]


def _existing_folder(root):
    root = pathlib.Path(root)
    if not root.is_dir():
        raise ValueError(f"There is no such folder. Received: root={str(root)!r}")
    return root


def check_choice(argument, value, choices):
    """Raises a ValueError where an argument is none of its choices."""
    if value not in choices:
        raise ValueError(
            f"`{argument}` must be one of {', '.join(choices)}. "
            f"Received: {argument}={value!r}"
        )


@dataclasses.dataclass(frozen=True)
class _Layout:
    title: str
    counts: dict  # split -> number of pairs
    # (root, split, blur) -> [(blurry, sharp, group)], [what is missing]
    find: Callable[..., tuple[list, list]]
    folders: str
    blurs: tuple = ("blur",)


_REALBLUR = {"train": 3758, "test": 980}
_LAYOUTS = {
    "gopro": _Layout(
        "GoPro",
        {"train": 2103, "test": 1111},
        _find_gopro,
        "SPLIT/SEQUENCE/blur and SPLIT/SEQUENCE/sharp",
        ("blur", "blur_gamma"),
    ),
    "hide": _Layout("HIDE", {"train": 6397, "test": 2025}, _find_hide, "SPLIT and GT"),
    "realblur_j": _Layout(
        "RealBlur-J", _REALBLUR, _find_realblur_j, "RealBlur_J_SPLIT_list.txt"
    ),
    "realblur_r": _Layout(
        "RealBlur-R", _REALBLUR, _find_realblur_r, "RealBlur_R_SPLIT_list.txt"
    ),
    "reds": _Layout(
        "REDS",
        {"train": 24000, "val": 3000, "val_300": 300},
        _find_reds,
        "SPLIT_blur and SPLIT_sharp",
        ("blur", "blur_comp", "blur_jpeg"),
    ),
}

BENCHMARKS = tuple(_LAYOUTS)
