"""Exported files and folders appear whole or not at all."""

import contextlib
import os
import tempfile
from pathlib import Path


@contextlib.contextmanager
def written_aside(folder):
    """Folder to write to, whose contents are moved into `folder` at the end.

    If writing fails, nothing is moved, and `folder` is as it was before.

    Args:
        folder: folder for the files; made if there is none. Files of the same names
            are replaced; a folder of the same name that is not empty is an OSError.

    Returns:
        Context of the path of an empty folder on the same file system.
    """
    folder = Path(os.path.abspath(folder))
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".export-") as scratch:
            yield Path(scratch)
            for path in Path(scratch).iterdir():
                os.replace(path, folder / path.name)
    except BaseException:
        for path in missing:
            with contextlib.suppress(OSError):
                path.rmdir()
        raise
