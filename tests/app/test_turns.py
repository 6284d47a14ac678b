import threading

import pytest

from keras_mhdeblur.app.turns import CancelledError, Turns, in_turn


def drive(steps):
    seen = []
    try:
        while True:
            seen.append(next(steps))
    except StopIteration as end:
        return seen, end.value


def test_parts_and_result():
    def work(progress):
        for done in range(4):
            progress(done, 3)
        return "restored"

    stop = threading.Event()
    seen = []
    steps = in_turn(Turns(), stop, work)
    try:
        while True:
            step = next(steps)
            seen.append((step.waiting, step.done, step.total))
    except StopIteration as end:
        assert end.value == "restored"
    assert seen == [(0, done, 3) for done in range(4)]


def test_first_come_first_served():
    turns, order, both = Turns(), [], threading.Barrier(2)

    def work(name):
        def run(progress):
            if name == "first":
                both.wait(10)
            order.append(name)
            return name

        return run

    first = in_turn(turns, threading.Event(), work("first"), pause=0.01)
    next(first)
    second = in_turn(turns, threading.Event(), work("second"), pause=0.01)
    third = in_turn(turns, threading.Event(), work("third"), pause=0.01)
    assert next(second).waiting == 1
    assert next(third).waiting == 2
    assert order == []
    both.wait(10)
    assert drive(first)[1] == "first"
    assert drive(second)[1] == "second"
    assert drive(third)[1] == "third"
    assert order == ["first", "second", "third"]


def test_stop_ends_the_work_at_its_next_part():
    stop, reached = threading.Event(), []

    def work(progress):
        for done in range(1000):
            reached.append(done)
            progress(done, 1000)
            threading.Event().wait(0.005)

    steps = in_turn(Turns(), stop, work)
    next(steps)
    stop.set()
    with pytest.raises(CancelledError):
        drive(steps)
    assert len(reached) < 1000


def test_who_waits_can_leave():
    turns, release = Turns(), threading.Event()
    first = in_turn(turns, threading.Event(), lambda progress: release.wait(10), 0.01)
    next(first)
    stop = threading.Event()
    second = in_turn(turns, stop, lambda progress: pytest.fail("not its turn"), 0.01)
    next(second)
    stop.set()
    with pytest.raises(CancelledError):
        drive(second)
    third = in_turn(turns, threading.Event(), lambda progress: "third", 0.01)
    assert next(third).waiting == 1
    release.set()
    drive(first)
    assert drive(third)[1] == "third"


def test_the_work_of_a_closed_page_stops_and_the_next_begins():
    turns, ended = Turns(), threading.Event()

    def work(progress):
        try:
            for done in range(1000):
                progress(done, 1000)
                threading.Event().wait(0.005)
        finally:
            ended.set()

    steps = in_turn(turns, threading.Event(), work)
    next(steps)
    steps.close()
    assert ended.wait(5)
    assert drive(in_turn(turns, threading.Event(), lambda progress: 7))[1] == 7


def test_errors_are_passed_on_and_the_turn_ends():
    turns = Turns()

    def work(progress):
        raise MemoryError

    with pytest.raises(MemoryError):
        drive(in_turn(turns, threading.Event(), work))
    assert drive(in_turn(turns, threading.Event(), lambda progress: 7))[1] == 7
