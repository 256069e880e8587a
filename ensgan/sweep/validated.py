"""What the validation split says of a pool: how well labels fit, and the rule ``validated``.

Linear probes choose G* from a shortlist; the test split has no part in the choice.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ensgan import downstream
from ensgan.downstream import (
    LabelConsistency,
    LabelledFeatures,
    LinearProbe,
    ValidationResult,
    ValidationTrial,
)
from ensgan.errors import DataError, InputError
from ensgan.files import MISFITS, content_key, is_whole, map_array, read_json, seal, write_json
from ensgan.search import Evaluator, ThirdObjective, pool_key, search
from ensgan.sweep.inputs import Inputs
from ensgan.sweep.manifest import LabelRecord
from ensgan.sweep.member_job import purpose_seed
from ensgan.sweep.records import MemberResult
from ensgan.sweep.search_stage import member_costs, tables_of
from ensgan.text import some
from ensgan.types import Front, FrontPoint, PoolScores, Selection, read_labels

RULE = "validated"
"""The rule whose candidates leave out members whose labels do not fit."""
REVISION = 3
"""Raise it when a change of this rule changes its results."""
SEARCH_TRIALS = 20_000
"""Evaluations of each further front: enough for the few points that a shortlist takes of it."""
NAMED = 5
"""Most members that a sentence names."""

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Judge:
    """A probe and the label consistency of the members, or why there is none.

    Attributes:
        probe: None if nothing can be validated.
        consistency: of the members' labels; None for data without classes to tell apart.
        missing: why nothing can be validated; "" if it can.
    """

    probe: LinearProbe | None
    consistency: LabelConsistency | None
    missing: str = ""


def make_judge(inputs: Inputs, members: Sequence[MemberResult]) -> Judge:
    """Read the features of real and generated images; those of the validation split are made once.

    Raises:
        IntegrityError: images or features of a member have changed.
    """
    dataset = inputs.dataset.read()
    try:
        downstream.check_dataset(dataset, ("train", "val"))
    except DataError as error:
        return Judge(None, None, str(error).partition(":")[0])
    probe = LinearProbe(
        LabelledFeatures(map_array(inputs.scoring.reference, larger=True), dataset.train.labels),
        LabelledFeatures(map_array(inputs.held_out(dataset.val), larger=True), dataset.val.labels),
        {member.name: _member(member) for member in members},
        dataset.num_classes,
    )
    if (consistency := probe.consistency()).tells:
        return Judge(probe, consistency)
    missing = (
        f"the features ({inputs.spec.embed.extractor}) do not tell the classes of "
        f"{inputs.dataset.name} apart: a linear classifier of real images is right in "
        f"{consistency.real:.0%} of the validation split, by chance {consistency.real_chance:.0%}"
    )
    return Judge(None, consistency, missing)


def _member(member: MemberResult) -> LabelledFeatures:
    features = map_array(member.unchanged("features"), larger=True)
    # With another extractor perhaps only the first images were embedded.
    return LabelledFeatures(features, read_labels(member.unchanged("samples"))[: len(features)])


@dataclass(frozen=True)
class LabelCheck:
    """What the labels of a pool mean for the choice of G*.

    Attributes:
        record: for the manifest; None if the classes of this data cannot be told apart.
        left_out: members that no candidate of the rule ``validated`` may contain.
        cautions: what must be said about G*, one sentence each.
    """

    record: LabelRecord | None = None
    left_out: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()


def check_labels(judge: Judge, inputs: Inputs, rule: str) -> LabelCheck:
    """What a judge's label consistency means for the choice of G*.

    With data of one class, or a split without some class, there is nothing to check. ``rule`` will
    choose G*.

    Raises:
        InputError: ``score.consistency_floor`` leaves too few members for an ensemble.
    """
    consistency = judge.consistency
    if consistency is None:
        return LabelCheck()
    if not consistency.tells:
        why = f"the labels of members could not be checked: {judge.missing}"
        return LabelCheck(cautions=(why,))
    floor, shares = inputs.spec.score.consistency_floor, consistency.members
    least = max(2, inputs.spec.search.min_size)
    record = LabelRecord(real=consistency.real, members=dict(shares))
    below = () if floor is None else tuple(name for name in shares if shares[name] < floor)
    if len(shares) - len(below) < least:
        possible = sorted(shares.values(), reverse=True)[:least][-1]
        highest = int(possible * 100) / 100
        lower = f"lower it to {highest:g}, or " if highest > 0 else ""
        raise InputError(
            f"score.consistency_floor {floor:g} leaves {len(shares) - len(below)} of "
            f"{len(shares)} members, an ensemble needs {least}: {lower}leave the setting out, "
            "and no member is excluded for its labels"
        )
    doubtful = consistency.doubtful()
    left_out = tuple(name for name in shares if name in {*below, *doubtful})
    if len(shares) - len(left_out) < least:
        left_out, kept = below, "; they stay, because too few others remain"
    elif rule == RULE:
        kept = ", so G* was chosen without them"
    else:
        kept = f"; rule {rule} does not look at labels"
    caution = ""
    if doubtful:
        caution = f"{_sentence(doubtful, consistency)}{kept}"
    elif below:
        caution = f"{some(below, NAMED)} had a label consistency below {floor:g}: left out of G*"
    return LabelCheck(record, left_out if rule == RULE else (), (caution,) if caution else ())


def _sentence(doubtful: Sequence[str], consistency: downstream.LabelConsistency) -> str:
    """Which members' labels do not fit, and by how much."""
    shares = [consistency.members[name] for name in doubtful]
    lowest, highest = f"{min(shares):.0%}", f"{max(shares):.0%}"
    span = lowest if lowest == highest else f"{lowest} to {highest}"
    others = [share for name, share in consistency.members.items() if name not in doubtful]
    best = f", of the others' {min(others):.0%} to {max(others):.0%}" if others else ""
    return (
        f"a classifier of real images finds the class that was asked for in {span} of the images "
        f"of {some(doubtful, NAMED)}{best}"
    )


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
        pool, judge: what to choose from, and the judge of its members.
        on_progress: called with (probes done, probes known to be needed).
    """
    path = pool.inputs.folder.file("select", f"validated-{pool.key}.json")
    known = _known(path)
    if known is None:
        known = _choose(pool, judge, on_progress)
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


def _choose(pool: Shortlisted, judge: Judge, on_progress: OnProgress) -> dict[str, Any]:
    """Probe and choose; the choice as it is stored."""
    shortlist, probe, why = pool.candidates(), judge.probe, judge.missing
    whole = shortlist
    if probe is not None:
        labels = {name: set(each.labels.tolist()) for name, each in probe.members.items()}
        classes = set(range(probe.classes))
        whole = tuple(
            c for c in shortlist if classes <= set().union(*(labels[m] for m in c.members))
        )
        why = "there is only one ensemble" if len(whole) == 1 else ""
        if not whole:
            whole, why = shortlist, "no ensemble of the shortlist has images of every class"
    if probe is None or why:
        choice = downstream.choose_unvalidated(whole, why)
    else:
        asked, done = list[ValidationTrial](), itertools.count(1)

        def validate(trials: Sequence[ValidationTrial]) -> list[ValidationResult]:
            asked.extend(trials)
            return probe(trials, lambda: on_progress(next(done), len(asked)))

        scores, most = pool.candidate_scores, pool.largest
        choice = downstream.choose_validated(whole, scores, validate, seed=0, most_members=most)
    finalists = [asdict(finalist) for finalist in choice.ranking]
    return {
        "members": choice.chosen.members,
        "reason": choice.reason,
        "trained": choice.trained,
        "finalists": [{**finalist.pop("candidate"), **finalist} for finalist in finalists],
        "shortlist": [asdict(candidate) for candidate in shortlist],
    }
