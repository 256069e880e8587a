"""``evaluate``: the downstream table of a finished sweep, on Ray where there is Ray."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path

from ensgan.config import ClusterSpec
from ensgan.errors import EnsganError
from ensgan.pipeline.evaluation import (
    Evaluation,
    EvaluationOptions,
    OnProgress,
    evaluate_sweep,
)
from ensgan.pipeline.executor import Executor, LocalExecutor
from ensgan.pipeline.finished import find_sweep, open_sweep
from ensgan.pipeline.record_evaluation import record_evaluation
from ensgan.store import default_storage, open_store


def evaluate(
    source: str,
    options: EvaluationOptions,
    *,
    storage: Path | None = None,
    uri: str | None = None,
    address: str | None = "local",
    on_progress: OnProgress = lambda progress: None,
    on_warning: Callable[[str], None] = lambda message: None,
) -> Evaluation:
    """Evaluate strategies on a finished sweep and record them below its run.

    Args:
        source: name, folder or run ID of a sweep.
        options: what to evaluate.
        storage: folder of sweeps and of the local store (default ``ENSGAN_STORAGE`` or
            ``./ensgan-runs``).
        uri: tracking address (default: the sweep's own).
        address: ``local`` starts Ray on this machine (this process does the work where Ray is
            not installed), ``auto``/``ray://…`` joins a cluster, None uses no Ray.
        on_progress: told of every classifier.
        on_warning: told when the results could not be recorded; they are on disk then, and the
            same command records them later.

    Raises:
        InputError: no such sweep, unknown strategies, bad options, or the sweep is running.
        DataError: data on which the metrics would be undefined.
    """
    storage = (storage or default_storage()).resolve()
    folder = find_sweep(source, storage)
    with folder.locked():
        sweep = open_sweep(source, storage)
        with executor_at(address, sweep.spec.cluster, folder.path / "tune") as executor:
            evaluation = evaluate_sweep(sweep, options, executor, on_progress)
        track = sweep.spec.track
        try:
            store = open_store(uri or track.uri, storage=storage, experiment=track.experiment)
            record_evaluation(evaluation, store)
        except EnsganError as error:
            on_warning(f"not recorded: {error}; running the same command again records it")
    return evaluation


@contextlib.contextmanager
def executor_at(address: str | None, settings: ClusterSpec, folder: Path) -> Iterator[Executor]:
    """Ray at the address, or this process (no address, or no Ray on this machine)."""
    if address is None or (address == "local" and importlib.util.find_spec("ray") is None):
        yield LocalExecutor()
        return
    from ensgan.cluster.executor import RayExecutor
    from ensgan.cluster.session import ray_session

    with ray_session(address):
        yield RayExecutor(settings, folder)
