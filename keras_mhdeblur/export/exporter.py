"""Shared by the exports to a file: checks, whole files, and parity."""

import importlib
import os
from pathlib import Path

from keras_mhdeblur.export.graphs import check_size, image_selection, output_graph
from keras_mhdeblur.export.parity import compare, comparison_images
from keras_mhdeblur.export.tracing import check_traceable
from keras_mhdeblur.hypotheses.selection import to_python
from keras_mhdeblur.utils.atomic import atomic_files


class ExportError(ValueError):
    """A model cannot be converted to a format; the message says why."""


def export_file(
    model,
    path,
    output,
    *,
    tlc_train_size,
    size,
    photo,
    format,
    suffix,
    packages,
    install,
    convert,
    load,
    fix_batch=True,
    **facts,
):
    """Exports a model to a file, runs the file and writes a report beside it.

    Args:
        model: `Deblurrer`.
        path: path of the file.
        output, tlc_train_size, size: as in `output_graph`.
        photo: as in `parity.comparison_images`.
        format: name of the format.
        suffix: what the path must end in.
        packages: modules that must be there.
        install: what pip installs to have them.
        convert: function (graph, path) that writes the file and may write others.
        load: function from the path to one that runs it, as in `parity.compare`.
        fix_batch: whether a fixed size fixes the number of images too, to one.
        facts: further arguments of `Report`.

    Returns:
        `Report`, which stands in `path + ".json"` too.

    Raises:
        ExportError: the model cannot be converted, or the file does not run.
        ImportError: a package is missing.
        OSError: the file cannot be written.
        ValueError: an argument is out of its range.
    """
    check_traceable(model)
    check_path(path, suffix)
    output = to_python(output)
    image_selection(model, output)
    check_size(size)
    require(packages, install)
    images = comparison_images(photo, size)
    path = Path(os.path.abspath(path))
    with atomic_files(path.parent) as scratch:
        graph = output_graph(
            model,
            output,
            tlc_train_size=tlc_train_size,
            size=size,
            batch=1 if size is not None and fix_batch else None,
        )
        convert(graph, scratch / path.name)
        report = compare(
            model,
            _loaded(load, scratch / path.name, format),
            images,
            path=path,
            num_bytes=sum(file.stat().st_size for file in scratch.iterdir()),
            format=format,
            output=output,
            tlc_train_size=tlc_train_size,
            size=size,
            **facts,
        )
        report.write(scratch)
    return report


def _loaded(load, path, format):
    """The function of a file, whose errors say that the file is to blame."""

    def run(images):
        try:
            return function(images=images)
        except Exception as error:  # the runtimes' own classes
            shape = images.shape[1:3]
            raise ExportError(
                f"The exported file does not run in {format} with an image of size "
                f"{shape}: {error}"
            ) from error

    try:
        function = load(path)
    except Exception as error:
        raise ExportError(
            f"The exported file cannot be loaded by {format}: {error}"
        ) from error
    return run


def check_path(path, suffix):
    """Checks the path of a file to write; a wrong one is a ValueError."""
    if not isinstance(path, (str, os.PathLike)) or Path(path).suffix != suffix:
        raise ValueError(f"`path` must end in {suffix}. Received: path={str(path)!r}")
    if Path(path).is_dir():
        raise ValueError(
            f"`path` must be a file, not a folder. Received: path={str(path)!r}"
        )


def require(packages, install):
    """Imports packages; an ImportError says what pip must install."""
    for package in packages:
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise ImportError(
                f"The export needs the package {package}: `pip install {install}` "
                f"({error})."
            ) from error
