"""``run_sweep``: from a sweep file to a selected ensemble, on Ray or in this process."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from ensgan.cluster.budget import Budget
from ensgan.downstream import import_libraries
from ensgan.errors import DataError, InputError, StoreError, unknown_name
from ensgan.launch.executors import check_address, executor_at, opened_early, runs_here
from ensgan.launch.finished import remember
from ensgan.report.record import Recording
from ensgan.store import RunStore, default_storage, open_store
from ensgan.sweep.events import Event, OnEvent, StageClock, SweepResult, ignore, warning
from ensgan.sweep.executor import Executor, grow_here
from ensgan.sweep.folder import SweepFolder, find_sweep
from ensgan.sweep.inputs import write_inputs
from ensgan.sweep.opening import changes_of
from ensgan.sweep.planning.sweep_file import AnySpec, load_sweep
from ensgan.sweep.records import MemberResult
from ensgan.sweep.resolving import resolve_in
from ensgan.sweep.runner import RunningSweep
from ensgan.sweep.training_stage import member_jobs

OPENING_SECONDS = 60.0
"""Longest wait for the store before training begins. MLflow opens within a second, on busy cores
within half a minute; a server that is gone is noticed after some seconds."""


class BackgroundRecorder:
    """Records in a thread of its own, so that a slow or absent store never holds up a sweep.

    Args:
        folder: of the sweep.
        store: not contacted before the first pass.
        on_event: warned of what could not be recorded.
    """

    def __init__(self, folder: SweepFolder, store: RunStore, on_event: OnEvent) -> None:
        self.folder = folder
        self.on_event = on_event
        self._store = store
        self._recording: Recording | None = None
        self._refusal: InputError | None = None
        self._opened = threading.Event()
        self._warned = False
        self._queued = threading.Event()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="recorder")

    def __enter__(self) -> BackgroundRecorder:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()

    def poke(self) -> None:
        """Notify of news in the manifest."""
        if not self._queued.is_set():
            self._queued.set()
            self._thread.submit(self._pass)

    def wait_opened(self) -> None:
        """Wait until the store is open or has not answered for a while.

        Raises:
            InputError: it can never take a run, for example because its experiment was deleted.
        """
        self._opened.wait(OPENING_SECONDS)
        if self._refusal is not None:
            raise self._refusal

    def close(self) -> str | None:
        """Record the rest and stop; the parent's run ID, None if the store cannot be reached."""
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
            recording = Recording(self.folder, self._store)
            whole = recording.recorded_run()
            if whole is not None:  # all is recorded: opening the store would take seconds
                return whole
            self._store.prepare()
            self._opened.set()
            self._recording = recording
        return self._recording.bring_up_to_date()

    def _warn(self, message: str) -> None:
        if not self._warned:
            self._warned = True
            self.on_event(warning(message))


