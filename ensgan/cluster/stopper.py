"""What ends trials before they end by themselves: ctrl-C, and a budget with no room left."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from ray import tune

from ensgan.cluster.trial_queue import TrialQueue
from ensgan.sweep.member_job import MemberResult


class SweepStopper(tune.Stopper):  # type: ignore[misc]
    """Answers Tune's questions whether a trial, or all of them, shall end.

    Python raises ``KeyboardInterrupt`` wherever the main thread happens to be. In Ray that may be a
    callback from C++ or a finalizer, which swallow it, and the sweep would go on. So the first
    ctrl-C is only noted, Tune asks at its next step, and :meth:`catching_interrupts` raises when
    Tune has ended. A second one is raised at once.

    Attributes:
        interrupted: the user wants the run to end.
    """

    def __init__(self, queue: TrialQueue) -> None:
        self.queue = queue
        self.interrupted = False

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Whether a trial ends with what it has just reported.

        Tune asks before the trial goes on, so no step of a snapshot that does not fit is trained.
        """
        if "member" not in result:
            return False
        member = MemberResult.from_json(result["member"])
        return not self.queue.spending.may_continue(trial_id, member)

    def stop_all(self) -> bool:
        """Tune's question at each of its steps."""
        return self.interrupted

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its stopper into a state that ensgan never restores from.
        return {}

    @contextmanager
    def catching_interrupts(self) -> Iterator[None]:
        """Note ctrl-C while the body runs, and make the running trials end.

        Only Python's own answer to it is replaced: where the caller handles signals, or this is not
        the main thread, it stays with the caller.

        Raises:
            KeyboardInterrupt: the user asked; after the body, whatever that raised.
        """
        in_main = threading.current_thread() is threading.main_thread()
        before = signal.getsignal(signal.SIGINT)
        if not in_main or before is not signal.default_int_handler:
            yield
            return

        def on_interrupt(_number: int, _frame: FrameType | None) -> None:
            signal.signal(signal.SIGINT, before)
            self.interrupted = True
            self.queue.stop_running()

        signal.signal(signal.SIGINT, on_interrupt)
        try:
            yield
        except Exception as error:  # trials that end on the way are no news
            if not self.interrupted:
                raise
            raise KeyboardInterrupt from error
        finally:
            signal.signal(signal.SIGINT, before)
        if self.interrupted:
            raise KeyboardInterrupt
