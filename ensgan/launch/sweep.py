"""``run_sweep``: from a sweep file to a selected ensemble, on Ray."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ensgan.config import SweepSpec, TrackSpec
from ensgan.config.budget import Budget
from ensgan.downstream import import_libraries
from ensgan.errors import InputError, unknown_name
from ensgan.launch.executors import executor_at, runs_here
from ensgan.recording.background import BackgroundRecorder
from ensgan.recording.record import Recording
from ensgan.report.pictures import Pictures
from ensgan.store import default_storage, open_store
from ensgan.sweep.events import OnEvent, StageClock, ignore
from ensgan.sweep.executor import Executor, grow_here
from ensgan.sweep.folder import SweepFolder, sweep_folder
from ensgan.sweep.inputs import member_jobs, resolve, write_inputs
from ensgan.sweep.planning.cost import check_disk
from ensgan.sweep.records import MemberResult
from ensgan.sweep.runner import SweepResult, run
from ensgan.sweep.sweep_file import load_sweep


def run_sweep(
    spec: SweepSpec | Path | str,
    *,
    settings: Sequence[str] = (),
    storage: Path | None = None,
    data_dir: Path | None = None,
    address: str | None = "local",
    allow_open_cluster: bool = False,
    budget: Budget | None = None,
    fresh: bool = False,
    on_event: OnEvent = ignore,
    started: float | None = None,
) -> SweepResult:
    """Run a sweep, or resume it where it was interrupted.

    Args:
        spec: a spec, or the path of a sweep file.
        settings: ``a.b=value`` overrides for a sweep file.
        storage: folder of sweeps and of the local store (default ``ENSGAN_STORAGE`` or
            ``./ensgan-runs``).
        data_dir: where data sets lie (default ``ENSGAN_DATA``).
        address: ``local`` starts Ray here, ``auto`` or ``HOST:PORT`` joins a cluster from one of
            its nodes, ``none`` (or None) runs everything in this process without Ray.
        allow_open_cluster: use a cluster that takes requests from anybody who reaches it.
        budget: where training ends; running again without one trains what it left out.
        fresh: set an earlier sweep of this name aside and start over.
        on_event: called with everything that happens.
        started: when the work began (seconds since the epoch), if before this call.

    Raises:
        InputError: bad spec, data or address, or another process runs this sweep.
        EnsganError: the run failed.
    """
    started = time.time() if started is None else started
    spec = _as_spec(spec, settings)
    resolved = resolve(spec, data_dir)
    folder = _own_folder((storage or default_storage()).resolve(), spec.name, fresh)
    with folder.locked():
        check_disk(resolved, folder.path)
        # Classifiers that run in this process need libraries that two threads must not import at
        # once: they come before the recorder's thread.
        before = import_libraries if runs_here(address) else _nothing
        recorder = _recorder(folder, spec.track, on_event, before)
        with contextlib.ExitStack() as stack:
            stack.enter_context(recorder)

            def open_executor() -> Executor:
                return stack.enter_context(
                    executor_at(
                        address,
                        spec.cluster,
                        folder.path / "tune",
                        allow_open_cluster=allow_open_cluster,
                        budget=budget,
                    )
                )

            clock = StageClock(on_event, started=started)
            return run(
                resolved, folder, open_executor=open_executor, recorder=recorder, clock=clock
            )


def _as_spec(spec: SweepSpec | Path | str, settings: Sequence[str]) -> SweepSpec:
    return spec if isinstance(spec, SweepSpec) else load_sweep(Path(spec), settings)


def _own_folder(storage: Path, name: str, fresh: bool) -> SweepFolder:
    """The sweep's folder; ``fresh`` sets an earlier sweep aside.

    Raises:
        InputError: another process runs that one.
    """
    folder = sweep_folder(storage, name)
    if fresh:
        with folder.locked():
            pass  # nobody else may be running it
        folder.set_aside()
    return folder


def _nothing() -> None:
    """Nothing to prepare."""


def _recorder(
    folder: SweepFolder, track: TrackSpec, on_event: OnEvent, before: Callable[[], None]
) -> BackgroundRecorder:
    storage = folder.path.parents[1]
    return BackgroundRecorder(
        folder,
        lambda: open_store(track.uri, storage=storage, experiment=track.experiment),
        Pictures(),
        on_event,
        before,
    )


def train_one(
    spec: SweepSpec | Path | str,
    gan: str,
    *,
    settings: Sequence[str] = (),
    storage: Path | None = None,
    data_dir: Path | None = None,
    on_event: OnEvent = ignore,
) -> tuple[MemberResult, ...]:
    """Train, sample and score one GAN of a sweep in this process; a later sweep finds it done.

    Raises:
        InputError: bad spec or data, or a GAN that the sweep does not have.
        TrainingError: the GAN cannot be trained further.
    """
    spec = _as_spec(spec, settings)
    resolved = resolve(spec, data_dir)
    folder = sweep_folder((storage or default_storage()).resolve(), spec.name)
    names = [row.name for row in resolved.gans]
    if gan not in names:
        raise InputError(unknown_name(f"GAN of sweep '{spec.name}'", gan, names))
    with folder.locked():
        jobs = member_jobs(resolved, write_inputs(resolved, folder), folder)
        job = next(job for job in jobs if job.name == gan)
        return grow_here(job, on_event)


def sync_sweep(name: str, *, storage: Path | None = None) -> str:
    """Record what a sweep's manifest holds and the store does not yet; the parent's run ID.

    Raises:
        InputError: there is no such sweep.
        StoreError: the store cannot be reached.
    """
    storage = (storage or default_storage()).resolve()
    folder = sweep_folder(storage, name)
    if not folder.has_begun:
        known = [path.name for path in sorted((storage / "sweeps").glob("*")) if path.is_dir()]
        raise InputError(f"{storage}: {unknown_name('sweep', name, known)}")
    with folder.locked():
        track = folder.read().settings.track
        store = open_store(track.uri, storage=storage, experiment=track.experiment)
        run_id = Recording(folder, store, Pictures()).bring_up_to_date()
    assert run_id is not None
    return run_id
