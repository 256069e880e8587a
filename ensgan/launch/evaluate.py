"""``evaluate`` and ``study``: finished sweeps evaluated, on Ray where there is Ray."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ensgan import downstream
from ensgan.config import ClusterSpec
from ensgan.data import load_dataset
from ensgan.ensemble import load_ensemble
from ensgan.errors import EnsganError, InputError
from ensgan.evaluation.evaluate import (
    Evaluation,
    EvaluationOptions,
    OnProgress,
    evaluate_sweep,
)
from ensgan.evaluation.finished_sweep import FinishedSweep, open_sweep
from ensgan.evaluation.other_extractor import OnStage, rescore
from ensgan.evaluation.own_data import check_fits, ensemble_folder, open_handed_over
from ensgan.recording.evaluation import record_evaluation
from ensgan.report.study import StudyPart, study_part
from ensgan.store import default_storage, open_store
from ensgan.sweep.executor import Executor, LocalExecutor
from ensgan.sweep.folder import find_sweep


@dataclass(frozen=True)
class View:
    """How the pool is seen.

    Attributes:
        extractor: another extractor than the sweep's; None keeps the sweep's scores.
        weights: weight file of that extractor.
        count: images of each member to score with it, None for all.
    """

    extractor: str | None = None
    weights: str | None = None
    count: int | None = None

    def __post_init__(self) -> None:
        if self.extractor is None and (self.weights is not None or self.count is not None):
            raise InputError("a weight file or number of images to score needs an extractor")


@dataclass(frozen=True)
class Listener:
    """Who is told: of every classifier, of re-scoring, and of results that were not recorded.

    Results that could not be recorded are on disk, and the same command records them later.
    """

    on_progress: OnProgress = lambda progress: None
    on_stage: OnStage = lambda stage, done, total: None
    on_warning: Callable[[str], None] = lambda message: None


def evaluate(
    source: str,
    options: EvaluationOptions,
    *,
    view: View | None = None,
    storage: Path | None = None,
    uri: str | None = None,
    address: str | None = "local",
    listener: Listener | None = None,
) -> Evaluation:
    """Evaluate strategies on a finished sweep and record them below its run.

    Args:
        source: name, folder or run ID of a sweep.
        options: what to evaluate.
        view: another extractor to see the pool through.
        storage: folder of sweeps and of the local store (default ``ENSGAN_STORAGE`` or
            ``./ensgan-runs``).
        uri: tracking address (default: the sweep's own).
        address: ``local`` starts Ray on this machine (this process does the work where Ray is
            not installed), ``auto``/``HOST:PORT`` joins a cluster, None uses no Ray.
        listener: told of progress.

    Raises:
        InputError: no such sweep, unknown strategies, bad options, or the sweep is running.
        DataError: data on which the metrics would be undefined.
    """
    views = [view or View()]
    (evaluation,) = _evaluations([source], views, options, storage, uri, address, listener)
    return evaluation


@dataclass(frozen=True)
class RealData:
    """Real data to evaluate a handed-over ensemble on: a name or path, and where data sets lie."""

    name: str
    root: Path | None = None


def evaluate_ensemble(
    source: str,
    data: RealData,
    options: EvaluationOptions,
    *,
    storage: Path | None = None,
    uri: str | None = None,
    address: str | None = "local",
    listener: Listener | None = None,
) -> Evaluation:
    """Evaluate the members of a handed-over ensemble on somebody's own data.

    ``selected`` is the ensemble as it is, ``all`` the same with equal weights. The results stay
    on disk, in ``evaluations/`` of the storage.

    Args:
        source: ensemble folder, run ID or ``models:/NAME@ALIAS``.
        data: the real data.
        options, storage, uri, address, listener: as for :func:`evaluate`.

    Raises:
        InputError: no such ensemble or data, or bad options.
        DataError: the ensemble makes other images or classes than the data have.
    """
    storage = (storage or default_storage()).resolve()
    listener = listener or Listener()
    ensemble = load_ensemble(source, storage=storage, uri=uri)
    dataset = load_dataset(data.name, root=data.root, image_size=ensemble.shape.size)
    check_fits(ensemble, dataset)
    downstream.check_dataset(dataset)
    downstream.check_strategies(options.strategies, ensemble.member_names)
    folder = ensemble_folder(ensemble, dataset, storage)
    with folder.locked(), executor_at(address, ClusterSpec(), folder.path / "tune") as executor:
        sweep = open_handed_over(ensemble, dataset, folder, options.seed or 0)
        return evaluate_sweep(sweep, options, executor, listener.on_progress)


def conduct_study(
    sources: Sequence[str],
    views: Sequence[View],
    options: EvaluationOptions,
    *,
    storage: Path | None = None,
    uri: str | None = None,
    address: str | None = "local",
    listener: Listener | None = None,
) -> tuple[StudyPart, ...]:
    """Evaluate every sweep through every view; arguments and errors as :func:`evaluate`."""
    found = _evaluations(sources, views, options, storage, uri, address, listener)
    return tuple(study_part(evaluation) for evaluation in found)


def _evaluations(
    sources: Sequence[str],
    views: Sequence[View],
    options: EvaluationOptions,
    storage: Path | None,
    uri: str | None,
    address: str | None,
    listener: Listener | None,
) -> list[Evaluation]:
    storage = (storage or default_storage()).resolve()
    listener = listener or Listener()
    folders = [find_sweep(source, storage) for source in sources]
    with contextlib.ExitStack() as stack:
        for folder in {folder.path: folder for folder in folders}.values():
            stack.enter_context(folder.locked())
        sweeps = [open_sweep(str(folder.path), storage) for folder in folders]
        cluster = sweeps[0].spec.cluster
        executor = stack.enter_context(executor_at(address, cluster, folders[0].path / "tune"))
        found = []
        for sweep in sweeps:
            for view in views:
                seen = _seen(sweep, view, executor, listener)
                evaluation = evaluate_sweep(seen, options, executor, listener.on_progress)
                _record(evaluation, uri, storage, listener)
                found.append(evaluation)
    return found


def _seen(
    sweep: FinishedSweep, view: View, executor: Executor, listener: Listener
) -> FinishedSweep:
    if view.extractor is None:
        return sweep
    return rescore(
        sweep,
        view.extractor,
        executor,
        weights=view.weights,
        count=view.count,
        on_stage=listener.on_stage,
    )


def _record(evaluation: Evaluation, uri: str | None, storage: Path, listener: Listener) -> None:
    track = evaluation.sweep.spec.track
    try:
        store = open_store(uri or track.uri, storage=storage, experiment=track.experiment)
        record_evaluation(evaluation, store)
    except EnsganError as error:
        listener.on_warning(f"not recorded: {error}; running the same command again records it")


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
