"""The downstream stage: every strategy, every repeat, each one a resumable job."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ensgan import downstream
from ensgan.config import EvaluateSpec
from ensgan.files import content_key, read_json, write_json
from ensgan.search import select
from ensgan.sweep.executor import Executor
from ensgan.types import Dataset, Front, Samples, Selection

REVISION = 1
RULE = "downstream"
"""The selection rule whose choice classifiers make."""


@dataclass(frozen=True)
class DatasetFiles:
    """A data set on shared storage, so that jobs carry paths and not images."""

    name: str
    class_names: tuple[str, ...]
    key: str
    splits: Mapping[str, Path]

    @classmethod
    def write(cls, dataset: Dataset, folder: Path) -> DatasetFiles:
        """Write the splits under the data set's content key; existing files are kept."""
        paths = {}
        for name, split in dataset.splits().items():
            paths[name] = folder / f"{dataset.key[:16]}-{name}.npz"
            if not paths[name].exists():
                split.save(paths[name])
        return cls(dataset.name, dataset.class_names, dataset.key, paths)

    def load(self) -> Dataset:
        """Read the data set back."""
        splits = {name: Samples.load(path) for name, path in self.splits.items()}
        return Dataset(self.name, splits["train"], splits["val"], splits["test"], self.class_names)


@dataclass(frozen=True)
class FileBank:
    """Sample bank whose members' images lie in files."""

    paths: Mapping[str, Path]

    def load(self, name: str) -> Samples:
        """Images of one member."""
        return Samples.load(self.paths[name])


@dataclass(frozen=True)
class EvaluateJob:
    """One classifier: a strategy, a repeat, and all it trains on."""

    strategy: downstream.Strategy
    repeat: int
    dataset: DatasetFiles
    bank: FileBank
    settings: downstream.ClassifierSettings
    seed: int
    folder: Path

    @property
    def path(self) -> Path:
        """Result file, named by everything the result depends on.

        The strategy's name is no part of it: two strategies with the same members share results.
        """
        members = {name: self.bank.paths[name].name for name in self.strategy.members}
        key = content_key(
            REVISION,
            {**self.strategy.to_json(), "name": ""},
            members,
            self.repeat,
            self.dataset.key,
            self.settings,
            self.seed,
        )
        return self.folder / f"{self.strategy.kind}-{self.repeat}-{key}.json"


def evaluate(job: EvaluateJob) -> dict[str, Any]:
    """Train and test one classifier, or read the result of doing so.

    Returns:
        ``{"result": RepeatResult as JSON, "work": [[start, end]], "cached": bool}``.
    """
    if job.path.exists():
        value: dict[str, Any] = read_json(job.path)
        value["result"]["strategy"] = job.strategy.to_json()
        return {**value, "cached": True}
    begin = time.time()
    result = downstream.run_repeat(
        job.strategy,
        job.repeat,
        dataset=job.dataset.load(),
        bank=job.bank,
        settings=job.settings,
        seed=job.seed,
    )
    value = {"result": result.to_json(), "work": [[begin, time.time()]]}
    write_json(job.path, value)
    return {**value, "cached": False}


def classifier_settings(spec: EvaluateSpec) -> downstream.ClassifierSettings:
    """The classifier that a sweep's ``evaluate`` section describes."""
    return downstream.ClassifierSettings(
        epochs=spec.epochs,
        batch=spec.batch,
        width=spec.width,
        images_per_epoch=spec.images_per_epoch,
        labels=spec.labels,
        memory_mb=spec.memory_mb,
        device=spec.device,
    )


def evaluation_jobs(
    strategies: Sequence[downstream.Strategy],
    repeats: int,
    *,
    dataset: DatasetFiles,
    samples: Mapping[str, Path],
    settings: downstream.ClassifierSettings,
    seed: int,
    folder: Path,
) -> list[EvaluateJob]:
    """One job a repeat and strategy.

    Repeats are the outer loop, so that an evaluation that is stopped half-way has compared all
    strategies, and what is slow to train is not left to the end.

    Args:
        samples: file with the images of every member that a strategy names.
        folder: where results are kept.
    """
    return [
        EvaluateJob(
            strategy=strategy,
            repeat=repeat,
            dataset=dataset,
            bank=FileBank({name: samples[name] for name in strategy.members}),
            settings=settings,
            seed=seed,
            folder=folder,
        )
        for repeat in range(repeats)
        for strategy in strategies
    ]


def run_jobs(
    jobs: Sequence[EvaluateJob], executor: Executor, on_done: Callable[[dict[str, Any]], None]
) -> list[downstream.RepeatResult]:
    """Run the jobs wherever the executor runs things; those with equal content only once.

    Args:
        on_done: told of every job that was run, with what :func:`evaluate` gave.

    Returns:
        One result a job, in their order.
    """
    different = {job.path: job for job in jobs}
    values = executor.map(evaluate, list(different.values()), on_done=on_done)
    by_path = {
        path: downstream.RepeatResult.from_json(value["result"])
        for path, value in zip(different, values, strict=True)
    }
    return [replace(by_path[job.path], strategy=job.strategy) for job in jobs]


def compare_strategies(
    jobs: Sequence[EvaluateJob], executor: Executor, on_done: Callable[[dict[str, Any]], None]
) -> downstream.DownstreamTable:
    """Run the jobs and compare their strategies with G*.

    Where the classifiers on real images leave it open, one more, with ten times the steps, tells
    whether they were trained enough to tell strategies apart.
    """
    results = run_jobs(jobs, executor, on_done)
    possible = None
    if downstream.needs_long_real(results):
        first = next(job for job in jobs if job.strategy.name == "real")
        (long,) = run_jobs([replace(first, strategy=downstream.LONG_REAL)], executor, on_done)
        possible = long.metrics["auc"]
    return downstream.summarise(results, "selected", possible)


def choose_downstream(
    front: Front,
    *,
    points: int,
    repeats: int,
    dataset: DatasetFiles,
    samples: Mapping[str, Path],
    settings: downstream.ClassifierSettings,
    seed: int,
    folder: Path,
    executor: Executor,
    on_done: Callable[[dict[str, Any]], None],
) -> Selection:
    """Train classifiers on front points and take the point with the best validation score.

    The score is the balanced accuracy on the validation split, averaged over the repeats; the
    test split has no part in it.

    Args:
        front: all points; ``points`` of them, evenly spread, are tried.
        repeats: classifiers a point.
        dataset, samples, settings, seed, folder: as :func:`evaluation_jobs` wants them.
        executor: where classifiers are trained.
        on_done: told of every classifier.
    """
    tried = downstream.spread_points(front, points)
    strategies = [
        downstream.Strategy(f"front/{index + 1}", point.members, point.weights)
        for index, point in enumerate(tried)
    ]
    jobs = evaluation_jobs(
        strategies,
        repeats,
        dataset=dataset,
        samples=samples,
        settings=settings,
        seed=seed,
        folder=folder,
    )
    results = run_jobs(jobs, executor, on_done)
    scores = [
        float(np.mean([r.val_score for r in results if r.strategy.name == strategy.name]))
        for strategy in strategies
    ]
    return select(replace(front, points=tried), RULE, validation_scores=scores)
