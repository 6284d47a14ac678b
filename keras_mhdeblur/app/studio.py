"""Photos that are restored for the page: one model, one at a time, many visitors."""

import dataclasses
import errno
import os
import secrets
import shutil
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

from keras_mhdeblur.app import words
from keras_mhdeblur.app.retouching import Retouched
from keras_mhdeblur.app.turns import CancelledError, Turns, in_turn
from keras_mhdeblur.app.uploads import RefusedError, read_photo, size_of

# A smaller photo takes no longer for its size than for all that is beside it.
_TELLING_PIXELS = 500_000
# Files of a visitor that are kept: those on the page.
_FILES = 8
# Visitors whose results are kept; a result of 12 megapixels takes half a gigabyte.
_RESULTS = 4
SUFFIXES = {"PNG": ".png", "JPEG": ".jpg", "TIFF": ".tif"}


@dataclasses.dataclass(frozen=True)
class Choice:
    """A model that the page offers.

    Attributes:
        name: what the page calls it; `load_model` is called with it.
        seconds_per_megapixel: about what it takes, or None.
    """

    name: str
    seconds_per_megapixel: float | None = None


class Visitor:
    """The photo, the result and the files of one open page.

    Attributes:
        folder: of its own, for files that the page shows or that are downloaded.
        path, size: of the photo that was uploaded; None without one.
        before: path of the picture of that photo.
        retouched: `Retouched` of the restored photo; None before.
        spot, thumbnails: a place, and what the hypotheses show there.
        mask: booleans (H, W), the region that is brushed; None without one.
        seconds: that restoring took.
    """

    def __init__(self, folder):
        # The server gives files to whoever knows their names.
        self.folder = Path(folder) / secrets.token_hex(16)
        self.folder.mkdir(parents=True)
        self.path = self.size = self.before = self.retouched = self.mask = None
        self.spot, self.thumbnails = None, []
        self.seconds = 0.0
        self._stop = threading.Event()
        self._number = 0

    def begin(self):
        """Stops what runs for this page; returns the event that stops what comes."""
        self.stop()
        self._stop = threading.Event()
        return self._stop

    def stop(self):
        """Stops what runs for this page."""
        self._stop.set()

    def new_file(self, name):
        """A path of that name that no file has; those of long ago are deleted."""
        self._number += 1
        folder = self.folder / str(self._number)
        folder.mkdir()
        shutil.rmtree(self.folder / str(self._number - _FILES), ignore_errors=True)
        return folder / name

    def take(self, paths):
        """Paths of uploads as long as the page is open: the server forgets its own."""
        folder = self.folder / f"uploads-{secrets.token_hex(4)}"
        taken = []
        for index, path in enumerate(paths):
            place = folder / str(index) / Path(path).name
            place.parent.mkdir(parents=True)
            try:
                os.link(path, place)
            except OSError:  # a file system without links
                shutil.copyfile(path, place)
            taken.append(place)
        return taken


