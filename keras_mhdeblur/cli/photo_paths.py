"""The photos that a command works on, and the names of the files it writes."""

import glob
import os
from pathlib import Path

from keras_mhdeblur.cli.common import printable

# What a folder is searched for; a file named by itself may have any suffix.
PHOTO_SUFFIXES = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".webp", ".bmp"),
    *(".jp2", ".avif", ".gif", ".mpo", ".ppm", ".pgm", ".pnm", ".tga", ".heic"),
}


def find_photos(inputs, recursive, output=None):
    """The photos that files, folders and patterns given by the user stand for.

    Hidden files and folders are left out, as are links that lead out of a folder: a
    folder from elsewhere could name any file of this machine.

    Args:
        inputs: paths of files and folders, or patterns such as `photos/*.jpg` where
            the shell has not expanded them.
        recursive: whether to search the folders' subfolders.
        output: folder that is not searched.

    Returns:
        List of (path, name), each file once, the name relative to the folder it was
        found in, or to the last folder without a wildcard; and a list of messages
        about inputs that are no photos, fit for a terminal.
    """
    photos, failures = {}, []
    for item in inputs:
        for path, name in _expanded(item):
            # `os.path` and not `Path`, whose tests raise where a folder is closed.
            if os.path.isdir(path):
                found, problems = _search(path, recursive, output)
                if not found and not problems:
                    problems = [f"{path}: there are no photos in this folder"]
                failures += problems
            elif os.path.lexists(path):
                found = [path]
            else:
                found = []
                failures.append(f"{path}: there is no such file or folder{_hint(path)}")
            for photo in found:
                key = os.path.realpath(photo)
                photos.setdefault(key, (photo, name / photo.relative_to(path)))
    return list(photos.values()), [printable(failure) for failure in failures]


def _expanded(item):
    """Pairs of a path and what the names of its photos begin with."""
    path = Path(item)
    if os.path.lexists(path) or not glob.has_magic(str(path)):
        return [(path, _name_of(path))]
    count = next(i for i, part in enumerate(path.parts) if glob.has_magic(part))
    root = Path(*path.parts[:count])
    try:
        # Unlike glob.glob, it follows no links below `**`, which may lead in circles.
        hits = sorted(root.glob(str(Path(*path.parts[count:]))))
    except ValueError:  # no valid pattern: `a**`
        hits = []
    names = [(hit, hit.relative_to(root)) for hit in hits]
    visible = [
        (hit, name)
        for hit, name in names
        if not any(part.startswith(".") for part in name.parts)
    ]
    return visible or [(path, _name_of(path))]


def _hint(path):
    """'. Did you mean ...?' for the file beside a missing one with the nearest name."""
    from keras_mhdeblur.utils.spelling import did_you_mean

    if glob.has_magic(path.name):
        return ""
    try:
        names = [name for name in os.listdir(path.parent) if not name.startswith(".")]
    except OSError:
        return ""
    hint = did_you_mean(path.name, names)
    return hint and f".{hint}"


def _name_of(path):
    return Path() if os.path.isdir(path) else Path(path.name)


def _search(root, recursive, output):
    """Sorted photos of a folder, and messages about what was left out."""
    real_root = Path(os.path.realpath(root))
    closed = {os.path.realpath(output)} if output is not None else set()
    photos, problems = [], []
    folders = [root]
    while folders:
        folder = folders.pop()
        closed.add(os.path.realpath(folder))
        try:
            entries = sorted(folder.iterdir())
        except OSError as error:
            problems.append(f"{folder}: {error.strerror}")
            continue
        for path in entries:
            is_folder = os.path.isdir(path)
            wanted = recursive if is_folder else path.suffix.lower() in PHOTO_SUFFIXES
            if path.name.startswith(".") or not wanted:
                continue
            real = os.path.realpath(path)
            if not Path(real).is_relative_to(real_root):
                what = "a link out of the folder; name its target to restore it"
                problems.append(f"{path}: it is {what}")
            elif not is_folder:
                photos.append(path)
            # A link within the folder leads to what is found anyway, or in circles.
            elif not path.is_symlink() and real not in closed:
                folders.append(path)
    return sorted(photos), problems


def plan_outputs(names, suffix=".png"):
    """Output names, no two the same: `a.jpg` and `a.png` become `a_jpg.png`, ...

    Args:
        names: relative paths of the photos.
        suffix: suffix of the outputs.

    Returns:
        List of relative paths that end in the suffix.
    """

    def key(path):
        # Many file systems do not tell upper from lower case.
        return str(path).lower()

    plain = [name.with_name(f"{name.stem}{suffix}") for name in names]
    counts = {}
    for name in plain:
        counts[key(name)] = counts.get(key(name), 0) + 1
    taken = set(counts)
    outputs = []
    for source, name in zip(names, plain):
        if counts[key(name)] > 1:
            stem = f"{source.stem}_{source.suffix[1:].lower()}".rstrip("_")
            name = source.with_name(f"{stem}{suffix}")
            number = 2
            while key(name) in taken:
                name = source.with_name(f"{stem}_{number}{suffix}")
                number += 1
            taken.add(key(name))
        outputs.append(name)
    return outputs
