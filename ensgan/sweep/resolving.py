"""What a spec means on its data, in its storage and given its folder, and what is wrong with it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ensgan import downstream, train, zoo
from ensgan.config import ExternalSpec, SweepSpec
from ensgan.config.vary import searched
from ensgan.ensemble.external import describe
from ensgan.errors import ConfigError, DataError, InputError
from ensgan.sweep.environment import real_data
from ensgan.sweep.events import OnEvent, warning
from ensgan.sweep.folder import SweepFolder, sweep_folder
from ensgan.sweep.inputs import NOT_FRESH
from ensgan.sweep.member_job import sample_labels
from ensgan.sweep.merging import join_sweeps
from ensgan.sweep.planning.sweep_file import carried_on, load_plugin
from ensgan.sweep.planning.variations import Configuration, Values, configurations
from ensgan.types import Dataset, row_of

ROUNDS = 5
"""Rounds in which a search draws its sample."""


@dataclass(frozen=True)
class Resolved:
    """A spec with its names resolved: the data set and every configuration of a GAN.

    Attributes:
        configurations: every GAN in every variation, in the order of the spec.
    """

    spec: SweepSpec
    dataset: Dataset
    configurations: tuple[Configuration, ...]

    @property
    def gans(self) -> tuple[zoo.GANSpec, ...]:
        """Rows at their final width, each under its configuration's name."""
        return tuple(each.row for each in self.configurations)

    @property
    def variations(self) -> dict[str, Values]:
        """By configuration, the values of the settings that the sweep varies, if it varies any."""
        if self.spec.train.vary is None:
            return {}
        return {each.name: each.values for each in self.configurations}

    def record(self) -> dict[str, Any]:
        """What a manifest holds of the configurations."""
        return {
            "gans": tuple(each.name for each in self.configurations),
            "variations": {name: dict(values) for name, values in self.variations.items()},
            "steps": {each.name: each.settings.steps for each in self.configurations},
        }

    @property
    def count(self) -> int:
        """Images each member generates."""
        return self.spec.sample.count or len(self.dataset.train)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all members, in pool order."""
        trained = [
            f"{each.name}@{step}"
            for each in self.configurations
            for step in each.settings.snapshot_steps
        ]
        return (*trained, *(member.name for member in self.spec.members))


def resolve_in(
    storage: Path,
    spec: SweepSpec,
    data_dir: Path | None,
    on_event: OnEvent,
    *,
    fresh: bool = False,
    without_added: bool = False,
    many: bool = False,
    whole: bool = False,
) -> tuple[Resolved, SweepFolder]:
    """Resolve a sweep together with other sweeps that join it and what its folder already holds.

    Args:
        storage: holds its folder and other sweeps.
        spec, data_dir, many: as for :func:`resolve`.
        on_event: warned of settings that stay as they were though the file does not say so.
        fresh: treat its folder as empty.
        without_added: leave out what `ensgan add` brought.
        whole: include configurations that a search has still to draw.

    Raises:
        ConfigError: as :func:`resolve`, or a sweep that cannot join.
        DataError: the data set or the folder's manifest cannot be read.
    """
    folder = sweep_folder(storage, spec.name)
    dataset = real_data(spec, data_dir)
    spec = join_sweeps(spec, dataset, folder)
    if not fresh:
        spec, remarks = carried_on(spec, folder, without_added=without_added)
        for remark in remarks:
            on_event(warning(remark))
    resolved = resolve(spec, dataset, many=many)
    return drawn_so_far(resolved, None if fresh else folder, whole=whole), folder


def resolve(
    spec: SweepSpec, place: Dataset | Path | None = None, *, many: bool = False
) -> Resolved:
    """Check every configuration of a spec against its data set.

    Args:
        spec: the validated spec.
        place: the data set, or where data sets lie; the spec's own ``dataset.data_dir`` comes
            first.
        many: allow more than a thousand configurations.

    Raises:
        ConfigError: with every row that cannot be built or trained on this data.
        DataError: the data set cannot be read.
    """
    dataset = place if isinstance(place, Dataset) else real_data(spec, place)
    asked, problems = configurations(spec, many=many)
    resolved = Resolved(spec, dataset, asked)
    if "strategies" not in spec.evaluate.model_fields_set:
        fitting = [
            name for name in spec.evaluate.strategies if downstream.fits_pool(name, resolved.names)
        ]
        evaluate = spec.evaluate.model_copy(update={"strategies": fitting})
        spec = spec.model_copy(update={"evaluate": evaluate})
        resolved = replace(resolved, spec=spec)
    problems += data_problems(asked, resolved)
    problems += _collisions("train.vary", [each.name for each in asked])
    problems += _collisions("members", [member.name for member in spec.members])
    problems += [problem for member in spec.members if (problem := _external_problem(member))]
    pool = resolved.names
    if len(pool) < 2 and not problems:  # other problems may be why the pool is small
        problems.append("train: an ensemble needs at least 2 members: add GANs or snapshots")
    problems += _evaluation_problems(spec, dataset, pool, is_trained=bool(asked))
    problems += _rule_problems(spec, dataset)
    problems += _class_problems(spec, dataset)
    if problems:
        raise ConfigError(f"sweep '{spec.name}'", problems)
    return resolved


def drawn_so_far(
    resolved: Resolved, folder: SweepFolder | None, *, whole: bool = False
) -> Resolved:
    """A search with the configurations that its folder has drawn, or those of the first round.

    Args:
        resolved: with quasi-random stand-ins for what is not drawn yet, or without a search.
        folder: of the sweep; None to start over.
        whole: keep the stand-ins of what is still to be drawn.

    Raises:
        DataError: the folder's manifest cannot be used.
    """
    vary = searched(resolved.spec.train.vary)
    if vary is None:
        return resolved
    known: dict[str, Values] = {}
    if folder is not None and folder.has_begun:
        before = folder.read()
        then = searched(before.settings.train.vary)
        if then is not None and {**then, "sample": 0} == {**vary, "sample": 0}:
            known = {name: before.variations[name] for name in before.gans}
    drawn: dict[str, Values] = {}
    for gan in dict.fromkeys(map(row_of, resolved.variations)):
        kept = {name: values for name, values in known.items() if row_of(name) == gan}
        guessed = {n: values for n, values in resolved.variations.items() if row_of(n) == gan}
        size = vary["sample"] if whole else 0 if kept else round_size(vary["sample"])
        kept = dict(list(kept.items())[: vary["sample"]])
        rest = [name for name in guessed if name not in kept][: max(0, size - len(kept))]
        drawn |= kept | {name: guessed[name] for name in rest}
    return with_configurations(resolved, drawn)


def with_configurations(resolved: Resolved, drawn: Mapping[str, Values]) -> Resolved:
    """A search's sweep with these configurations, values by name."""
    found, _ = configurations(resolved.spec, many=True, drawn=drawn)
    return replace(resolved, configurations=found)


def round_size(sample: int) -> int:
    """Configurations per GAN that are trained before the next ones are drawn."""
    return max(2, math.ceil(sample / ROUNDS))


def gan_rows(spec: SweepSpec, drawn: Mapping[str, Values]) -> dict[str, zoo.GANSpec]:
    """The rows of a sweep's configurations at their width, by name; its plugins are loaded first.

    ``drawn`` are the manifest's variations.

    Raises:
        InputError: a plugin cannot be loaded, or a row is unknown.
    """
    for plugin in spec.train.plugins:
        load_plugin(Path(plugin))
    return {each.name: each.row for each in configurations(spec, many=True, drawn=drawn)[0]}


def data_problems(asked: Sequence[Configuration], resolved: Resolved) -> list[str]:
    """Why configurations cannot be trained in a sweep, once for all variations of a GAN."""
    dataset = resolved.dataset
    on_gpu = bool(resolved.spec.cluster.gpus_per_trial)  # of which this process knows nothing
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
            differ = "are the same" if before == name else "differ only in upper and lower case"
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
    """Rules that the file names and this data cannot serve; a default rule falls back later."""
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
