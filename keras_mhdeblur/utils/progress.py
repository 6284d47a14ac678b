"""A progress bar with names, seconds and the time that is left."""

import contextlib
import shutil
import sys
import time


class ProgressBar:
    """Shows on stderr how far a list of items is done.

    In a terminal one line is written over and over; in a log file every finished
    item is a line, and what is left of an item of many parts is one.

    Args:
        total: number of items.
        file: where to write; `sys.stderr` by default.
    """

    def __init__(self, total, file=None):
        self.total = total
        self.done = 0
        self.file = sys.stderr if file is None else file
        self.live = self.file.isatty()
        self.begin = self.last = time.monotonic()

    def start(self, name):
        """Shows the item that is worked on, in a terminal."""
        if self.live:
            self._show(f"{self._counts()}  {name} ...{self._left()}")

    def advance(self, name, done, total):
        """Shows how far the item is that is worked on.

        In a log file once, after the first part: the parts are alike.

        Args:
            name: its name.
            done, total: numbers of its parts.
        """
        if total == 1:
            return
        elapsed = time.monotonic() - self.last
        left = self._clock(elapsed / done * (total - done)) if done else ""
        line = f"{self._counts()}  {name}: tile {done} of {total} ...{left}"
        if self.live:
            self._show(line)
        elif done == 1:
            self.message(line)

    def finish(self, name=""):
        """Counts an item as done and shows its seconds."""
        now = time.monotonic()
        self.done += 1
        name = f"  {name}" if name else ""
        line = f"{self._counts()}{name}  {now - self.last:.1f} s{self._left()}"
        self.last = now
        self._show(line) if self.live else print(line, file=self.file, flush=True)

    def message(self, text):
        """Prints a line that stays."""
        if self.live:
            self._show("")
        print(text, file=self.file, flush=True)

    def close(self):
        """Ends the line of the bar."""
        if self.live:
            print(file=self.file, flush=True)

    def _counts(self):
        filled = 20 * self.done // self.total
        digits = len(str(self.total))
        return f"[{'=' * filled:20}] {self.done:{digits}}/{self.total}"

    def _left(self):
        if not 0 < self.done < self.total:
            return ""
        elapsed = time.monotonic() - self.begin
        return self._clock(elapsed / self.done * (self.total - self.done))

    @staticmethod
    def _clock(seconds):
        minutes, seconds = divmod(round(seconds), 60)
        hours, minutes = divmod(minutes, 60)
        clock = f"{minutes:02}:{seconds:02}"
        return f"  ETA {hours}:{clock}" if hours else f"  ETA {clock}"

    def _show(self, line):
        # One column less than the terminal has, so that the line never wraps.
        line = line[: shutil.get_terminal_size().columns - 1]
        print(f"\r{line}\x1b[K", end="", file=self.file, flush=True)


@contextlib.contextmanager
def tile_progress(progress, total):
    """Shows how many tiles are done, as `progress` of `restore` asks for it.

    Args:
        progress: True for a bar on stderr, False, or a function that is called with
            the numbers of tiles done and in all, first with 0.
        total: number of tiles in all.

    Yields:
        Function to call after every tile, or None.
    """
    if callable(progress):
        numbers = iter(range(total + 1))

        def on_tile():
            progress(next(numbers), total)

        on_tile()
        yield on_tile
    elif progress:
        bar = ProgressBar(total)
        yield bar.finish
        bar.close()
    else:
        yield None