class Studio:
    """Restores the photos of all open pages, one after the other.

    Args:
        load_model: function from the name of a `Choice` to a model and the further
            arguments of `restore`.
        choices: list of `Choice`.
        max_megapixels: the largest photos that are taken.
        folder: for the visitors' files.

    Attributes:
        visitors: key of a page -> `Visitor`.
    """

    def __init__(
        self,
        load_model: Callable,
        choices: list[Choice],
        max_megapixels: int,
        folder: Path,
    ):
        self.choices = {choice.name: choice for choice in choices}
        self.max_megapixels = max_megapixels
        self.turns = Turns()
        self._load_model = load_model
        self._folder = folder
        self.visitors = {}
        self._recent = []
        self._lock = threading.Lock()
        # Times the seconds of the choices that this machine takes.
        self._slowness = 1.0
        self._measured = {}
        # One model: those of larger photos keep gigabytes.
        self._loaded = None, None

    def visitor(self, key):
        """The `Visitor` of a page, by the page's key."""
        with self._lock:
            if key not in self.visitors:
                self.visitors[key] = Visitor(self._folder)
            return self.visitors[key]

    def leave(self, key):
        """Stops the work of a page that was closed, and deletes its files."""
        with self._lock:
            visitor = self.visitors.pop(key, None)
            self._recent = [each for each in self._recent if each is not visitor]
        if visitor is not None:
            visitor.stop()
            visitor.retouched = None
            shutil.rmtree(visitor.folder, ignore_errors=True)

    def close(self):
        """Stops all work."""
        with self._lock:
            for visitor in self.visitors.values():
                visitor.stop()

    def estimate(self, name, size):
        """Seconds that a photo of (width, height) takes; None where nothing tells."""
        rate = self.choices[name].seconds_per_megapixel
        rate = self._measured.get(name, rate and self._slowness * rate)
        return None if rate is None else rate * size[0] * size[1] / 1e6

    def model(self, name):
        """The model and arguments of `restore` of a choice; the last one is kept."""
        if self._loaded[0] != name:
            self._loaded = None, None  # before the next one takes its memory
            self._loaded = name, self._load_model(name)
        return self._loaded[1]

    def open(self, visitor, path):
        """Takes a photo in place of the one before, and returns it.

        Raises:
            RefusedError: if the page does not take it; the one before stays.
        """
        size = size_of(path, self.max_megapixels)
        photo = read_photo(path)
        (path,) = visitor.take([path])
        visitor.stop()
        visitor.path, visitor.size = path, size
        visitor.retouched = visitor.mask = None
        return photo

    def restore(self, visitor, name):
        """Restores the visitor's photo; yields `Step`s.

        What it was restored to before stays until the end.

        Raises:
            CancelledError: if the visitor's work was stopped.
            Exception: whatever goes wrong.
        """
        if visitor.path is None:
            raise RefusedError("Choose a photo first.")
        path, size = visitor.path, visitor.size
        stop = visitor.begin()

        def work(progress):
            model, engine = self.model(name)
            begin = time.monotonic()
            photo = read_photo(path)
            result = _restore(model, photo, progress, engine, hypotheses=True)
            retouched = Retouched(photo, result)
            return retouched, time.monotonic() - begin

        retouched, seconds = yield from in_turn(self.turns, stop, work)
        self._learn(name, size, seconds)
        visitor.retouched, visitor.seconds = retouched, seconds
        visitor.mask = None
        self._forget_old(visitor)

    def restore_all(self, visitor, name, paths, kind):
        """Restores many photos into a zip file.

        Args:
            visitor: `Visitor`.
            name: of the `Choice`.
            paths: of the photos.
            kind: format of the restored photos, of SUFFIXES.

        Yields:
            (rows, step): a `Row` per photo, and the `Step` of the present one.

        Returns:
            Path of the zip file; None if no photo was restored.
        """
        stop = visitor.begin()
        rows = [Row(path) for path in visitor.take(paths)]
        for row, file in zip(rows, _file_names(paths, SUFFIXES[kind])):
            row.output = file
        archive = visitor.new_file("restored.zip")
        for row in rows:
            if stop.is_set():
                row.outcome = "not begun"
                continue
            row.outcome, row.kind = "at work", "busy"
            try:
                steps = self._restore_one(row, stop, name, archive)
                for step in steps:
                    yield rows, step
            except CancelledError:
                row.outcome, row.kind = "cancelled", "note"
                stop.set()
            except Exception as error:
                row.outcome, row.kind = words.outcome(error), "bad"
            yield rows, None
        return archive if archive.exists() else None

    def _restore_one(self, row, stop, name, archive):
        row.size = size_of(row.path, self.max_megapixels)

        def work(progress):
            model, engine = self.model(name)
            begin = time.monotonic()
            photo = read_photo(row.path)
            result = _restore(model, photo, progress, engine, hypotheses=False)
            output = archive.with_name(row.output)
            result.save(output)
            _move_into(archive, output)
            return result.kept.mean(), photo.notes, time.monotonic() - begin

        row.kept, notes, row.seconds = yield from in_turn(self.turns, stop, work)
        row.outcome, row.kind = "restored", "good"
        if notes:
            row.outcome += "; " + "; ".join(notes)

    def _learn(self, name, size, seconds):
        """Remembers what a photo took."""
        if size[0] * size[1] < _TELLING_PIXELS:
            return
        measured = seconds / (size[0] * size[1] / 1e6)
        expected = self.choices[name].seconds_per_megapixel
        if expected:
            self._slowness = measured / expected
            self._measured = {}
        self._measured[name] = measured

    def _forget_old(self, visitor):
        """Keeps the results of few visitors only, of this one among them."""
        with self._lock:
            others = [each for each in self._recent if each is not visitor]
            self._recent = [*others, visitor][-_RESULTS:]
            for each in others:
                if each not in self._recent:
                    each.retouched = None


@dataclasses.dataclass
class Row:
    """A photo of many, and what became of it.

    Attributes:
        path: of the photo.
        output: name of the restored one.
        size: (width, height), or None.
        seconds: that it took, or None.
        kept: share of the photo that the guard kept, or None.
        outcome: in words.
        kind: of the outcome: "note", "busy", "good" or "bad".
    """

    path: Path
    output: str = ""
    size: tuple | None = None
    seconds: float | None = None
    kept: float | None = None
    outcome: str = "waiting"
    kind: str = "note"


def _move_into(archive, path):
    """Moves a file into a zip file, which stays as it is where there is no room."""
    try:
        if shutil.disk_usage(archive.parent).free < 1.01 * path.stat().st_size + 10**6:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        # Pictures are compressed already.
        with zipfile.ZipFile(archive, "a", zipfile.ZIP_STORED) as file:
            file.write(path, path.name)
    finally:
        path.unlink()


def _restore(model, photo, progress, engine, hypotheses):
    from keras_mhdeblur.inference import restore

    return restore(model, photo, progress=progress, hypotheses=hypotheses, **engine)


def _file_names(paths, suffix):
    """Names for the restored photos, no two the same: `a_restored.png`, ..."""
    names, taken = [], set()
    for path in paths:
        stem = Path(path).stem
        name, number = f"{stem}_restored{suffix}", 2
        while name.lower() in taken:
            name = f"{stem}_restored_{number}{suffix}"
            number += 1
        taken.add(name.lower())
        names.append(name)
    return names
