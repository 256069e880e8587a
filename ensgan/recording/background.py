"""Records a running sweep beside it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from ensgan.errors import StoreError
from ensgan.recording.illustrator import Illustrator
from ensgan.recording.record import Recording
from ensgan.store import RunStore
from ensgan.sweep.events import Event, OnEvent, ignore
from ensgan.sweep.folder import SweepFolder


class BackgroundRecorder:
    """Records in a thread of its own, so that a slow or absent store never holds up a sweep."""

    def __init__(
        self,
        folder: SweepFolder,
        open_store: Callable[[], RunStore],
        illustrator: Illustrator,
        on_event: OnEvent = ignore,
    ) -> None:
        self.folder = folder
        self.open_store = open_store
        self.illustrator = illustrator
        self.on_event = on_event
        self._recording: Recording | None = None
        self._warned = False
        self._queued = threading.Event()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="recorder")

    def __enter__(self) -> BackgroundRecorder:
        self.poke()  # opening the store takes seconds: begin at once
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()

    def poke(self) -> None:
        """Something new is in the manifest."""
        if not self._queued.is_set():
            self._queued.set()
            self._thread.submit(self._pass)

    def close(self) -> str | None:
        """Record what is left, stop, and return the parent's run ID (None: not reachable)."""
        self._warned = False
        last = self._thread.submit(self._pass)
        self._thread.shutdown()
        return last.result()

    def _pass(self) -> str | None:
        self._queued.clear()
        try:
            if self._recording is None:
                store = self.open_store()
                store.prepare()
                self._recording = Recording(self.folder, store, self.illustrator)
            return self._recording.bring_up_to_date()
        except StoreError as error:
            if not self._warned:
                self._warned = True
                message = f"{error}; `ensgan sync {self.folder.path.name}` records it later"
                self.on_event(Event("warning", {"message": message}))
            return None
