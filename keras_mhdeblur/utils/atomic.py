"""Files and folders that appear whole or not at all."""

import contextlib
import os
import tempfile
import uuid
from pathlib import Path


@contextlib.contextmanager
def atomic_file(path, partial=None):
    """Path to write to; what is there gets its name at the end.

    If writing fails or the process is killed, the file is as it was before.

    Args:
        path: path of the file; its folder must exist.
        partial: name of the file that is written to, in the same folder: what a kill
            leaves behind is replaced the next time. A new name every time when None.

    Returns:
        Context of the path to write to.

    Raises:
        OSError: it cannot be written; `filename` is `path`.
    """
    path = Path(path)
    # Not of the file's name, which may be as long as names can be.
    partial = path.with_name(partial or f".{uuid.uuid4().hex}.tmp")
    try:
        yield partial
        os.replace(partial, path)
    except BaseException as error:
        if isinstance(error, OSError) and error.filename == str(partial):
            error.filename = str(path)  # the name that was given
        with contextlib.suppress(OSError):
            partial.unlink()
        raise


@contextlib.contextmanager
def atomic_files(folder, replace_folders=False):
    """Folder to write to, whose contents are moved into `folder` at the end.

    If writing fails, nothing is moved, and `folder` is as it was before.

    Args:
        folder: folder for the files; made if there is none. Files of the same names
            are replaced.
        replace_folders: whether folders of the same names are replaced, too, as a
            whole; otherwise one that is not empty is an OSError.

    Returns:
        Context of the path of an empty folder on the same file system.
    """
    folder = Path(os.path.abspath(folder))
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".new-") as scratch:
            new, old = Path(scratch, "new"), Path(scratch, "old")
            new.mkdir()
            old.mkdir()
            yield new
            for path in new.iterdir():
                target = folder / path.name
                if replace_folders and target.is_dir():
                    target.rename(old / path.name)
                os.replace(path, target)
    except BaseException:
        for path in missing:
            with contextlib.suppress(OSError):
                path.rmdir()
        raise
