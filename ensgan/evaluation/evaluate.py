"""The downstream evaluation of a sweep that has already run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ensgan import downstream
from ensgan.errors import InputError, unknown_name
from ensgan.evaluation.finished_sweep import FinishedSweep
from ensgan.evaluation.prediction import LEAST, REPEATS, Prediction, many_ensembles, prediction
from ensgan.files import content_key, write_json
from ensgan.search import FORMS, select
from ensgan.sweep.classifier_job import RULE, Classifiers, Trained
from ensgan.sweep.executor import Executor
from ensgan.sweep.inputs import SAMPLINGS, choose_sampling, embedding_inputs, generator_files
from ensgan.sweep.search_stage import objective_tables
from ensgan.sweep.validated import RULE as VALIDATED
from ensgan.sweep.validated import Shortlisted, check_labels, choose, make_judge
from ensgan.types import Dataset

HANDED_OVER = "handed over"
"""The rule of an ensemble that came without its sweep."""


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
        sampling: ``fresh``, ``bank``, or None, see :func:`choose_sampling`.
        seed: of drawing and initial weights; None takes the sweep's.
        predict: number of further ensembles to train on, to see which scores predict worth.
    """

    strategies: tuple[str, ...]
    repeats: int = 20
    classifier: downstream.ClassifierSettings = field(default_factory=downstream.ClassifierSettings)
    rule: str | None = None
    rule_points: int = 20
    rule_repeats: int = 3
    weights: str = "own"
    n_times: int = 1
    sampling: str | None = None
    seed: int | None = None
    predict: int = 0

    def __post_init__(self) -> None:
        if not self.strategies:
            raise InputError("name at least one strategy, e.g. real,all,selected")
        for name in ("repeats", "rule_points", "rule_repeats"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.predict and self.predict < LEAST:
            raise InputError(f"{self.predict} ensembles predict nothing: use {LEAST} or more")
        if self.sampling not in (None, *SAMPLINGS):
            raise InputError(unknown_name("sampling", self.sampling, SAMPLINGS))


@dataclass(frozen=True)
class Progress:
    """How far an evaluation is.

    Attributes:
        done, total: classifiers.
        strategy, repeat: the one just done; empty and -1 at the start. If other things than the
            table's classifiers are counted, their name and -1.
        metrics: its test metrics.
        left: estimated seconds left; None before the first training.
    """

    done: int
    total: int
    strategy: str = ""
    repeat: int = -1
    metrics: Mapping[str, float] | None = None
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
        prediction: how well scores predict worth, if that was asked for.
        path: file that holds it.
        seconds: wall time of this call (results found on disk cost nothing).
    """

    sweep: FinishedSweep
    options: EvaluationOptions
    strategies: tuple[downstream.Strategy, ...]
    table: downstream.DownstreamTable
    prediction: Prediction | None
    path: Path
    seconds: float

    def settings(self) -> dict[str, Any]:
        """The request as JSON-able values."""
        return {**asdict(self.options), "extractor": self.sweep.spec.embed.extractor}

    def to_json(self) -> dict[str, Any]:
        """Settings, G* and the table with every single run."""
        return {
            "sweep": self.sweep.spec.name,
            "run_id": self.sweep.run_id,
            "dataset": self.sweep.dataset.name,
            "members": len(self.sweep.members),
            "settings": self.settings(),
            "selected": self.sweep.selected.to_json(),
            **self.table.to_json(),
            "prediction": None if self.prediction is None else self.prediction.to_json(),
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
    # Before the rule trains anything, since bad names would fail only after that.
    downstream.check_strategies(options.strategies, sweep.scores.names)
    estimate = Estimate(on_progress)
    classifiers = pool_classifiers(sweep, options, dataset, executor, estimate)
    if options.rule == RULE:
        points = min(options.rule_points, len(sweep.front))
        estimate.start(points * options.rule_repeats)
        selected = classifiers.choose(sweep.front, points, options.rule_repeats)
        sweep = replace(sweep, selected=selected)
    elif options.rule == VALIDATED and sweep.selected.rule != HANDED_OVER:
        inputs = embedding_inputs(sweep.spec, dataset, sweep.dataset, sweep.folder)
        judge = make_judge(inputs, sweep.members)
        labels = check_labels(judge, inputs, VALIDATED)
        pool = Shortlisted(inputs, sweep.scores, sweep.front, sweep.members, labels.left_out)
        selected, _ = choose(pool, judge, estimate.counting(VALIDATED))
        # Without a probe, the reason of the selection says already why there is none.
        reason = "; ".join([selected.reason, *(labels.cautions if judge.probe else ())])
        sweep = replace(sweep, selected=replace(selected, reason=reason))
    elif options.rule is not None and options.rule != sweep.selected.rule:
        sweep = replace(sweep, selected=select(sweep.front, options.rule, pool=sweep.scores))
    strategies = classifiers.strategies(
        options.strategies,
        sweep.scores,
        sweep.front,
        sweep.selected,
        weights=options.weights,
        n_times=options.n_times,
    )
    jobs = classifiers.jobs(strategies, options.repeats)
    estimate.start(len({job.path for job in jobs}) + REPEATS * options.predict)
    table = classifiers.compare(jobs)
    forecast, probed = None, estimate.counting("ensembles probed linearly")
    if options.predict:
        forecast = predict(sweep, options.predict, dataset, classifiers, probed)
    seconds = time.time() - begin
    evaluation = Evaluation(sweep, options, strategies, table, forecast, Path(), seconds)
    value = evaluation.to_json()
    path = sweep.folder.file("evaluate", f"evaluation-{content_key(value)}.json")
    if not path.exists():
        write_json(path, value)
    return replace(evaluation, path=path)


def pool_classifiers(
    sweep: FinishedSweep,
    options: EvaluationOptions,
    dataset: Dataset,
    executor: Executor,
    estimate: Estimate,
) -> Classifiers:
    """The classifiers of a finished sweep, as options want them.

    Args:
        dataset: of the sweep.
        executor: where they are trained.
        estimate: told of every classifier.

    Raises:
        InputError: fresh images are wanted and no member has weights.
    """
    sampling = choose_sampling(
        options.sampling,
        sweep.members,
        generator_files(sweep.members, sweep.rows, dataset),
        bank=sweep.spec.sample.count or len(dataset.train),
        images=options.n_times * options.classifier.images(len(dataset.train)),
    )
    return Classifiers(
        dataset=sweep.dataset,
        members={member.name: member for member in sweep.members},
        settings=options.classifier,
        seed=sweep.spec.seed if options.seed is None else options.seed,
        folder=sweep.folder.path / "evaluate",
        executor=lambda: executor,
        on_done=estimate,
        on_longer=estimate.longer,
        sampling=sampling,
    )


def predict(
    sweep: FinishedSweep,
    n: int,
    dataset: Dataset,
    classifiers: Classifiers,
    on_probe: Callable[[int, int], None],
) -> Prediction:
    """Train on ``n`` ensembles of many kinds and set what that is worth against their scores."""
    fronts = [point.members for point in sweep.front]
    strategies = many_ensembles(sweep.scores, fronts, n, classifiers.seed)
    results = classifiers.run(classifiers.jobs(strategies, REPEATS))
    inputs = embedding_inputs(sweep.spec, dataset, sweep.dataset, sweep.folder)
    features = [partial(np.load, member.features, allow_pickle=False) for member in sweep.members]
    reference = partial(np.load, inputs.scoring.reference, allow_pickle=False)
    others = {
        form.axes[0].name: objective_tables(form.name, sweep.scores, reference, features)
        for form in FORMS
        if form.needs_features
    }
    judge = make_judge(inputs, sweep.members)
    return prediction(sweep.scores, strategies, results, others, judge.probe, on_probe)


class Estimate:
    """Turns finished jobs into progress with an estimate of what is left."""

    def __init__(self, on_progress: OnProgress) -> None:
        self.on_progress = on_progress

    def start(self, total: int) -> None:
        """Announce how many classifiers follow."""
        self.total = total
        self.done = self.trained = 0
        self.begin = time.monotonic()
        self.on_progress(Progress(0, total))

    def counting(self, what: str) -> Callable[[int, int], None]:
        """A callback that reports the progress of something other than the table's classifiers."""
        return lambda done, total: self.on_progress(Progress(done, total, what))

    def longer(self, name: str) -> None:
        """Announce one more classifier, which takes longer than the others."""
        self.total += 1
        self.on_progress(Progress(self.done, self.total, f"one more: {name}"))

    def __call__(self, trained: Trained, *_: int) -> None:
        """Take in the result of a classifier."""
        result = trained.result
        self.done += 1
        self.trained += trained.work is not None
        left = None
        if self.trained:
            left = (time.monotonic() - self.begin) / self.trained * (self.total - self.done)
        about = (result.strategy.name, result.repeat, result.metrics)
        self.on_progress(Progress(self.done, self.total, *about, left))
