"""Problems that would make a stage fail, found before any stage begins."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ensgan import downstream, train
from ensgan.config import ExternalSpec, SweepSpec
from ensgan.ensemble.external import describe
from ensgan.errors import DataError, InputError
from ensgan.sweep.fresh_images import NOT_FRESH
from ensgan.sweep.member_job import sample_labels
from ensgan.sweep.variations import Configuration
from ensgan.types import Dataset, row_of


def problems_of(
    spec: SweepSpec,
    dataset: Dataset,
    asked: Sequence[Configuration],
    pool: Sequence[str],
    known: Sequence[str],
) -> list[str]:
    """All problems of a sweep of these configurations on this data.

    Args:
        pool: names of all members, in pool order.
        known: problems of the configurations themselves.
    """
    on_gpu = bool(spec.cluster.gpus_per_trial)
    problems = [*known, *data_problems(asked, dataset, on_gpu=on_gpu)]
    problems += _collisions("train.vary", [each.name for each in asked])
    problems += _collisions("members", [member.name for member in spec.members])
    problems += [problem for member in spec.members if (problem := _external_problem(member))]
    if len(pool) < 2 and not problems:  # other problems may be why the pool is small
        problems.append("train: an ensemble needs at least 2 members: add GANs or snapshots")
    return [
        *problems,
        *_evaluation_problems(spec, dataset, pool, is_trained=bool(asked)),
        *_rule_problems(spec, dataset),
        *_class_problems(spec, dataset),
    ]


def data_problems(asked: Sequence[Configuration], dataset: Dataset, *, on_gpu: bool) -> list[str]:
    """Why configurations cannot be trained on this data, once for all variations of a GAN.

    ``on_gpu``: trials get GPUs, of which this process knows nothing.
    """
    # A thousand variations of a GAN would otherwise repeat one problem a thousand times.
    names: dict[tuple[str, str], list[str]] = {}
    for configuration in asked:
        for problem in (
            *configuration.row.problems(dataset.shape, dataset.num_classes),
            *train.problems(
                configuration.row, configuration.settings, len(dataset.train), elsewhere=on_gpu
            ),
        ):
            names.setdefault((row_of(configuration.name), problem), []).append(configuration.name)
    return [
        f"train.{same[0]}{f' and {len(same) - 1} more' if len(same) > 1 else ''}: {problem}"
        for (_, problem), same in names.items()
    ]


def _collisions(where: str, names: Sequence[str]) -> list[str]:
    """Names of one section that collide, also on file systems that ignore case."""
    folded: dict[str, str] = {}
    problems = []
    for name in names:
        before = folded.setdefault(name.casefold(), name)
        if before is not name:
            differ = "are the same" if before == name else "differ in upper and lower case alone"
            problems.append(f"{where}: the names {before} and {name} {differ}: rename one")
    return problems


def _external_problem(member: ExternalSpec) -> str:
    """A problem of an external member that shows without reading its images; "" if none does."""
    if member.sweep is not None:
        return ""  # see :mod:`ensgan.sweep.merging`
    try:
        if member.images is None:
            describe(str(member.generator))
        elif not Path(member.images).exists():
            return f"members.{member.name}: no such file or folder of images: {member.images}"
    except InputError as error:
        return f"members.{member.name}: {error}"
    return ""


def _evaluation_problems(
    spec: SweepSpec, dataset: Dataset, pool: Sequence[str], *, is_trained: bool
) -> list[str]:
    """Problems that would make the downstream stage fail, hours later, after the training."""
    if not spec.evaluate.strategies and spec.select.rule != "downstream":
        return []  # no classifier is trained
    if dataset.num_classes < 2:
        return [
            f"evaluate.strategies: a classifier needs at least 2 classes, {dataset.name} has "
            f"{dataset.num_classes}: write evaluate.strategies: []"
        ]
    problems = []
    if spec.evaluate.sampling == "fresh" and not is_trained:
        problems.append(f"evaluate.{NOT_FRESH.format(len(pool))}")
    try:
        downstream.check_dataset(dataset)
    except DataError as error:
        problems.append(f"dataset: {error}")
    if len(pool) >= 2:
        try:
            downstream.check_strategies(spec.evaluate.strategies, pool)
        except InputError as error:
            problems.append(f"evaluate.strategies: {error}")
    return problems


def _rule_problems(spec: SweepSpec, dataset: Dataset) -> list[str]:
    """Rules that the file names and that this data cannot serve.

    A default rule without what it needs falls back later, and a single class is reported there.
    """
    rule, floor = spec.select.rule, spec.score.consistency_floor is not None
    if floor and rule != "validated":
        return [f"score.consistency_floor: is for select.rule validated, not for {rule}"]
    named = "rule" in spec.select.model_fields_set and rule == "validated"
    try:
        if floor or (named and dataset.num_classes >= 2):
            downstream.check_dataset(dataset, ("train", "val"))
    except DataError as error:
        if floor:
            return [f"score.consistency_floor: needs classes to tell apart: {error}"]
        return [f"select.rule: validated needs images to validate with: {error}"]
    return []


def _class_problems(spec: SweepSpec, dataset: Dataset) -> list[str]:
    """Classes with too few images to be scored within the class: k neighbours need k + 1."""
    if spec.score.classes == "joint" or dataset.num_classes < 2:
        return []
    real, needed = dataset.train.labels, spec.score.k + 1
    # Drawn as the members' labels will be, so that the counts are those of the sweep itself.
    made = spec.sample.count or len(real)
    drawn = sample_labels(real, dataset.num_classes, made, spec.sample.labels, spec.seed)
    return [
        f"score.classes: per-class with k {spec.score.k} needs {needed} images of every class, and "
        f"there would be {count} {kind} of class {dataset.class_names[index]}: use joint or a "
        "smaller k"
        for kind, labels in (("real ones", real), ("generated ones", drawn))
        for index, count in enumerate(np.bincount(labels, minlength=dataset.num_classes).tolist())
        if count < needed
    ]
