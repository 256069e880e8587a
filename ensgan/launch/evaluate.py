"""``evaluate`` and ``study``: finished sweeps, and ensembles without theirs on the user's data."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ensgan import downstream, embedding, metrics
from ensgan.config import ClusterSpec, EvaluateSpec, parse_spec
from ensgan.data import load_dataset
from ensgan.ensemble import Ensemble, load_ensemble
from ensgan.errors import DataError, EnsganError, InputError
from ensgan.evaluation.evaluate import (
    HANDED_OVER,
    Evaluation,
    EvaluationOptions,
    OnProgress,
    evaluate_sweep,
)
from ensgan.evaluation.finished_sweep import FinishedSweep, OnStage, open_sweep, rescore
from ensgan.evaluation.finished_sweep import View as View
from ensgan.files import content_key, map_array, sha256_file
from ensgan.launch.executors import executor_at
from ensgan.report.record_state import record_evaluation
from ensgan.search import Evaluator, pool_key
from ensgan.store import default_storage, open_store
from ensgan.sweep.executor import Executor
from ensgan.sweep.folder import SweepFolder, find_sweep
from ensgan.sweep.inputs import embedding_inputs
from ensgan.sweep.member_job import purpose_seed, sample_labels
from ensgan.sweep.records import DatasetFiles, MemberResult
from ensgan.types import Dataset, Front, PoolScores, Samples, Selection
from ensgan.zoo import GANSpec


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
                scored = rescore(sweep, view, executor, listener.on_stage)
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


def ensemble_folder(ensemble: Ensemble, dataset: Dataset, storage: Path) -> SweepFolder:
    """Where results of this ensemble on these data are kept."""
    key = content_key(sha256_file(ensemble.folder / "ensemble.json"), dataset.key)
    return SweepFolder(storage / "evaluations" / f"{dataset.name.replace('/', '_')}-{key}")


def open_handed_over(
    ensemble: Ensemble, dataset: Dataset, folder: SweepFolder, seed: int = 0
) -> FinishedSweep:
    """Draw images of the members, score them against the data, and take the whole as G*.

    Every member gets about as many images as the training split has, times its share of the
    ensemble. The pool is scored with the extractor ``random``.

    Args:
        ensemble: of two or more members.
        dataset: real data of the same image shape and classes.
        folder: keeps images and features.
        seed: of the images.

    Raises:
        DataError: images or classes of the ensemble are not those of the data.
        InputError: a single member.
    """
    spec = parse_spec({"name": "handed-over", "seed": seed, "dataset": {"name": dataset.name}})
    files = DatasetFiles.write(dataset, folder.path / "data")
    inputs = embedding_inputs(spec, dataset, files, folder)
    drawn = _drawn(ensemble, dataset, folder, inputs.scoring.extractor, seed)
    scores = metrics.score_pool(
        map_array(inputs.scoring.reference),
        [map_array(features) for _, features in drawn],
        ensemble.member_names,
        extractor=inputs.scoring.extractor_key,
    )
    evaluator = Evaluator(scores)
    point = evaluator.weighted_point(range(len(ensemble)), ensemble.weights)
    return FinishedSweep(
        folder=folder,
        spec=spec,
        dataset=files,
        members=_members(ensemble, drawn, scores),
        scores=scores,
        front=Front(
            objectives=tuple(axis.text for axis in evaluator.tables.axes),
            sampler=HANDED_OVER,
            seed=seed,
            trials=1,
            distinct=1,
            seconds=0.0,
            hypervolume=0.0,
            points=(point,),
            pool=pool_key(scores),
            named_form=evaluator.tables.form,
        ),
        selected=Selection(
            HANDED_OVER, point, f"the ensemble in {ensemble.folder.name}, with its own weights"
        ),
        rows={
            entry.name: GANSpec.from_json(entry.gan)
            for entry in ensemble.manifest.members
            if entry.gan is not None
        },
    )


def check_fits(ensemble: Ensemble, dataset: Dataset) -> None:
    """Refuse an ensemble of other images or classes than the data.

    Raises:
        DataError: it is.
        InputError: it has a single member.
    """
    if ensemble.shape != dataset.shape:
        ours, theirs = ensemble.shape, dataset.shape
        raise DataError(
            f"the ensemble makes images of {ours.size}×{ours.size} with {ours.channels} "
            f"channel(s), those of {dataset.name} are {theirs.size}×{theirs.size} with "
            f"{theirs.channels}: evaluate it on data like those it was trained on"
        )
    # Data without names for their classes call them 0, 1, …
    unnamed = all(name.isdigit() for name in dataset.class_names)
    same = len(ensemble.class_names) == dataset.num_classes
    if not same or (not unnamed and ensemble.class_names != dataset.class_names):
        raise DataError(
            f"the ensemble makes the classes {', '.join(ensemble.class_names)}, {dataset.name} "
            f"has {', '.join(dataset.class_names)}: evaluate it on data with its own classes"
        )
    if len(ensemble) < 2:
        raise InputError("the ensemble has a single member: there is nothing to compare")


def _drawn(
    ensemble: Ensemble, dataset: Dataset, folder: SweepFolder, extractor: Path, seed: int
) -> list[tuple[Path, Path]]:
    """Files with the images and the features of every member, drawn once."""
    paths = [
        (
            folder.file("samples", f"{name}-{seed}.npz"),
            folder.file("features", f"{name}-{seed}.npy"),
        )
        for name in ensemble.member_names
    ]
    if not all(path.exists() for pair in paths for path in pair):
        count = len(dataset.train) * len(ensemble)
        seeds = purpose_seed(seed, "handed over")
        labels = sample_labels(dataset.train.labels, dataset.num_classes, count, "training", seeds)
        # Members are drawn at random, so a bank may be asked for a few more images than it has.
        drawn = ensemble.sample(count, labels, seeds, replacement=True)
        assert drawn.members is not None
        network = embedding.load_extractor(extractor)
        for index, (images_path, features_path) in enumerate(paths):
            rows = np.flatnonzero(drawn.members == index)
            samples = Samples(drawn.images[rows], drawn.labels[rows])
            samples.save(images_path)
            embedding.write_features(features_path, samples.images, network)
    return paths


def _members(
    ensemble: Ensemble, drawn: Sequence[tuple[Path, Path]], scores: PoolScores
) -> tuple[MemberResult, ...]:
    manifest = ensemble.manifest
    return tuple(
        MemberResult(
            name=entry.name,
            weights=ensemble.folder / entry.file,
            sha256=manifest.files[entry.file].sha256,
            samples=samples,
            features=features,
            density=float(scores.density[index]),
            coverage=float(scores.coverage[index]),
            intra_d=float(scores.intra_d[index]),
            metrics={},
            health=(),
            seconds={},
            work=(),
        )
        for index, (entry, (samples, features)) in enumerate(
            zip(manifest.members, drawn, strict=True)
        )
    )
