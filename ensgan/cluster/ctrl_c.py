"""Ctrl-C while Tune runs trials."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from ray import tune


class Interrupt(tune.Stopper):  # type: ignore[misc]
    """Ends all of Tune's trials when the user asks for it.

    Python raises ``KeyboardInterrupt`` wherever the main thread happens to be. In Ray that may be a
    callback from C++ or a finalizer, which swallow it, and the sweep would go on. So the first
    ctrl-C is only noted, Tune asks at its next step, and :meth:`watching` raises when Tune has
    ended. A second one is raised at once.

    Attributes:
        asked: the user wants the run to end.
    """

    def __init__(self) -> None:
        self.asked = False

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """No trial is ended for what it reports."""
        return False

    def stop_all(self) -> bool:
        """Tune's question at each of its steps."""
        return self.asked

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its stopper into a state that ensgan never restores from.
        return {}

    @contextmanager
    def watching(self, on_asked: Callable[[], None]) -> Iterator[None]:
        """Note ctrl-C while the body runs.

        Only Python's own answer to it is replaced: where the caller handles signals, or this is not
        the main thread, it stays with the caller.

        Args:
            on_asked: called once, at once.

        Raises:
            KeyboardInterrupt: the user asked; after the body, whatever that raised.
        """
        in_main = threading.current_thread() is threading.main_thread()
        before = signal.getsignal(signal.SIGINT)
        if not in_main or before is not signal.default_int_handler:
            yield
            return

        def note(_number: int, _frame: FrameType | None) -> None:
            signal.signal(signal.SIGINT, before)
            self.asked = True
            with suppress(OSError):
                on_asked()

        signal.signal(signal.SIGINT, note)
        try:
            yield
        except Exception as error:  # trials that end on the way are no news
            if not self.asked:
                raise
            raise KeyboardInterrupt from error
        finally:
            signal.signal(signal.SIGINT, before)
        if self.asked:
            raise KeyboardInterrupt
