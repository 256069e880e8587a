"""Label consistency as a stage: one classifier of real images looks at every member's images."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ensgan import downstream
from ensgan.errors import DataError, InputError
from ensgan.files import MISFITS, content_key, is_whole, read_json, seal, write_json
from ensgan.sweep.classifier_job import Classifiers, EvaluateJob
from ensgan.sweep.inputs import Inputs
from ensgan.sweep.manifest import LabelRecord
from ensgan.sweep.records import MemberResult
from ensgan.types import Samples

REVISION = 1
"""Raise it when a change of this module changes its results."""
RULE = "validated"
"""The rule whose candidates are made of members whose labels fit."""
SMALL_WIDTH, SMALL_EPOCHS, SMALL_IMAGES = 8, 8, 1200
NAMED = 5
"""Most members that a sentence names."""


@dataclass(frozen=True)
class LabelCheck:
    """What was found out about the labels of a pool.

    Attributes:
        record: for the manifest; None where the data have nothing to tell classes by.
        left_out: members that enter no candidate of the rule ``validated``.
        said: what must be said of G*, a sentence each.
    """

    record: LabelRecord | None = None
    left_out: tuple[str, ...] = ()
    said: tuple[str, ...] = ()


def check_labels(
    inputs: Inputs,
    classifiers: Classifiers,
    members: Sequence[MemberResult],
    rule: str,
    on_done: Callable[[dict[str, Any]], None] = lambda value: None,
) -> LabelCheck:
    """Measure the label consistency of every member; what was measured before is found on disk.

    Data of one class, or a split without a class, have nothing to tell: nothing is said then.

    Args:
        classifiers: of the pool; the small classifier of rule ``validated`` looks at the images.
        rule: that will choose G*.
        on_done: called when the classifier was trained, with ``work`` and ``cached``.

    Raises:
        InputError: ``score.consistency_floor`` leaves too few members for an ensemble.
        IntegrityError: images of a member have changed.
    """
    if nothing_to_validate(inputs):
        return LabelCheck()
    small = replace(classifiers, settings=small_settings(inputs, classifiers.settings))
    job = small.job(downstream.Strategy("real", kind="real"), 0, "labels")
    paths = {member.name: member.samples for member in members}
    task = LabelJob(replace(job, bank=replace(job.bank, paths=paths)))
    found = task.known()
    if found is None:
        for member in members:
            member.unchanged("samples")
        classifiers.executor().map(measure, [task], on_done=on_done)
        found = task.known()
        assert found is not None, "the task has just written it"
    return _judge(found, inputs, rule)


@dataclass(frozen=True)
class LabelJob:
    """One classifier of real images, and the members it looks at: those of the job's bank."""

    job: EvaluateJob

    @property
    def label(self) -> str:
        """What Ray's pages call its task."""
        return "label consistency"

    @property
    def path(self) -> Path:
        """Result file, named by the key of everything it depends on."""
        members = {name: path.name for name, path in self.job.bank.paths.items()}
        return self.job.folder / f"labels-{content_key(REVISION, self.job.key, members)}.json"

    def known(self) -> downstream.LabelConsistency | None:
        """An earlier result; None where there is none, or a damaged one."""
        if not is_whole(self.path):
            return None
        try:
            value = read_json(self.path)
            members, chance = (
                {name: float(value[part][name]) for name in self.job.bank.paths}
                for part in ("members", "chance")
            )
            real = (float(value["real"]), float(value["real_chance"]))
        except (DataError, *MISFITS):
            return None
        return downstream.LabelConsistency(*real, members, chance)


def measure(task: LabelJob) -> dict[str, Any]:
    """Do a job and keep its result.

    Returns:
        ``{"work": [[start, end]], "cached": False}``.
    """
    job, begin = task.job, time.time()
    found = downstream.label_consistency(
        list(job.bank.paths),
        dataset=job.dataset.load(),
        bank=job.bank,
        settings=job.settings,
        seed=job.seed,
    )
    write_json(task.path, asdict(found))
    seal(task.path)
    return {"work": [[begin, time.time()]], "cached": False}


def _judge(found: downstream.LabelConsistency, inputs: Inputs, rule: str) -> LabelCheck:
    """Who is left out, and what is said of it."""
    floor, shares = inputs.spec.score.consistency_floor, found.members
    least = max(2, inputs.spec.search.min_size)
    record = LabelRecord(real=found.real, members=dict(shares))
    below = () if floor is None else tuple(name for name in shares if shares[name] < floor)
    if len(shares) - len(below) < least:
        possible = sorted(shares.values(), reverse=True)[:least][-1]
        raise InputError(
            f"score.consistency_floor {floor:g} leaves {len(shares) - len(below)} of "
            f"{len(shares)} members, an ensemble needs {least}: set {int(possible * 100) / 100:g} "
            "or less, or none"
        )
    doubtful = found.doubtful()
    left_out = tuple(name for name in shares if name in {*below, *doubtful})
    if len(shares) - len(left_out) < least:
        left_out, kept = below, "; they stay, for too few others remain"
    elif rule == RULE:
        kept = ", so G* was chosen without them"
    else:
        kept = f"; rule {rule} does not look at labels"
    said = []
    if doubtful:
        said.append(f"{_sentence(doubtful, found)}{kept}")
    elif below:
        said.append(f"{_named(below)} had a label consistency below {floor:g}: left out of G*")
    return LabelCheck(record, left_out if rule == RULE else (), tuple(said))


def _sentence(doubtful: Sequence[str], found: downstream.LabelConsistency) -> str:
    """Whose labels do not fit, and how far."""
    shown = sorted({f"{found.members[name]:.0%}" for name in doubtful}, key=lambda s: int(s[:-1]))
    span = shown[0] if len(shown) == 1 else f"{shown[0]} to {shown[-1]}"
    others = [share for name, share in found.members.items() if name not in doubtful]
    best = f", of the others' {min(others):.0%} to {max(others):.0%}" if others else ""
    return (
        f"a classifier of real images finds the class that was asked for in {span} of the images "
        f"of {_named(doubtful)}{best}"
    )


def _named(names: Sequence[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


def small_settings(
    inputs: Inputs, whole: downstream.ClassifierSettings
) -> downstream.ClassifierSettings:
    """The small classifier: as asked for, or as small as it may be without costing much more.

    Width 8 and 8 epochs of 1,200 images rank ensembles, beside capped Intra-d, nearly as the
    large classifier does (docs/results/usefulness.md); never more than what proves G*.
    """
    asked = inputs.spec.select
    images = whole.images_per_epoch or len(Samples.load(inputs.dataset.splits["train"]))
    return replace(
        whole,
        width=asked.width or min(SMALL_WIDTH, whole.width),
        epochs=asked.epochs or min(SMALL_EPOCHS, whole.epochs),
        images_per_epoch=asked.images_per_epoch or min(SMALL_IMAGES, images),
    )


def nothing_to_validate(inputs: Inputs) -> str:
    """Why no classifier can be trained and validated on the data; empty where one can."""
    try:
        downstream.check_dataset(inputs.dataset.read(), ("train", "val"))
    except DataError as error:
        return str(error).partition(":")[0]
    return ""
