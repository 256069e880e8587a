"""Records a running sweep beside it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from ensgan.errors import DataError, InputError, StoreError
from ensgan.recording.record import Recording
from ensgan.recording.views import Illustrator
from ensgan.store import RunStore
from ensgan.sweep.events import Event, OnEvent, ignore
from ensgan.sweep.folder import SweepFolder

OPENING_SECONDS = 10.0
"""What a sweep waits for its store at most, before training begins."""


class BackgroundRecorder:
    """Records in a thread of its own, so that a slow or absent store never holds up a sweep.

    Args:
        folder: of the sweep.
        open_store: gives the store; nothing is contacted before the first pass.
        illustrator: makes pictures and pages.
        on_event: hears of what could not be recorded.
        before: called once in the sweep's own thread, before the recorder's thread begins.

    Raises:
        InputError: the store's address is of a kind that keeps no runs.
    """

    def __init__(
        self,
        folder: SweepFolder,
        open_store: Callable[[], RunStore],
        illustrator: Illustrator,
        on_event: OnEvent = ignore,
        before: Callable[[], None] = lambda: None,
    ) -> None:
        self.folder = folder
        self.illustrator = illustrator
        self.on_event = on_event
        self._store = open_store()  # an address that can be none is refused here
        self._recording: Recording | None = None
        self._refusal: InputError | None = None
        self._opened = threading.Event()
        self._before: Callable[[], None] | None = before
        self._warned = False
        self._queued = threading.Event()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="recorder")

    def __enter__(self) -> BackgroundRecorder:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()

    def poke(self) -> None:
        """Something new is in the manifest."""
        if self._before is not None:
            self._before()
            self._before = None
        if not self._queued.is_set():
            self._queued.set()
            self._thread.submit(self._pass)

    def wait_opened(self) -> None:
        """Wait until the store is open or does not answer for a while.

        Raises:
            InputError: it can never take a run (its experiment was deleted, for example).
        """
        self._opened.wait(OPENING_SECONDS)
        if self._refusal is not None:
            raise self._refusal

    def close(self) -> str | None:
        """Record what is left, stop, and return the parent's run ID (None: not reachable)."""
        self._warned = False
        last = self._thread.submit(self._pass)
        self._thread.shutdown()
        return last.result()

    def _pass(self) -> str | None:
        self._queued.clear()
        try:
            return self._recorded()
        except DataError as error:  # a damaged recorded.json
            self._warn(f"{error}; nothing is recorded until it is restored or deleted")
        except InputError as error:
            self._refusal = error
            self._warn(str(error))
        except StoreError as error:
            self._warn(f"{error}; `ensgan sync {self.folder.path.name}` records it later")
        finally:
            self._opened.set()
        return None

    def _recorded(self) -> str | None:
        if self._recording is None:
            recording = Recording(self.folder, self._store, self.illustrator)
            whole = recording.recorded_run()
            if whole is not None:  # without opening the store, which takes seconds
                return whole
            self._store.prepare()
            self._opened.set()
            self._recording = recording
        return self._recording.bring_up_to_date()

    def _warn(self, message: str) -> None:
        if not self._warned:
            self._warned = True
            self.on_event(Event("warning", {"message": message}))
