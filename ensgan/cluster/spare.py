"""Slots that no trial needs any more, while others still train."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler

from ensgan.cluster.trial_queue import TrialQueue
from ensgan.sweep.executor import NextPiece, Piece

POLL_SECONDS = 1.0


class ReleasingScheduler(FIFOScheduler):  # type: ignore[misc]
    """First come, first served; a process that has no next trial ends, and its slot is free.

    Tune would keep one such process, with what is reserved for it, until the search is over. It
    has no setting for that, so its own one (for all trials) is changed while trials come and go;
    where this Ray has it under another name, the slot stays taken.
    """

    def __init__(self, queue: TrialQueue) -> None:
        super().__init__()
        self.queue = queue

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: Any) -> None:
        """Called before Tune decides whether to keep the trial's process."""
        if hasattr(tune_controller, "_reuse_actors"):
            others = tune_controller.get_trials()
            waits = any(other.status == Trial.PENDING for other in others)
            tune_controller._reuse_actors = waits or bool(self.queue.waiting)

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its scheduler into a state that ensgan never restores from.
        return {}


class SpareSlots:
    """Gives free slots to pieces of later stages.

    Args:
        submit: begins a piece and returns what stands for its result, None where there is no room.
        unfinished: those of such results that are not there yet.
    """

    def __init__(
        self,
        submit: Callable[[Piece], Any],
        unfinished: Callable[[Sequence[Any]], list[Any]],
    ) -> None:
        self.submit, self.unfinished = submit, unfinished
        self._underway: list[tuple[Piece, Any]] = []
        self._refused: Piece | None = None

    @contextlib.contextmanager
    def working(self, queue: TrialQueue, slots: int, ahead: NextPiece) -> Iterator[None]:
        """Watch the queue while the body runs; pieces that run at its end go on.

        Args:
            queue: of the trials.
            slots: trials that run at once.
            ahead: the next piece that is ready.
        """
        stop = threading.Event()
        if queue.at_once is not None:
            slots = min(slots, queue.at_once)

        def watch() -> None:
            while not stop.wait(POLL_SECONDS):
                # Only time is lost here: what fails for good fails again in its own stage.
                with contextlib.suppress(Exception):
                    self.fill(queue, slots, ahead)

        thread = threading.Thread(target=watch, name="spare-slots", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def fill(self, queue: TrialQueue, slots: int, ahead: NextPiece) -> None:
        """Begin as many pieces as there are slots that no trial will ask for."""
        self._forget_finished()
        while (
            not queue.waiting
            and queue.halted is None
            and queue.running
            and len(queue.running) + len(self._underway) < slots
        ):
            piece, self._refused = self._refused or ahead(), None
            if piece is None:
                return
            result = self.submit(piece)
            if result is None:
                self._refused = piece
                return
            self._underway.append((piece, result))

    def underway(self, piece: Piece) -> Any:
        """What stands for the result of a piece that runs at this moment, None of others.

        A piece that has ended is no longer known: its file is, if it went well.
        """
        self._forget_finished()
        return next((result for other, result in self._underway if other == piece), None)

    def _forget_finished(self) -> None:
        left = self.unfinished([result for _, result in self._underway])
        self._underway = [pair for pair in self._underway if pair[1] in left]
