"""Ctrl-C while Tune runs: noted once, raised at the end, and the second time at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from ensgan.cluster.tune_callback import SweepStopper


@pytest.fixture(autouse=True)
def pythons_own_answer() -> Iterator[None]:
    """Test runners may have set another."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Queue:
    """What a stopper ends the running trials with."""

    def __init__(self) -> None:
        self.stopped = 0
        self.interrupted = False

    def interrupt(self) -> None:
        self.interrupted = True
        self.stopped += 1


def press() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_the_first_is_noted_and_raised_when_the_body_is_done() -> None:
    queue = Queue()
    done = False
    stopper = SweepStopper(queue)
    with pytest.raises(KeyboardInterrupt), stopper.catching_interrupts():
        assert not stopper.stop_all()
        press()
        assert stopper.stop_all()
        done = True
    assert done and queue.stopped == 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_ends_are_noted_too_where_they_raise(number: signal.Signals) -> None:
    queue = Queue()
    before = signal.signal(number, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), SweepStopper(queue).catching_interrupts():
            os.kill(os.getpid(), number)
        assert queue.stopped == 1
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before)


def test_the_second_is_raised_at_once() -> None:
    reached = False
    with pytest.raises(KeyboardInterrupt), SweepStopper(Queue()).catching_interrupts():
        press()
        press()
        reached = True
    assert not reached


def test_an_error_on_the_way_out_does_not_hide_it() -> None:
    with pytest.raises(KeyboardInterrupt), SweepStopper(Queue()).catching_interrupts():
        press()
        raise RuntimeError("a trial was killed")


def test_nothing_changes_without_it() -> None:
    with pytest.raises(RuntimeError), SweepStopper(Queue()).catching_interrupts():
        raise RuntimeError("another matter")
    with SweepStopper(Queue()).catching_interrupts():
        pass
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_caller_that_handles_signals_keeps_them() -> None:
    taken: list[int] = []

    def handler(number: int, _frame: object) -> None:
        taken.append(number)

    signal.signal(signal.SIGINT, handler)
    with SweepStopper(Queue()).catching_interrupts():
        press()
    assert taken == [signal.SIGINT]


def test_other_threads_cannot_take_signals_and_do_not_try() -> None:
    entered: list[bool] = []

    def body() -> None:
        with SweepStopper(Queue()).catching_interrupts():
            entered.append(signal.getsignal(signal.SIGINT) is signal.default_int_handler)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert entered == [True]
