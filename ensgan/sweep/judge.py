"""Judging members by the validation split: a linear probe, and how well their labels fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ensgan import downstream
from ensgan.downstream import LabelConsistency, LabelledFeatures, LinearProbe
from ensgan.errors import DataError, InputError
from ensgan.files import map_array
from ensgan.sweep.inputs import Inputs
from ensgan.sweep.manifest import LabelRecord
from ensgan.sweep.records import MemberResult
from ensgan.text import some
from ensgan.types import read_labels


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
    consistency = probe.consistency()
    if consistency.tells:
        return Judge(probe, consistency)
    return Judge(
        None,
        consistency,
        f"the features ({inputs.spec.embed.extractor}) do not tell the classes of "
        f"{inputs.dataset.name} apart: a linear classifier of real images is right in "
        f"{consistency.real:.0%} of the validation split, by chance {consistency.real_chance:.0%}",
    )


def _member(member: MemberResult) -> LabelledFeatures:
    features = map_array(member.unchanged("features"), larger=True)
    # With another extractor perhaps only the first images were embedded.
    return LabelledFeatures(features, read_labels(member.unchanged("samples"))[: len(features)])


RULE = "validated"
"""The rule whose candidates leave out members whose labels do not fit."""
NAMED = 5
"""Most members that a sentence names."""


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

    With data of one class, or a split without some class, there is nothing to check.

    Args:
        judge: of the pool.
        inputs: of the sweep.
        rule: that will choose G*.

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
    sentences = []
    if doubtful:
        sentences.append(f"{_sentence(doubtful, consistency)}{kept}")
    elif below:
        sentences.append(
            f"{some(below, NAMED)} had a label consistency below {floor:g}: left out of G*"
        )
    return LabelCheck(record, left_out if rule == RULE else (), tuple(sentences))


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
