"""The downstream evaluation of a sweep that has already run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ensgan import downstream
from ensgan.errors import InputError
from ensgan.evaluation.finished_sweep import FinishedSweep
from ensgan.files import content_key, write_json
from ensgan.sweep.classifier_job import (
    RULE,
    EvaluateJob,
    choose_downstream,
    compare_strategies,
    evaluation_jobs,
)
from ensgan.sweep.executor import Executor
from ensgan.sweep.inputs import derive_seed


@dataclass(frozen=True)
class EvaluationOptions:
    """What to evaluate, and how.

    Attributes:
        strategies: names, see :func:`ensgan.downstream.build_strategies`.
        repeats: classifiers per strategy.
        classifier: network and training.
        rule: how G* is chosen from the front; None keeps the sweep's own choice.
        rule_points, rule_repeats: for the rule ``downstream``: front points tried, and
            classifiers each.
        weights: member weights, see :func:`ensgan.downstream.reweighted`.
        n_times: factor on the number of synthetic images.
        seed: of drawing and initial weights; None takes the sweep's.
    """

    strategies: tuple[str, ...]
    repeats: int = 20
    classifier: downstream.ClassifierSettings = field(default_factory=downstream.ClassifierSettings)
    rule: str | None = None
    rule_points: int = 20
    rule_repeats: int = 3
    weights: str = "own"
    n_times: int = 1
    seed: int | None = None

    def __post_init__(self) -> None:
        if not self.strategies:
            raise InputError("name at least one strategy, e.g. real,all,selected")
        for name in ("repeats", "rule_points", "rule_repeats"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, not {getattr(self, name)}")


@dataclass(frozen=True)
class Progress:
    """How far an evaluation is.

    Attributes:
        done, total: classifiers.
        strategy, repeat: the one just done; empty and -1 at the start.
        metrics: its test metrics.
        left: estimate of the seconds left; None while nothing was trained here.
    """

    done: int
    total: int
    strategy: str = ""
    repeat: int = -1
    metrics: dict[str, float] | None = None
    left: float | None = None


OnProgress = Callable[[Progress], None]


@dataclass(frozen=True)
class Evaluation:
    """The outcome.

    Attributes:
        sweep: with G* as the options' rule chooses it.
        options: as asked for.
        strategies: resolved to members.
        table: the comparison.
        path: file that holds it.
        seconds: wall time of this call (results found on disk cost nothing).
    """

    sweep: FinishedSweep
    options: EvaluationOptions
    strategies: tuple[downstream.Strategy, ...]
    table: downstream.DownstreamTable
    path: Path
    seconds: float

    def settings(self) -> dict[str, Any]:
        """What was asked for, as JSON-able values."""
        return {**asdict(self.options), "extractor": self.sweep.spec.embed.extractor}

    def to_json(self) -> dict[str, Any]:
        """Settings, G* and the table with every single run."""
        selected = self.sweep.selected
        return {
            "sweep": self.sweep.spec.name,
            "run_id": self.sweep.run_id,
            "dataset": self.sweep.dataset.name,
            "members": len(self.sweep.members),
            "settings": self.settings(),
            "selected": {
                **selected.point.to_json(),
                "rule": selected.rule,
                "reason": selected.reason,
            },
            **self.table.to_json(),
        }


def evaluate_sweep(
    sweep: FinishedSweep,
    options: EvaluationOptions,
    executor: Executor,
    on_progress: OnProgress = lambda progress: None,
) -> Evaluation:
    """Train and test a classifier per strategy and repeat; those on disk are not trained again.

    Args:
        sweep: the pool; its folder keeps the results.
        options: what to evaluate.
        executor: where classifiers are trained.
        on_progress: called for every classifier.

    Raises:
        InputError: strategies that the pool cannot resolve, or a bad rule or option.
        DataError: a split lacks a class, or members do not fit the data.
    """
    begin = time.time()
    dataset = sweep.dataset.read()
    downstream.check_dataset(dataset)
    sweep.dataset.check(dataset)
    # Before the rule trains anything: whatever G* turns out to be, these names must resolve.
    downstream.check_strategies(options.strategies, sweep.scores.names)
    if options.rule == RULE:
        sweep = _by_downstream(sweep, options, executor, on_progress)
    elif options.rule is not None:
        sweep = sweep.chosen_by(options.rule)
    strategies = _strategies(sweep, options)
    jobs = evaluation_jobs(
        strategies,
        options.repeats,
        dataset=sweep.dataset,
        samples=sweep.samples,
        settings=options.classifier,
        seed=derive_seed(_seed(sweep, options), "downstream"),
        folder=sweep.folder.path / "evaluate",
    )
    estimate = _Estimate(jobs, executor.slots, on_progress)
    table = compare_strategies(jobs, lambda: executor, estimate)
    evaluation = Evaluation(sweep, options, strategies, table, Path(), time.time() - begin)
    value = evaluation.to_json()
    path = sweep.folder.file("evaluate", f"evaluation-{content_key(value)}.json")
    if not path.exists():
        write_json(path, value)
    return replace(evaluation, path=path)


def _seed(sweep: FinishedSweep, options: EvaluationOptions) -> int:
    return sweep.spec.seed if options.seed is None else options.seed


def _strategies(
    sweep: FinishedSweep, options: EvaluationOptions
) -> tuple[downstream.Strategy, ...]:
    """The strategies of the options, resolved to members and reweighted."""
    resolved = downstream.build_strategies(
        options.strategies,
        scores=sweep.scores,
        front=sweep.front,
        selection=sweep.selected,
        seed=derive_seed(_seed(sweep, options), "strategies"),
    )
    return downstream.reweighted(resolved, options.weights, sweep.scores, options.n_times)


def _by_downstream(
    sweep: FinishedSweep,
    options: EvaluationOptions,
    executor: Executor,
    on_progress: OnProgress,
) -> FinishedSweep:
    """The sweep with G* chosen by validation scores."""
    points = min(options.rule_points, len(sweep.front))
    estimate = _Estimate([], executor.slots, on_progress, points * options.rule_repeats)
    selected = choose_downstream(
        sweep.front,
        points=points,
        repeats=options.rule_repeats,
        dataset=sweep.dataset,
        samples=sweep.samples,
        settings=options.classifier,
        seed=derive_seed(_seed(sweep, options), "select"),
        folder=sweep.folder.path / "evaluate",
        executor=lambda: executor,
        on_done=estimate,
    )
    return replace(sweep, selected=selected)


class _Estimate:
    """Turns finished jobs into progress with an estimate of what is left."""

    def __init__(
        self,
        jobs: Sequence[EvaluateJob],
        slots: int,
        on_progress: OnProgress,
        total: int | None = None,
    ) -> None:
        self.total = len({job.path for job in jobs}) if total is None else total
        self.on_progress = on_progress
        self.slots = slots
        self.done = self.trained = 0
        self.begin = time.monotonic()
        on_progress(Progress(0, self.total))

    def __call__(self, value: dict[str, Any]) -> None:
        result = value["result"]
        self.done += 1
        self.total = max(self.total, self.done)  # one more may turn out to be needed
        left = None
        if not value["cached"]:
            self.trained += 1
        if self.trained:
            left = (time.monotonic() - self.begin) / self.trained * (self.total - self.done)
        self.on_progress(
            Progress(
                self.done,
                self.total,
                result["strategy"]["name"],
                result["repeat"],
                result["metrics"],
                left,
            )
        )
