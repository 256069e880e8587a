"""The rule ``validated`` as a stage: a shortlist, and small classifiers that choose G* from it.

Classifiers are judged on the validation split; the test split has no part in the choice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ensgan import downstream
from ensgan.downstream import (
    Candidate,
    Ranked,
    Round,
    ValidatedChoice,
    ValidationResult,
    ValidationTrial,
)
from ensgan.errors import DataError
from ensgan.files import MISFITS, content_key, is_whole, read_json, seal, write_json
from ensgan.search import Evaluator, ThirdObjective, pool_key, search
from ensgan.sweep.choice.labels import RULE as RULE
from ensgan.sweep.choice.labels import nothing_to_validate, small_settings
from ensgan.sweep.classifier_job import Classifiers, EvaluateJob
from ensgan.sweep.executor import Needs
from ensgan.sweep.inputs import Inputs
from ensgan.sweep.member_job import purpose_seed
from ensgan.sweep.records import MemberResult
from ensgan.sweep.search_stage import member_costs, tables_of
from ensgan.types import Front, FrontPoint, PoolScores, Samples, Selection

REVISION = 1
"""Raise it when a change of this module changes its results."""
LEAST_CANDIDATES = 8
SEARCH_TRIALS = 20_000
"""Evaluations of each further front: enough for the few points that a shortlist takes of it."""

OnProgress = Callable[[int, int], None]
OnDone = Callable[[dict[str, Any]], None]
"""Called for every classifier with ``work`` (intervals of seconds) and ``cached``."""


@dataclass(frozen=True)
class Shortlisted:
    """What G* is chosen from.

    Attributes:
        inputs: of the sweep.
        scores, front: of the pool.
        members: in pool order.
        left_out: names of members that no candidate has.
    """

    inputs: Inputs
    scores: PoolScores
    front: Front
    members: Sequence[MemberResult]
    left_out: tuple[str, ...] = ()

    @property
    def candidate_scores(self) -> PoolScores:
        """The scores of the members that candidates are made of."""
        names = [name for name in self.scores.names if name not in self.left_out]
        return self.scores.part(names) if self.left_out else self.scores

    @property
    def largest(self) -> int:
        """Most members of G*: half the pool, unless the search was asked for more at least."""
        asked, half = self.inputs.spec.search, max(2, len(self.scores) // 2)
        most = half if asked.max_size is None else min(half, asked.max_size)
        return min(max(most, asked.min_size), len(self.scores) - len(self.left_out))

    def key(self, settings: downstream.ClassifierSettings) -> str:
        """Content key of all that the choice depends on.

        Args:
            settings: of the classifiers.
        """
        spec, dataset = self.inputs.spec, self.inputs.dataset
        return content_key(
            REVISION,
            pool_key(self.scores),
            [point.members for point in self.front],
            [member.samples.name for member in self.members],
            spec.select.candidates,
            [spec.search.min_size, spec.search.max_size],
            spec.seed,
            dataset.key,
            settings,
            *filter(None, [self.left_out]),
        )

    def candidates(self) -> tuple[Candidate, ...]:
        """Ensembles from every front and every other proposal."""
        spec, scores, left_out = self.inputs.spec, self.candidate_scores, set(self.left_out)
        front = [p.members for p in self.front if left_out.isdisjoint(p.members)]
        return downstream.make_shortlist(
            scores,
            {"front": front, **self._further_fronts(scores)},
            seed=purpose_seed(spec.seed, "shortlist"),
            # A small pool has few ensembles that differ, and few seconds to spend on them.
            most=min(spec.select.candidates, max(LEAST_CANDIDATES, len(scores))),
            fewest_members=spec.search.min_size,
            most_members=self.largest,
        )

    def _further_fronts(self, scores: PoolScores) -> dict[str, list[tuple[str, ...]]]:
        """By name, the fronts of the other form, and of capped Intra-d against size and cost."""
        search_spec = self.inputs.spec.search
        members = [member for member in self.members if member.name in scores.names]
        costs = member_costs(search_spec.model_copy(update={"third": "parameters"}), members)
        capped = Evaluator(scores, objectives="capped").tables
        # Without overlap nothing but the third objective stands against Intra-d.
        alone = replace(capped, pair=np.zeros_like(capped.pair))
        asked: dict[str, dict[str, Any]] = {
            "front of capped Intra-d": {"objectives": capped},
            "front of the paper's Intra-d": {"objectives": "paper"},
            "front against size": {"objectives": alone, "third": "members"},
            "front against cost": {"objectives": alone, "third": "parameters", "costs": costs},
        }
        found = {}
        for name, how in asked.items():
            front = search(
                scores,
                trials=SEARCH_TRIALS,
                seed=purpose_seed(self.inputs.spec.seed, "shortlist", name),
                min_size=search_spec.min_size,
                max_size=self.largest,
                **how,
            )
            found[name] = [point.members for point in front]
        return found

    def point(self, members: Sequence[str]) -> FrontPoint:
        """An ensemble as the front has it, or would have it: validation may choose beside it."""
        for point in self.front:
            if set(point.members) == set(members):
                return point
        evaluator = Evaluator(tables_of(self.inputs, self.scores, self.members))
        (point,) = evaluator.front_points([evaluator.indices(members)])
        if self.front.third is None:
            return point
        costs = member_costs(self.inputs.spec.search, self.members)
        third = ThirdObjective.of(self.scores.names, self.front.third, costs)
        total = float(third.costs[list(evaluator.indices(members))].sum())
        return replace(point, measures=(*point.measures, (self.front.third, total)))


def choose(
    pool: Shortlisted,
    classifiers: Classifiers,
    *,
    on_progress: OnProgress = lambda done, total: None,
    on_done: OnDone = lambda value: None,
) -> tuple[Selection, Path]:
    """G* of a pool, and the file that says from what it was chosen and how.

    Where there is nothing to validate (one class, a split without a class, images without one) the
    largest capped Intra-d decides, then the fewest members, and the reason says so. What was
    chosen or trained before is found on disk.

    Args:
        pool: what to choose from.
        classifiers: of the pool; their network and training are replaced by small ones.
        on_progress: called with (classifiers done, classifiers known to be needed).
        on_done: called for every classifier.
    """
    small = small_settings(pool.inputs, classifiers.settings)
    classifiers = replace(classifiers, settings=small)
    path = pool.inputs.folder.file("select", f"validated-{pool.key(small)}.json")
    known = _known(path)
    if known is None:
        known = _record(*_choose(pool, classifiers, on_progress, on_done))
        write_json(path, known)
        seal(path)
    others = [pool.point(ranked["members"]) for ranked in known["finalists"]]
    chosen = pool.point(known["members"])
    alternatives = tuple(point for point in others if point.members != chosen.members)
    return Selection(RULE, chosen, known["reason"], alternatives), path


def _known(path: Path) -> dict[str, Any] | None:
    """An earlier choice; None where there is none, or a damaged one."""
    if not is_whole(path):
        return None
    try:
        value = read_json(path)
        _ = value["reason"], [str(name) for name in value["members"]]
        _ = [[str(name) for name in ranked["members"]] for ranked in value["finalists"]]
    except (DataError, *MISFITS):
        return None
    return dict(value)


def _record(choice: ValidatedChoice, shortlist: Sequence[Candidate]) -> dict[str, Any]:
    """A choice as its file has it."""

    def shown(candidate: Candidate) -> dict[str, Any]:
        return {name: getattr(candidate, name) for name in ("members", "intra_d", "sources")}

    def ranked(each: Ranked) -> dict[str, Any]:
        figures = {k: v for k, v in asdict(each).items() if k != "candidate"}
        return {**shown(each.candidate), **figures}

    return {
        "members": choice.chosen.members,
        "reason": choice.reason,
        "trained": choice.trained,
        "finalists": [ranked(each) for each in choice.ranking],
        "shortlist": [shown(candidate) for candidate in shortlist],
    }


def _choose(
    pool: Shortlisted, classifiers: Classifiers, on_progress: OnProgress, on_done: OnDone
) -> tuple[ValidatedChoice, Sequence[Candidate]]:
    """Train and choose."""
    shortlist = pool.candidates()
    missing = nothing_to_validate(pool.inputs)
    if missing:
        return downstream.choose_unvalidated(shortlist, missing), shortlist
    labels = {m.name: set(Samples.load(m.samples).labels.tolist()) for m in pool.members}
    classes = set(range(len(pool.inputs.dataset.class_names)))
    whole = [c for c in shortlist if classes <= set().union(*(labels[m] for m in c.members))]
    if not whole:
        why = "no ensemble of the shortlist has images of every class"
        return downstream.choose_unvalidated(shortlist, why), shortlist
    if len(whole) == 1:
        return downstream.choose_unvalidated(whole, "there is one ensemble alone"), shortlist
    choice = downstream.choose_validated(
        whole,
        pool.candidate_scores,
        _Judges(classifiers, on_progress, on_done),
        seed=0,
        rounds=rounds_for(len(whole)),
        most_members=pool.largest,
    )
    return choice, shortlist


def rounds_for(candidates: int) -> tuple[Round, ...]:
    """Half the training for a long shortlist, all of it for a third, three classifiers for four."""
    rounds = (Round(0.5, 1, max(4, candidates // 3)), Round(1.0, 1, 4))
    return (*(each for each in rounds if each.keep < candidates), Round(1.0, 3, 1))


class _Judges:
    """Trains and validates classifiers wherever the executor runs things, or finds them trained."""

    def __init__(self, classifiers: Classifiers, on_progress: OnProgress, on_done: OnDone) -> None:
        self.classifiers, self.on_progress, self.on_done = classifiers, on_progress, on_done
        self.done = self.asked = 0

    def __call__(self, trials: Sequence[ValidationTrial]) -> Sequence[ValidationResult]:
        jobs = [self._job(trial) for trial in trials]
        self.asked += len(jobs)
        found = {job.path: known for job in jobs if (known := _validated(job)) is not None}
        for value in found.values():
            self._tell(value)
        missing = [job for job in jobs if job.path not in found]
        if missing:
            for name in sorted({name for job in missing for name in job.bank.paths}):
                self.classifiers.members[name].unchanged("samples")
            executor, device = self.classifiers.executor(), self.classifiers.settings.device
            made = executor.map(validate, missing, on_done=self._tell, needs=Needs.on(device))
            found |= {job.path: value for job, value in zip(missing, made, strict=True)}
        return [ValidationResult(**found[job.path]["result"]) for job in jobs]

    def _job(self, trial: ValidationTrial) -> EvaluateJob:
        settings = self.classifiers.settings
        epochs = max(1, round(settings.epochs * trial.budget))
        shorter = replace(self.classifiers, settings=replace(settings, epochs=epochs))
        return shorter.job(trial.strategy, trial.seed, RULE)

    def _tell(self, value: dict[str, Any]) -> None:
        self.done += 1
        self.on_progress(self.done, self.asked)
        self.on_done(value)


def validate(job: EvaluateJob) -> dict[str, Any]:
    """Train and validate one classifier, or read the result of doing so.

    Returns:
        ``{"result": {"auc": …, "loss": …}, "work": [[start, end]], "cached": bool}``.
    """
    known = _validated(job)
    if known is not None:
        return known
    begin = time.time()
    result = downstream.validate_repeat(
        job.strategy,
        job.repeat,
        dataset=job.dataset.load(),
        bank=job.bank,
        settings=job.settings,
        seed=job.seed,
    )
    value = {"key": job.key, "result": asdict(result), "work": [[begin, time.time()]]}
    write_json(_place(job), value)
    return {**value, "cached": False}


def _place(job: EvaluateJob) -> Path:
    return job.folder / f"validation-{job.repeat}-{job.key}.json"


def _validated(job: EvaluateJob) -> dict[str, Any] | None:
    """The result of an earlier :func:`validate`; None where there is none, or a damaged one."""
    try:
        value = read_json(_place(job))
        result = {name: float(value["result"][name]) for name in ("auc", "loss")}
        work = [(float(begin), float(end)) for begin, end in value["work"]]
        is_its_own = value["key"] == job.key
    except (DataError, *MISFITS):
        return None
    return {"result": result, "work": work, "cached": True} if is_its_own else None