def run_sweep(
    spec: AnySpec,
    *,
    settings: Sequence[str] = (),
    storage: Path | str | None = None,
    data_dir: Path | str | None = None,
    address: str | None = "local",
    allow_open_cluster: bool = False,
    budget: Budget | None = None,
    fresh: bool = False,
    retrain: bool = False,
    without_added: bool = False,
    many: bool = False,
    on_event: OnEvent = ignore,
    started: float | None = None,
) -> SweepResult:
    """Run a sweep, or resume it where it was interrupted.

    Args:
        spec: a spec, a mapping of its keys, the path of a sweep file, or a shipped one's name.
        settings: ``a.b=value`` overrides for a sweep file.
        storage: folder of sweeps and of the local store (default ``ENSGAN_STORAGE`` or
            ``./ensgan-runs``).
        data_dir: where data sets lie (default ``ENSGAN_DATA``).
        address: ``local`` starts Ray here, ``auto`` or ``HOST:PORT`` joins a cluster from one of
            its nodes, ``none`` (or None) runs everything in this process without Ray.
        allow_open_cluster: use a cluster that takes requests from anybody who reaches it.
        budget: limit of training; running again without one trains what was left out.
        fresh: set an earlier sweep of this name aside and start over.
        retrain: allow a GAN to train from scratch for added snapshots that no checkpoint leads to.
        without_added: leave out what `ensgan add` brought in earlier sessions.
        many: allow more than a thousand configurations of GANs.
        on_event: called with everything that happens.
        started: when the work began (seconds since the epoch), if before this call.

    Raises:
        InputError: bad spec, data or address, or another process runs this sweep.
        EnsganError: the run failed.
    """
    check_address(address, budget)
    started = time.time() if started is None else started
    path = Path(spec) if isinstance(spec, Path | str) else None
    data_dir = None if data_dir is None else Path(data_dir)
    root, asked = Path(storage or default_storage()).resolve(), load_sweep(spec, settings)
    how = {"fresh": fresh, "without_added": without_added, "many": many}
    resolved, folder = resolve_in(root, asked, data_dir, on_event, **how)
    if fresh:
        with folder.locked():
            pass  # refuses if another process runs it
        folder.set_aside()
    with folder.locked(), contextlib.ExitStack() as stack:
        if runs_here(address):
            # Classifiers in this process need libraries that two threads must not import at once:
            # they come before the recorder's thread.
            import_libraries()
        track = resolved.spec.track
        store = open_store(track.uri, storage=folder.path.parents[1], experiment=track.experiment)
        recorder = stack.enter_context(BackgroundRecorder(folder, store, on_event))
        executor = executor_at(
            address,
            resolved.spec.cluster,
            folder.path / "tune",
            allow_open_cluster=allow_open_cluster,
            budget=budget,
        )
        on_event(Event("folder", {"path": str(folder.path)}))
        clock = StageClock(on_event, started=started)
        opening: Callable[[], Executor] = partial(stack.enter_context, executor)
        if not folder.has_begun:
            opening = opened_early(address, opening)
        result = RunningSweep(resolved, folder, opening, recorder, clock, retrain=retrain).run()
    if path is not None:
        remember(path, settings, folder, data_dir, result.to_json())
    return result


def train_one(
    spec: AnySpec,
    gan: str,
    *,
    settings: Sequence[str] = (),
    storage: Path | str | None = None,
    data_dir: Path | str | None = None,
    retrain: bool = False,
    on_event: OnEvent = ignore,
) -> tuple[MemberResult, ...]:
    """Train, sample and score one GAN of a sweep in this process; a later sweep finds it done.

    Raises:
        InputError: bad spec or data, a GAN that the sweep does not have, or one whose finished
            members would become invalid, or train again without ``retrain``.
        TrainingError: the GAN cannot be trained further.
    """
    root, asked = Path(storage or default_storage()).resolve(), load_sweep(spec, settings)
    data_dir = None if data_dir is None else Path(data_dir)
    resolved, folder = resolve_in(root, asked, data_dir, on_event, many=True)
    names = [row.name for row in resolved.gans]
    if gan not in names:
        raise InputError(unknown_name(f"GAN of sweep '{resolved.spec.name}'", gan, names))
    with folder.locked():
        if folder.has_begun:
            changes_of(folder, folder.read(), resolved).require(folder, retrain=retrain)
        jobs = member_jobs(resolved, write_inputs(resolved, folder))
        job = next(job for job in jobs if job.name == gan)
        return tuple(grow_here(job, on_event))


def sync_sweep(name: str, *, storage: Path | str | None = None) -> str:
    """Record what is in a sweep's manifest but not in the store; the parent's run ID.

    Raises:
        InputError: there is no such sweep.
        StoreError: the store cannot be reached.
    """
    storage = Path(storage or default_storage()).resolve()
    folder = find_sweep(name, storage)
    with folder.locked():
        track = folder.read().settings.track
        store = open_store(track.uri, storage=storage, experiment=track.experiment)
        run_id = Recording(folder, store).bring_up_to_date()
    assert run_id is not None
    return run_id
