"""The downstream stage: every strategy, every repeat, each one a resumable job."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from ensgan import downstream
from ensgan.config import EvaluateSpec
from ensgan.downstream.pool import Maker
from ensgan.errors import DataError
from ensgan.files import MISFITS, content_key, is_whole, read_json, seal, write_json
from ensgan.search import select
from ensgan.sweep.executor import Executor, Needs
from ensgan.sweep.fresh_images import KEPT_BYTES, GeneratorFile, Sampling
from ensgan.sweep.member_job import purpose_seed
from ensgan.sweep.records import MemberResult
from ensgan.types import Dataset, Front, PoolScores, Samples, Selection
from ensgan.zoo import SAMPLING_REVISION

REVISION = 1
LONGER = 10
"""Factor on the training steps of the control that shows what real images can teach."""
EVALUATION = "downstream"
"""Purpose of the classifiers of the downstream table; others choose G*."""
RULE = "downstream"
"""The selection rule that trains classifiers to choose G*."""


@dataclass(frozen=True)
class DatasetFiles:
    """A data set on shared storage, so that jobs carry paths and not images."""

    name: str
    class_names: tuple[str, ...]
    key: str
    splits: Mapping[str, Path]

    @classmethod
    def write(cls, dataset: Dataset, folder: Path) -> DatasetFiles:
        """Write the splits under the data set's content key; files that are whole are kept."""
        paths = {}
        for name, split in dataset.splits().items():
            paths[name] = folder / f"{dataset.key[:16]}-{name}.npz"
            if not is_whole(paths[name]):
                split.save(paths[name])
                seal(paths[name])
        return cls(dataset.name, dataset.class_names, dataset.key, paths)

    def load(self) -> Dataset:
        """Read the data set back.

        Raises:
            DataError: a file is missing or damaged, or its images are not those of then.
        """
        dataset = self.read()
        self.check(dataset)
        return dataset

    def read(self) -> Dataset:
        """Read the files, whatever they hold now."""
        splits = {name: Samples.load(path) for name, path in self.splits.items()}
        return Dataset(self.name, splits["train"], splits["val"], splits["test"], self.class_names)

    def check(self, dataset: Dataset) -> None:
        """Refuse images that are not those the files were written with; errors as :meth:`load`."""
        if dataset.key != self.key:
            folder = self.splits["train"].parent
            raise DataError(
                f"the images of {self.name} in {folder} are not those the sweep began with: delete "
                "that folder and run `ensgan sweep` again, which writes it anew"
            )


@dataclass(frozen=True)
class FileBank:
    """Images of members: from files, or made anew by generators."""

    paths: Mapping[str, Path]
    generators: Mapping[str, GeneratorFile] = field(default_factory=dict)

    def maker(self, name: str, device: str) -> Maker | None:
        """The generator of one member; None for a member that has none here."""
        found = self.generators.get(name)
        weights = sum(each.path.stat().st_size for each in self.generators.values())
        return None if found is None else found.maker(device, keep=weights <= KEPT_BYTES)

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
    def label(self) -> str:
        """What Ray's pages call its task."""
        return f"evaluate {self.strategy.name}, repeat {self.repeat}"

    @property
    def key(self) -> str:
        """Content key of everything the result depends on.

        The strategy's name is no part of it: two strategies with the same members share results.
        """
        members = {name: self.bank.paths[name].name for name in self.strategy.members}
        weights = {name: each.sha256 for name, each in self.bank.generators.items()}
        return content_key(
            *((SAMPLING_REVISION, weights) if weights else ()),
            REVISION,
            {**self.strategy.to_json(), "name": ""},
            members,
            self.repeat,
            self.dataset.key,
            self.settings,
            self.seed,
        )

    @property
    def path(self) -> Path:
        """Result file, named by the key."""
        return self.folder / f"{self.strategy.kind}-{self.repeat}-{self.key}.json"


def evaluate(job: EvaluateJob) -> dict[str, Any]:
    """Train and test one classifier, or read the result of doing so.

    Returns:
        ``{"result": RepeatResult as JSON, "work": [[start, end]], "cached": bool}``.
    """
    known = known_result(job)
    if known is not None:
        return known
    begin = time.time()
    result = downstream.run_repeat(
        job.strategy,
        job.repeat,
        dataset=job.dataset.load(),
        bank=job.bank,
        settings=job.settings,
        seed=job.seed,
    )
    value = {"key": job.key, "result": result.to_json(), "work": [[begin, time.time()]]}
    write_json(job.path, value)
    return {**value, "cached": False}


def known_result(job: EvaluateJob) -> dict[str, Any] | None:
    """The result of an earlier :func:`evaluate`; None where there is none or another's.

    A damaged file or one that lies under another's name is as good as none: it is made again.
    """
    try:
        value = dict(read_json(job.path))
        result = downstream.RepeatResult.from_json(value["result"])
        work = [(float(begin), float(end)) for begin, end in value["work"]]
    except (DataError, *MISFITS):
        return None
    same = replace(result.strategy, name="") == replace(job.strategy, name="")
    # Early versions wrote no key.
    if not same or result.repeat != job.repeat or value.get("key", job.key) != job.key:
        return None
    shown = {**value["result"], "strategy": job.strategy.to_json()}
    return {"result": shown, "work": work, "cached": True}


def classifier_settings(spec: EvaluateSpec) -> downstream.ClassifierSettings:
    """The classifier that a sweep's ``evaluate`` section describes."""
    names = {field.name for field in fields(downstream.ClassifierSettings)}
    return downstream.ClassifierSettings(**spec.model_dump(include=names))


