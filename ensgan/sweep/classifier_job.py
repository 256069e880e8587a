"""The downstream stage: one resumable job per strategy and repeat."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import numpy as np

from ensgan import downstream
from ensgan.config import EvaluateSpec
from ensgan.errors import DataError, TrainingError
from ensgan.files import MISFITS, content_key, read_json, write_json
from ensgan.search import select
from ensgan.sweep.executor import Executor, Needs
from ensgan.sweep.inputs import FileBank, Sampling
from ensgan.sweep.member_job import purpose_seed
from ensgan.sweep.records import DatasetFiles, Interval, MemberResult
from ensgan.types import Front, PoolScores, Selection
from ensgan.zoo import SAMPLING_REVISION

REVISION = 1
TOGETHER = 20
"""Most classifiers that a GPU trains as one batch of networks."""
LONGER = 10
"""Factor on the training steps of the control that shows what real images can achieve."""
EVALUATION = "downstream"
"""Purpose of the classifiers of the downstream table; others choose G*."""
RULE = "downstream"
"""The selection rule that trains classifiers to choose G*."""


@dataclass(frozen=True)
class EvaluateJob:
    """One classifier: a strategy, a repeat, and all that it trains on."""

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

        The strategy's name is not part of it: strategies with equal members share results.
        """
        members = {name: self.bank.paths[name].name for name in self.strategy.members}
        weights = {name: each.sha256 for name, each in self.bank.generators.items()}
        return content_key(
            *((SAMPLING_REVISION, weights) if weights else ()),
            # auto is what all were trained with before there was a choice.
            *((precision,) if (precision := self.settings.precision) != "auto" else ()),
            REVISION,
            {**asdict(self.strategy), "name": ""},
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


@dataclass(frozen=True)
class EvaluateJobs:
    """Classifiers of one data set, seed and settings that a GPU trains together."""

    jobs: tuple[EvaluateJob, ...]

    @property
    def label(self) -> str:
        """What Ray's pages call its task."""
        more = len(self.jobs) - 1
        return self.jobs[0].label + (f" and {more} more" if more else "")


@dataclass(frozen=True)
class Trained:
    """A classifier's result.

    Attributes:
        result: under the name of the strategy that asked for it.
        work: when it was trained; None if it was read from disk.
    """

    result: downstream.RepeatResult
    work: Interval | None = None


def evaluate(task: EvaluateJobs) -> list[Trained]:
    """Train and test classifiers, or read the results of doing so; one for each job."""
    known = {job.path: known_result(job) for job in task.jobs}
    left = tuple(job for job in task.jobs if known[job.path] is None)
    if left:
        known.update(zip((job.path for job in left), _trained(left), strict=True))
    return [trained for job in task.jobs if (trained := known[job.path]) is not None]


def _trained(jobs: tuple[EvaluateJob, ...]) -> list[Trained]:
    """Train classifiers and keep what they achieve."""
    first, begin = jobs[0], time.time()
    banks = {job.strategy.members: job.bank for job in jobs}  # one loads what several train on
    try:
        results = downstream.run_repeats(
            [
                downstream.Repeat(job.strategy, job.repeat, banks[job.strategy.members])
                for job in jobs
            ],
            dataset=first.dataset.load(),
            settings=first.settings,
            seed=first.seed,
        )
    except TrainingError:
        if len(jobs) == 1:
            raise
        return _halved(jobs)
    part = (time.time() - begin) / len(jobs)  # of the time, which each is charged
    trained = []
    for number, (job, result) in enumerate(zip(jobs, results, strict=True)):
        work = begin + number * part, begin + (number + 1) * part
        write_json(job.path, {"key": job.key, "result": result.to_json(), "work": [work]})
        trained.append(Trained(result, work))
    return trained


def _halved(jobs: tuple[EvaluateJob, ...]) -> list[Trained]:
    """Train two halves in turn: each needs half the memory, and results so far are kept."""
    half, trained, failure = len(jobs) // 2, list[Trained](), None
    for part in (jobs[:half], jobs[half:]):
        try:
            trained += _trained(part)
        except TrainingError as error:
            failure = error
    if failure is not None:
        raise failure
    return trained


def known_result(job: EvaluateJob) -> Trained | None:
    """The result of an earlier :func:`evaluate`; None if there is none.

    A damaged file, or one of another job under this name, counts as none and is made again.
    """
    try:
        value = dict(read_json(job.path))
        result = downstream.RepeatResult.from_json(value["result"])
    except (DataError, *MISFITS):
        return None
    same = replace(result.strategy, name="") == replace(job.strategy, name="")
    # Early versions wrote no key.
    if not same or result.repeat != job.repeat or value.get("key", job.key) != job.key:
        return None
    return Trained(replace(result, strategy=job.strategy))


def classifier_settings(spec: EvaluateSpec) -> downstream.ClassifierSettings:
    """The classifier that a sweep's ``evaluate`` section describes."""
    names = {field.name for field in fields(downstream.ClassifierSettings)}
    return downstream.ClassifierSettings(**spec.model_dump(include=names))


@dataclass(frozen=True, kw_only=True)
class Classifiers:
    """The classifiers of a pool, trained by the executor or found on disk.

    Attributes:
        dataset: the real images.
        members: of the pool, by name.
        settings: network and training.
        seed: of the sweep; each use draws its own from it.
        folder: where results are kept.
        executor: opened only if a result is not on disk yet.
        on_done: called for every classifier with its result, and how many of how many are done.
        on_longer: called with the name of the extra, longer training, before it begins.
        sampling: members that make new images in every epoch of the evaluation. Classifiers that
            only choose G* train on banks.
    """

    dataset: DatasetFiles
    members: Mapping[str, MemberResult]
    settings: downstream.ClassifierSettings
    seed: int
    folder: Path
    executor: Callable[[], Executor]
    on_done: Callable[[Trained, int, int], None]
    on_longer: Callable[[str], None] = lambda name: None
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
        results: dict[Path, Trained] = {}
        counted = itertools.count(1)

        def on_done(several: Sequence[Trained]) -> None:
            for trained in several:
                self.on_done(trained, next(counted), len(different))

        for path, job in different.items():
            known = known_result(job)
            if known is not None:
                results[path] = known
                on_done([known])
        missing = {path: job for path, job in different.items() if path not in results}
        if missing:
            banks = [job.bank for job in missing.values()]
            for name in sorted({name for bank in banks for name in bank.paths}):
                self.members[name].unchanged("samples")
            for name in sorted({name for bank in banks for name in bank.generators}):
                self.members[name].unchanged("weights")
            rest, needs = list(missing.values()), Needs.on(self.settings.device)
            executor = self.executor()
            streams = executor.on_gpus(needs)
            size = min(TOGETHER, -(-len(rest) // streams)) if streams else 1
            tasks = [EvaluateJobs(tuple(rest[i : i + size])) for i in range(0, len(rest), size)]
            made = executor.map(evaluate, tasks, on_done=on_done, needs=needs)
            results.update(zip(missing, itertools.chain.from_iterable(made), strict=True))
        return [replace(results[job.path].result, strategy=job.strategy) for job in jobs]

    def compare(self, jobs: Sequence[EvaluateJob]) -> downstream.DownstreamTable:
        """Run the jobs and compare their strategies with G*.

        If the classifiers on real images may be undertrained, one more with ten times the steps
        shows whether training was long enough to tell strategies apart.
        """
        results = self.run(jobs)
        possible = None
        if downstream.needs_long_real(results):
            first = next(job for job in jobs if job.strategy.name == "real")
            named = replace(first.strategy, name=f"real, {LONGER} times the steps")
            longer = replace(first, strategy=named, settings=first.settings.longer(LONGER))
            self.on_longer(named.name)
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
