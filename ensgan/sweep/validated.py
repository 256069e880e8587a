"""The rule ``validated`` as a stage: a shortlist, and linear probes that choose G* from it.

Probes are judged on the validation split; the test split has no part in the choice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ensgan import downstream
from ensgan.errors import DataError
from ensgan.files import MISFITS, content_key, is_whole, read_json, seal, write_json
from ensgan.search import Evaluator, ThirdObjective, pool_key, search
from ensgan.sweep.inputs import Inputs
from ensgan.sweep.judge import RULE as RULE
from ensgan.sweep.judge import Judge
from ensgan.sweep.member_job import purpose_seed
from ensgan.sweep.records import MemberResult
from ensgan.sweep.search_stage import member_costs, tables_of
from ensgan.types import Front, FrontPoint, PoolScores, Selection

REVISION = 3
"""Raise it when a change of this module changes its results."""
SEARCH_TRIALS = 20_000
"""Evaluations of each further front: enough for the few points that a shortlist takes of it."""

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Shortlisted:
    """The pool that G* is chosen from.

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
        """Most members of G*: half the pool, or more if ``search.min_size`` asks for it."""
        asked, half = self.inputs.spec.search, max(2, len(self.scores) // 2)
        most = half if asked.max_size is None else min(half, asked.max_size)
        return min(max(most, asked.min_size), len(self.scores) - len(self.left_out))

    @property
    def key(self) -> str:
        """Content key of all that the choice depends on."""
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
            self.inputs.scoring.extractor_key,
            *filter(None, [self.left_out]),
        )

    def candidates(self) -> tuple[downstream.Candidate, ...]:
        """Ensembles from all fronts and the other proposals of a shortlist."""
        spec, scores, left_out = self.inputs.spec, self.candidate_scores, set(self.left_out)
        front = [p.members for p in self.front if left_out.isdisjoint(p.members)]
        return downstream.make_shortlist(
            scores,
            {"front": front, **self._further_fronts(scores)},
            seed=purpose_seed(spec.seed, "shortlist"),
            most=spec.select.candidates,
            fewest_members=spec.search.min_size,
            most_members=self.largest,
        )

    def _further_fronts(self, scores: PoolScores) -> dict[str, list[tuple[str, ...]]]:
        """By name, the fronts of the other form, and of capped Intra-d against size and cost."""
        search_spec = self.inputs.spec.search
        members = [member for member in self.members if member.name in scores.names]
        costs = member_costs(search_spec.model_copy(update={"third": "parameters"}), members)
        capped = Evaluator(scores, objectives="capped").tables
        # With overlap set to zero only the third objective is traded against Intra-d.
        alone = replace(capped, pair=np.zeros_like(capped.pair))
        asked: dict[str, dict[str, Any]] = {
            "front of capped Intra-d": {"objectives": capped},
            "front of the paper's Intra-d": {"objectives": "paper"},
            "front against size": {"objectives": alone, "third": "members"},
            "front against cost": {"objectives": alone, "third": "parameters", "costs": costs},
        }
        fronts = {}
        for name, how in asked.items():
            front = search(
                scores,
                trials=SEARCH_TRIALS,
                seed=purpose_seed(self.inputs.spec.seed, "shortlist", name),
                min_size=search_spec.min_size,
                max_size=self.largest,
                **how,
            )
            fronts[name] = [point.members for point in front]
        return fronts

    def point(self, members: Sequence[str]) -> FrontPoint:
        """An ensemble as a front point; validation may choose one that is not on the front."""
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
    pool: Shortlisted, judge: Judge, on_progress: OnProgress = lambda done, total: None
) -> tuple[Selection, Path]:
    """G* of a pool, and the file that records from what and how it was chosen.

    If nothing can be validated (one class, a split without a class, features that do not tell
    classes apart) the largest capped Intra-d decides, then the fewest members, and the reason says
    so. An earlier choice is read from disk.

    Args:
        pool: what to choose from.
        judge: of its members.
        on_progress: called with (probes done, probes known to be needed).
    """
    path = pool.inputs.folder.file("select", f"validated-{pool.key}.json")
    known = _known(path)
    if known is None:
        known = _record(*_choose(pool, judge, on_progress))
        write_json(path, known)
        seal(path)
    others = [pool.point(ranked["members"]) for ranked in known["finalists"]]
    chosen = pool.point(known["members"])
    alternatives = tuple(point for point in others if point.members != chosen.members)
    return Selection(RULE, chosen, known["reason"], alternatives), path


def _known(path: Path) -> dict[str, Any] | None:
    """An earlier choice; None if there is none, or its file is damaged."""
    if not is_whole(path):
        return None
    try:
        value = read_json(path)
        _ = value["reason"], [str(name) for name in value["members"]]
        _ = [[str(name) for name in ranked["members"]] for ranked in value["finalists"]]
    except (DataError, *MISFITS):
        return None
    return dict(value)


def _record(
    choice: downstream.ValidatedChoice, shortlist: Sequence[downstream.Candidate]
) -> dict[str, Any]:
    """A choice as it is stored."""
    finalists = [asdict(finalist) for finalist in choice.ranking]
    return {
        "members": choice.chosen.members,
        "reason": choice.reason,
        "trained": choice.trained,
        "finalists": [{**finalist.pop("candidate"), **finalist} for finalist in finalists],
        "shortlist": [asdict(candidate) for candidate in shortlist],
    }


def _choose(
    pool: Shortlisted, judge: Judge, on_progress: OnProgress
) -> tuple[downstream.ValidatedChoice, Sequence[downstream.Candidate]]:
    """Probe and choose."""
    shortlist, probe = pool.candidates(), judge.probe
    if probe is None:
        return downstream.choose_unvalidated(shortlist, judge.missing), shortlist
    labels = {name: set(each.labels.tolist()) for name, each in probe.members.items()}
    classes = set(range(probe.classes))
    whole = [c for c in shortlist if classes <= set().union(*(labels[m] for m in c.members))]
    if not whole:
        why = "no ensemble of the shortlist has images of every class"
        return downstream.choose_unvalidated(shortlist, why), shortlist
    if len(whole) == 1:
        return downstream.choose_unvalidated(whole, "there is only one ensemble"), shortlist
    done = asked = 0

    def validate(
        trials: Sequence[downstream.ValidationTrial],
    ) -> Sequence[downstream.ValidationResult]:
        nonlocal done, asked
        asked += len(trials)
        results = []
        for trial in trials:
            results += probe([trial])
            done += 1
            on_progress(done, asked)
        return results

    choice = downstream.choose_validated(
        whole,
        pool.candidate_scores,
        validate,
        seed=0,
        most_members=pool.largest,
    )
    return choice, shortlist
