"""``evaluate`` and ``study``: evaluate finished sweeps, on Ray if it is installed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ensgan import downstream
from ensgan.config import ClusterSpec, EvaluateSpec
from ensgan.data import load_dataset
from ensgan.ensemble import load_ensemble
from ensgan.errors import EnsganError, InputError
from ensgan.evaluation.evaluate import (
    Evaluation,
    EvaluationOptions,
    OnProgress,
    evaluate_sweep,
)
from ensgan.evaluation.finished_sweep import OnStage, open_sweep, rescore
from ensgan.evaluation.own_data import check_fits, ensemble_folder, open_handed_over
from ensgan.launch.executors import executor_at
from ensgan.recording.state import record_evaluation
from ensgan.store import default_storage, open_store
from ensgan.sweep.executor import Executor
from ensgan.sweep.folder import SweepFolder, find_sweep


@dataclass(frozen=True)
class View:
    """Which extractor the pool is scored with.

    Attributes:
        extractor: a different one; None keeps the sweep's scores.
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
class Place:
    """Where sweeps lie, where results are recorded, and where work runs.

    Attributes:
        storage: folder of sweeps and of the local store (default ``ENSGAN_STORAGE`` or
            ``./ensgan-runs``).
        uri: tracking address (default: the sweep's own).
        address, allow_open_cluster: see :func:`ensgan.launch.executors.executor_at`.
    """

    storage: Path | None = None
    uri: str | None = None
    address: str | None = "local"
    allow_open_cluster: bool = False

    @property
    def folder(self) -> Path:
        """The storage, absolute."""
        return (self.storage or default_storage()).resolve()

    def executor(
        self, cluster: ClusterSpec, folder: SweepFolder
    ) -> contextlib.AbstractContextManager[Executor]:
        """What runs the work of the sweep or ensemble in ``folder``."""
        tune_folder = folder.path / "tune"
        return executor_at(
            self.address, cluster, tune_folder, allow_open_cluster=self.allow_open_cluster
        )


@dataclass(frozen=True)
class Listener:
    """What an evaluation calls: for every classifier, while re-scoring, and for warnings.

    One of the warnings concerns results that could not be recorded: they are kept on disk, and the
    same command records them later.
    """

    on_progress: OnProgress = lambda progress: None
    on_stage: OnStage = lambda stage, done, total: None
    on_warning: Callable[[str], None] = lambda message: None


def section_of(source: str, place: Place) -> EvaluateSpec:
    """The ``evaluate`` section of a sweep.

    Raises:
        InputError: no such sweep.
        DataError: its manifest is damaged.
    """
    return find_sweep(source, place.folder).read().settings.evaluate


def evaluate_ensemble(
    source: str,
    data: str,
    options: EvaluationOptions,
    *,
    data_dir: Path | None = None,
    place: Place | None = None,
    listener: Listener | None = None,
) -> Evaluation:
    """Evaluate the members of a handed-over ensemble on the user's own data.

    ``selected`` is the ensemble as it is, ``all`` the same with equal weights. Results are kept in
    ``evaluations/`` of the storage.

    Args:
        source: ensemble folder, run ID or ``models:/NAME@ALIAS``.
        data: the real data, a name or path.
        data_dir: where data sets lie.
        options, place, listener: as for :func:`evaluate_sweeps`.

    Raises:
        InputError: no such ensemble or data, or bad options.
        DataError: the ensemble makes other images or classes than the data have.
    """
    place, listener = place or Place(), listener or Listener()
    ensemble = load_ensemble(source, storage=place.folder, uri=place.uri)
    dataset = load_dataset(data, root=data_dir, image_size=ensemble.shape.size)
    check_fits(ensemble, dataset)
    downstream.check_dataset(dataset)
    downstream.check_strategies(options.strategies, ensemble.member_names)
    folder = ensemble_folder(ensemble, dataset, place.folder)
    with folder.locked(), place.executor(ClusterSpec(), folder) as executor:
        sweep = open_handed_over(ensemble, dataset, folder, options.seed or 0)
        return evaluate_sweep(sweep, options, executor, listener.on_progress)


def evaluate_sweeps(
    sources: Sequence[str],
    views: Sequence[View],
    options: EvaluationOptions,
    place: Place | None = None,
    listener: Listener | None = None,
) -> list[Evaluation]:
    """Evaluate strategies on finished sweeps, through every view, and record them below their runs.

    Args:
        sources: names, folders or run IDs of sweeps.
        views: extractors to score the pools with.
        options: what to evaluate.
        place: where sweeps lie and work runs (default: on this machine).
        listener: called with progress.

    Raises:
        InputError: no such sweep or cluster, unknown strategies, bad options, or a sweep is
            running.
        DataError: data on which the metrics would be undefined.
    """
    place, listener = place or Place(), listener or Listener()
    storage = place.folder
    folders = [find_sweep(source, storage) for source in sources]
    evaluations = []
    with contextlib.ExitStack() as stack:
        for folder in {folder.path: folder for folder in folders}.values():
            stack.enter_context(folder.locked())
        sweeps = [open_sweep(str(folder.path), storage) for folder in folders]
        executor = stack.enter_context(place.executor(sweeps[0].spec.cluster, folders[0]))
        for sweep in sweeps:
            for view in views:
                scored = sweep
                if view.extractor is not None:
                    asked = (view.extractor, executor, view.weights, view.count)
                    scored = rescore(sweep, *asked, listener.on_stage)
                evaluation = evaluate_sweep(scored, options, executor, listener.on_progress)
                evaluations.append(evaluation)
                track = sweep.spec.track
                try:
                    uri = place.uri or track.uri
                    store = open_store(uri, storage=storage, experiment=track.experiment)
                    record_evaluation(evaluation, store)
                except EnsganError as error:
                    again = "running the same command again records it"
                    listener.on_warning(f"not recorded: {error}; {again}")
    return evaluations