@dataclass(frozen=True, kw_only=True)
class Classifiers:
    """The classifiers of a pool: trained wherever the executor runs things, or found trained.

    Attributes:
        dataset: the real images.
        members: of the pool, by name.
        settings: network and training.
        seed: of the sweep; each use draws its own from it.
        folder: where results are kept.
        executor: asked for only where a result is not yet on disk.
        on_done: called for every classifier, with what :func:`evaluate` gives and how many are
            ``done`` ``of`` how many.
        sampling: members that make new images in every epoch of the evaluation. What only chooses
            G* trains on their banks.
    """

    dataset: DatasetFiles
    members: Mapping[str, MemberResult]
    settings: downstream.ClassifierSettings
    seed: int
    folder: Path
    executor: Callable[[], Executor]
    on_done: Callable[[dict[str, Any]], None]
    sampling: Sampling = field(default_factory=Sampling)

    def strategies(
        self,
        names: Sequence[str],
        scores: PoolScores,
        front: Front,
        selection: Selection,
        *,
        weights: str,
        n_times: int,
    ) -> tuple[downstream.Strategy, ...]:
        """The strategies of these names, resolved to members and reweighted.

        Args:
            scores: of the pool.
            front, selection: G* and the front it was chosen from.
            weights, n_times: see :func:`ensgan.downstream.reweighted`.
        """
        strategies = downstream.build_strategies(
            names,
            scores=scores,
            front=front,
            selection=selection,
            seed=purpose_seed(self.seed, "strategies"),
        )
        return downstream.reweighted(strategies, weights, scores, n_times)

    def jobs(
        self, strategies: Sequence[downstream.Strategy], repeats: int, purpose: str = EVALUATION
    ) -> list[EvaluateJob]:
        """One job per repeat and strategy.

        Repeats are the outer loop, so that an evaluation that is stopped half-way has compared
        all strategies, and what is slow to train is not left to the end.
        """
        return [self.job(each, i, purpose) for i in range(repeats) for each in strategies]

    def job(self, strategy: downstream.Strategy, repeat: int, purpose: str) -> EvaluateJob:
        """One classifier; its seed follows from the sweep's and from what it is for."""
        return EvaluateJob(
            strategy=strategy,
            repeat=repeat,
            dataset=self.dataset,
            bank=self._bank(strategy.members, purpose),
            settings=self.settings,
            seed=purpose_seed(self.seed, purpose),
            folder=self.folder,
        )

    def _bank(self, members: Sequence[str], purpose: str) -> FileBank:
        generators = self.sampling.generators if purpose == EVALUATION else {}
        return FileBank(
            {name: self.members[name].samples for name in members},
            {name: generators[name] for name in members if name in generators},
        )

    def run(self, jobs: Sequence[EvaluateJob]) -> list[downstream.RepeatResult]:
        """One result per job, in their order; jobs with equal content run only once.

        Raises:
            IntegrityError: images that a classifier would train on have changed.
        """
        different = {job.path: job for job in jobs}
        values: dict[Path, dict[str, Any]] = {}
        counted = itertools.count(1)

        def on_done(value: dict[str, Any]) -> None:
            self.on_done({**value, "done": next(counted), "of": len(different)})

        for path, job in different.items():
            known = known_result(job)
            if known is not None:
                values[path] = known
                on_done(known)
        missing = {path: job for path, job in different.items() if path not in values}
        if missing:
            for name in sorted({name for job in missing.values() for name in job.bank.paths}):
                self.members[name].unchanged("samples")
            files = {g.path: g for job in missing.values() for g in job.bank.generators.values()}
            for generator in files.values():
                generator.unchanged()
            rest, needs = list(missing.values()), Needs.on(self.settings.device)
            made = self.executor().map(evaluate, rest, on_done=on_done, needs=needs)
            values.update(zip(missing, made, strict=True))
        results = {
            path: downstream.RepeatResult.from_json(value["result"])
            for path, value in values.items()
        }
        return [replace(results[job.path], strategy=job.strategy) for job in jobs]

    def compare(self, jobs: Sequence[EvaluateJob]) -> downstream.DownstreamTable:
        """Run the jobs and compare their strategies with G*.

        Where the classifiers on real images leave it open, one more, with ten times the steps,
        tells whether they were trained enough to tell strategies apart.
        """
        results = self.run(jobs)
        possible = None
        if downstream.needs_long_real(results):
            first = next(job for job in jobs if job.strategy.name == "real")
            named = replace(first.strategy, name=f"real, {LONGER} times the steps")
            longer = replace(first, strategy=named, settings=first.settings.longer(LONGER))
            possible = self.run([longer])[0].metrics["auc"]
        table = downstream.summarise(results, "selected", possible)
        return replace(table, sampling=self.sampling.reason)

    def choose(self, front: Front, points: int, repeats: int) -> Selection:
        """Train classifiers on front points and take the point with the best validation score.

        The score is the balanced accuracy on the validation split, averaged over the repeats; the
        test split has no part in it.

        Args:
            front: all points; ``points`` of them, evenly spread, are tried.
            repeats: classifiers per point.
        """
        tried = downstream.spread_points(front, points)
        strategies = [
            downstream.Strategy(f"front/{index + 1}", point.members, point.weights)
            for index, point in enumerate(tried)
        ]
        results = self.run(self.jobs(strategies, repeats, "select"))
        scores = [
            float(np.mean([r.val_score for r in results if r.strategy.name == strategy.name]))
            for strategy in strategies
        ]
        return select(replace(front, points=tried), RULE, validation_scores=scores)
