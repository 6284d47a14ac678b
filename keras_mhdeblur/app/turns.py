"""Work that takes turns, is told about while it runs, and stops when asked to."""

import queue
import threading
import time


class CancelledError(Exception):
    """The work was stopped before its end."""


class Turns:
    """A line of those who wait: one works at a time, first come, first served."""

    def __init__(self):
        self._line = []
        self._changed = threading.Condition()

    def enter(self):
        """A ticket at the end of the line."""
        ticket = object()
        with self._changed:
            self._line.append(ticket)
        return ticket

    def before(self, ticket):
        """Number of tickets that are before this one; 0: it is its turn."""
        with self._changed:
            return self._line.index(ticket)

    def leave(self, ticket):
        """Takes a ticket out of the line, wherever it is."""
        with self._changed:
            self._line.remove(ticket)
            self._changed.notify_all()

    def wait(self, ticket, seconds):
        """Waits for the ticket's turn; True when it has come."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._line.index(ticket) == 0, seconds
            )


class Step:
    """The progress of a work.

    Attributes:
        waiting: works that are before it.
        done, total: numbers of its parts; a total of 0 before the first part begins.
        seconds: since its turn came.
        since: seconds since the last part was done.
        stopping: whether it ends with the part that it is at.
    """

    def __init__(self, waiting=0, done=0, total=0, seconds=0.0, since=0.0):
        self.waiting = waiting
        self.done = done
        self.total = total
        self.seconds = seconds
        self.since = since
        self.stopping = False


def in_turn(turns, stop, function, pause=0.25):
    """Runs a function when its turn comes, in a thread, and tells how far it is.

    A generator: whoever iterates over it may stop at any time, and the work stops with
    its present part. The turn ends with the work and not before.

    Args:
        turns: `Turns`.
        stop: `threading.Event` that stops the work.
        function: called with a function of the numbers of parts done and in all,
            which raises `CancelledError` once `stop` is set.
        pause: seconds between two steps when no part ends.

    Yields:
        `Step`.

    Returns:
        What the function returned.

    Raises:
        CancelledError: if `stop` was set.
        Exception: what the function raised.
    """
    ticket, left = turns.enter(), threading.Event()
    try:
        while not turns.wait(ticket, pause):
            if stop.is_set():
                raise CancelledError
            yield Step(waiting=turns.before(ticket))
    except BaseException:
        turns.leave(ticket)
        raise
    try:
        return (yield from _followed(turns, ticket, stop, left, function, pause))
    finally:
        left.set()  # the thread ends, also when nobody listens any more


def _followed(turns, ticket, stop, left, function, pause):
    events = queue.SimpleQueue()

    def progress(done, total):
        if stop.is_set() or left.is_set():
            raise CancelledError
        events.put(("part", (done, total)))

    def work():
        try:
            outcome = "result", function(progress)
        except BaseException as error:
            outcome = "error", error
        turns.leave(ticket)
        events.put(outcome)

    threading.Thread(target=work, daemon=True).start()
    step, begin = Step(), time.monotonic()
    last = begin
    while True:
        try:
            kind, value = events.get(timeout=pause)
        except queue.Empty:
            kind = "time"
        now = time.monotonic()
        if kind == "result":
            return value
        if kind == "error":
            raise value
        if kind == "part":
            step.done, step.total = value
            last = now
        step.seconds, step.since = now - begin, now - last
        step.stopping = stop.is_set()
        yield step
