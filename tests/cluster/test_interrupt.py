"""Ctrl-C while Tune runs: noted once, raised at the end, and the second time at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from ensgan.cluster.ctrl_c import Interrupt


@pytest.fixture(autouse=True)
def pythons_own_answer() -> Iterator[None]:
    """Test runners may have set another."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def press() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_the_first_is_noted_and_raised_when_the_body_is_done() -> None:
    told: list[str] = []
    done = False
    interrupt = Interrupt()
    with pytest.raises(KeyboardInterrupt), interrupt.watching(lambda: told.append("asked")):
        assert not interrupt.stop_all()
        press()
        assert interrupt.stop_all()
        done = True
    assert done and told == ["asked"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_second_is_raised_at_once() -> None:
    reached = False
    with pytest.raises(KeyboardInterrupt), Interrupt().watching(lambda: None):
        press()
        press()
        reached = True
    assert not reached


def test_an_error_on_the_way_out_does_not_hide_it() -> None:
    with pytest.raises(KeyboardInterrupt), Interrupt().watching(lambda: None):
        press()
        raise RuntimeError("a trial was killed")


def test_nothing_changes_without_it() -> None:
    with pytest.raises(RuntimeError), Interrupt().watching(lambda: None):
        raise RuntimeError("another matter")
    with Interrupt().watching(lambda: None):
        pass
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_full_disk_is_no_obstacle() -> None:
    def full() -> None:
        raise OSError("no space left")

    with pytest.raises(KeyboardInterrupt), Interrupt().watching(full):
        press()


def test_a_caller_that_handles_signals_keeps_them() -> None:
    taken: list[int] = []

    def handler(number: int, _frame: object) -> None:
        taken.append(number)

    signal.signal(signal.SIGINT, handler)
    with Interrupt().watching(lambda: None):
        press()
    assert taken == [signal.SIGINT]


def test_other_threads_cannot_take_signals_and_do_not_try() -> None:
    entered: list[bool] = []

    def body() -> None:
        with Interrupt().watching(lambda: None):
            entered.append(signal.getsignal(signal.SIGINT) is signal.default_int_handler)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert entered == [True]
