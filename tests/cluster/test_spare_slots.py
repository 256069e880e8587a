"""Slots that no trial needs do pieces of later stages, and no other slots do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ensgan.cluster.resources import Order
from ensgan.cluster.spare import SpareSlots
from ensgan.cluster.trial_queue import TrialQueue
from ensgan.sweep.executor import Piece


class Tasks:
    """Pieces under way, in the place of Ray."""

    def __init__(self, room: int = 100) -> None:
        self.room = room
        self.going: list[Any] = []

    def submit(self, piece: Piece) -> Any:
        if len(self.going) >= self.room:
            return None
        self.going.append(piece.item)
        return piece.item

    def unfinished(self, results: Any) -> list[Any]:
        return [result for result in results if result in self.going]


def pieces(count: int) -> Callable[[], Piece | None]:
    left = iter(range(count))

    def following() -> Piece | None:
        item = next(left, None)
        return None if item is None else Piece(abs, item)

    return following


@pytest.fixture
def queue() -> TrialQueue:
    """Three trials, two of them running."""
    made = TrialQueue([Order(gan, 1.0, 0.0) for gan in "abc"])
    for trial in ("1", "2"):
        made.suggest(trial)
    return made


def test_trials_that_wait_come_first(queue: TrialQueue) -> None:
    tasks = Tasks()
    spare = SpareSlots(tasks.submit, tasks.unfinished)
    spare.fill(queue, 4, pieces(9))
    assert tasks.going == []
    queue.suggest("3")
    spare.fill(queue, 4, pieces(9))
    assert tasks.going == [0]


def test_as_many_as_there_are_free_slots(queue: TrialQueue) -> None:
    tasks, following = Tasks(), pieces(3)
    spare = SpareSlots(tasks.submit, tasks.unfinished)
    queue.suggest("3")
    queue.on_trial_complete("1")
    spare.fill(queue, 4, following)
    assert tasks.going == [0, 1]
    assert spare.underway(Piece(abs, 1)) == 1 and spare.underway(Piece(abs, 7)) is None
    tasks.going.remove(0)
    spare.fill(queue, 4, following)
    spare.fill(queue, 4, following)
    assert tasks.going == [1, 2]
    assert spare.underway(Piece(abs, 0)) is None, "it has ended: its file is there, or it failed"


def test_a_piece_without_room_is_not_lost(queue: TrialQueue) -> None:
    tasks, following = Tasks(room=0), pieces(2)
    spare = SpareSlots(tasks.submit, tasks.unfinished)
    queue.suggest("3")
    spare.fill(queue, 8, following)
    tasks.room = 5
    spare.fill(queue, 8, following)
    assert tasks.going == [0, 1]


def test_nothing_begins_when_the_sweep_ends(queue: TrialQueue) -> None:
    tasks = Tasks()
    spare = SpareSlots(tasks.submit, tasks.unfinished)
    queue.suggest("3")
    queue.halt("the disk is full")
    spare.fill(queue, 8, pieces(2))
    done = TrialQueue([])
    spare.fill(done, 8, pieces(2))
    assert tasks.going == []
