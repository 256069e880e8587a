"""Before any training: read the file, resolve it on the data, find its problems, write inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ensgan import data, downstream, embedding, train, zoo
from ensgan.config import (
    ExternalSpec,
    KnownNames,
    SweepSpec,
    parse_spec,
    read_spec_tree,
    spec_source,
)
from ensgan.ensemble.external import describe, is_file_reference
from ensgan.errors import ConfigError, DataError, InputError
from ensgan.files import content_key, is_whole, seal
from ensgan.search import FORMS, rules, samplers
from ensgan.sweep.classifier_job import DatasetFiles
from ensgan.sweep.environment import real_data
from ensgan.sweep.folder import SweepFolder
from ensgan.sweep.fresh_images import NOT_FRESH
from ensgan.sweep.member_job import (
    MemberJob,
    Scoring,
    purpose_seed,
    real_reference,
)
from ensgan.sweep.opening import training_folders
from ensgan.sweep.planning.plugins import load_plugin, replace_references
from ensgan.sweep.planning.problems import class_problems, rule_problems
from ensgan.sweep.variations import Configuration, Values, configurations
from ensgan.types import Dataset, row_of


def known_names() -> KnownNames:
    """Names by kind, as :func:`ensgan.config.load_spec` checks them."""
    return {
        "dataset": data.names(),
        "GAN": zoo.names(),
        "field of a part": {key for name in zoo.names() for key in zoo.get(name).settings()},
        "extractor": embedding.EXTRACTORS.names(),
        "sampler": samplers(),
        "form of the objectives": FORMS.names(),
        # The part before a colon: ``random:K`` is ``random``.
        "rule": tuple(dict.fromkeys(name.partition(":")[0] for name in rules())),
        "strategy": downstream.STRATEGIES.names(),
    }


def load_sweep(source: Path | Mapping[str, Any], settings: Sequence[str] = ()) -> SweepSpec:
    """Read a sweep file, or take its mapping; variants of its plugins are registered first.

    ``FILE.py:NAME`` where a variant is named makes FILE.py a plugin of the sweep.

    Paths of plugins and members are relative to the sweep file (for a mapping, to the current
    folder) and absolute in the spec returned.

    Raises:
        ConfigError: with every problem of the file and the settings.
        InputError: a plugin cannot be loaded.
    """
    folder = source.parent if isinstance(source, Path) else Path()
    tree, problems = read_spec_tree(source, settings)
    plugins = [str((folder / plugin).resolve()) for plugin in _plugins(tree)]
    for plugin in plugins:
        load_plugin(Path(plugin))
    plugins = list(dict.fromkeys([*plugins, *replace_references(tree, folder)]))
    spec = parse_spec(tree, source=spec_source(source), known=known_names(), problems=problems)
    return spec.model_copy(
        update={
            "train": spec.train.model_copy(update={"plugins": plugins}),
            "members": [_absolute(member, folder) for member in spec.members],
        }
    )


def _absolute(member: ExternalSpec, folder: Path) -> ExternalSpec:
    """Absolute path of its images, sweep or generator's file; other names stay."""
    if member.sweep is not None:
        place = str((folder / member.sweep).resolve()) if "/" in member.sweep else member.sweep
        return member.model_copy(update={"sweep": place})
    if member.images is not None:
        return member.model_copy(update={"images": str((folder / member.images).resolve())})
    place, colon, name = str(member.generator).rpartition(":")
    file = place if colon else name
    if not is_file_reference(file):
        return member
    found = f"{(folder / file).resolve()}{f':{name}' if colon else ''}"
    return member.model_copy(update={"generator": found})


def _plugins(tree: Mapping[str, Any]) -> list[str]:
    train = tree.get("train")
    plugins = train.get("plugins", []) if isinstance(train, dict) else []
    return [name for name in plugins if isinstance(name, str)] if isinstance(plugins, list) else []


@dataclass(frozen=True)
class Resolved:
    """A spec with its names resolved: the data set and every configuration of a GAN.

    Attributes:
        gans: rows at their final width, each under its configuration's name.
        settings: of their trainings.
        variations: by configuration, the values of the settings that the sweep varies; empty
            where it varies none.
    """

    spec: SweepSpec
    dataset: Dataset
    gans: tuple[zoo.GANSpec, ...]
    settings: tuple[train.TrainSettings, ...]
    variations: Mapping[str, Values] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Images each member generates."""
        return self.spec.sample.count or len(self.dataset.train)

    @property
    def names(self) -> tuple[str, ...]:
        """Of all members, in pool order."""
        return _pool_names(self.spec, self.gans, self.settings)


@dataclass(frozen=True)
class Inputs:
    """What the stages read, and where they look for their results before they compute any.

    Attributes:
        folder: of the sweep.
        spec: with the extractor that ``scoring`` names.
        dataset: on disk.
        scoring: the extractor and the real features.
    """

    folder: SweepFolder
    spec: SweepSpec
    dataset: DatasetFiles
    scoring: Scoring
    extractor_licence: str = ""


def resolve(spec: SweepSpec, data_dir: Path | None = None, *, many: bool = False) -> Resolved:
    """Load the data set and check every configuration against it.

    Args:
        spec: the validated spec.
        data_dir: where data sets lie; the spec's own ``dataset.data_dir`` comes first.
        many: allow more than a thousand configurations.

    Raises:
        ConfigError: with every row that cannot be built or trained on this data.
        DataError: the data set cannot be read.
    """
    dataset = real_data(spec, data_dir)
    found, problems = configurations(spec, many=many)
    gans = tuple(each.row for each in found)
    settings = tuple(each.settings for each in found)
    problems += data_problems(found, dataset)
    problems += [problem for member in spec.members if (problem := _external_problem(member))]
    if sum(setting.snapshots for setting in settings) + len(spec.members) < 2 and not problems:
        problems.append("train: an ensemble needs at least 2 members: add GANs or snapshots")
    problems += [
        *_evaluation_problems(spec, dataset, gans, settings),
        *rule_problems(spec, dataset),
        *class_problems(spec, dataset),
    ]
    if problems:
        raise ConfigError(f"sweep '{spec.name}'", problems)
    varied = {} if spec.train.vary is None else {each.name: each.values for each in found}
    return Resolved(spec, dataset, gans, settings, varied)


def data_problems(found: Sequence[Configuration], dataset: Dataset) -> list[str]:
    """Why configurations cannot be trained on this data, once for all variations of a GAN."""
    names: dict[tuple[str, str], list[str]] = {}
    for each in found:
        for problem in (
            *each.row.problems(dataset.shape, dataset.num_classes),
            *train.problems(each.row, each.settings, len(dataset.train)),
        ):
            names.setdefault((row_of(each.name), problem), []).append(each.name)
    return [
        f"train.{same[0]}{f' and {len(same) - 1} more' if len(same) > 1 else ''}: {problem}"
        for (_, problem), same in names.items()
    ]


def _external_problem(member: ExternalSpec) -> str:
    """What of a member from elsewhere can be seen without reading it, "" if nothing is wrong."""
    if member.sweep is not None:
        return ""  # see :mod:`ensgan.sweep.merging.sources`
    try:
        if member.images is None:
            describe(str(member.generator))
        elif not Path(member.images).exists():
            return f"members.{member.name}: no such file or folder of images: {member.images}"
    except InputError as error:
        return f"members.{member.name}: {error}"
    return ""


def _evaluation_problems(
    spec: SweepSpec,
    dataset: Dataset,
    gans: Sequence[zoo.GANSpec],
    settings: Sequence[train.TrainSettings],
) -> list[str]:
    """Problems that would make the downstream stage fail after the training."""
    if not spec.evaluate.strategies and spec.select.rule != "downstream":
        return []  # no classifier is trained
    if dataset.num_classes < 2:
        return [
            f"evaluate.strategies: a classifier needs at least 2 classes, {dataset.name} has "
            f"{dataset.num_classes}: write evaluate.strategies: []"
        ]
    pool = _pool_names(spec, gans, settings)
    problems = []
    if spec.evaluate.sampling == "fresh" and not gans:
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


def _pool_names(
    spec: SweepSpec, gans: Sequence[zoo.GANSpec], settings: Sequence[train.TrainSettings]
) -> tuple[str, ...]:
    trained = [
        f"{row.name}@{step}"
        for row, setting in zip(gans, settings, strict=True)
        for step in setting.snapshot_steps
    ]
    return (*trained, *(member.name for member in spec.members))


def gan_rows(spec: SweepSpec, drawn: Mapping[str, Values]) -> dict[str, zoo.GANSpec]:
    """The rows of a sweep's configurations at their width, by name; its plugins are loaded first.

    ``drawn`` are the manifest's variations.

    Raises:
        InputError: a plugin cannot be loaded, or a row is unknown.
    """
    for plugin in spec.train.plugins:
        load_plugin(Path(plugin))
    return {each.name: each.row for each in configurations(spec, many=True, drawn=drawn)[0]}


def write_inputs(resolved: Resolved, folder: SweepFolder) -> Inputs:
    """Write the data set, the extractor and the real features to the sweep's folder (once)."""
    files = DatasetFiles.write(resolved.dataset, folder.path / "data")
    return embedding_inputs(resolved.spec, resolved.dataset, files, folder)


def embedding_inputs(
    spec: SweepSpec,
    dataset: Dataset,
    files: DatasetFiles,
    folder: SweepFolder,
    on_progress: Callable[[int, int], None] | None = None,
) -> Inputs:
    """Write the extractor of ``spec`` and the real features; ``files`` hold ``dataset``.

    ``on_progress`` hears of the epochs of an extractor that is trained here.
    """
    extractor = embedding.make_extractor(
        spec.embed.extractor,
        weights=Path(spec.embed.weights) if spec.embed.weights else None,
        dataset=dataset,
        seed=spec.seed,
        cache=folder.path / "extractor",
        on_progress=on_progress,
    )
    extractor_path = folder.file("extractor", f"{content_key(extractor.key)}.safetensors")
    if not is_whole(extractor_path):
        extractor.save(extractor_path)
        seal(extractor_path)
    key = content_key(dataset.train.key, extractor.key)
    reference = folder.file("features", f"real-train-{key}.npy")
    embedding.keep_features(reference, lambda: dataset.train.images, lambda: extractor)
    k, backend = spec.score.k, spec.score.backend
    real_reference(reference, k, backend)  # for the trials
    scoring = Scoring(folder.path, extractor_path, extractor.key, reference, k, backend)
    return Inputs(folder, spec, files, scoring, extractor.licence)


def member_jobs(resolved: Resolved, inputs: Inputs) -> list[MemberJob]:
    """One job per configuration of a GAN, in the order of the spec."""
    spec = resolved.spec
    jobs = []
    folders = training_folders(resolved, inputs.folder)
    for row, settings, folder in zip(resolved.gans, resolved.settings, folders, strict=True):
        tree = row.to_json()
        jobs.append(
            MemberJob(
                name=row.name,
                row=tree,
                plugins=tuple(Path(plugin) for plugin in spec.train.plugins),
                settings=settings,
                classes=resolved.dataset.num_classes,
                training_set=inputs.dataset.splits["train"],
                folder=folder,
                count=resolved.count,
                labels=spec.sample.labels,
                sample_seed=purpose_seed(spec.seed, "sample", row.name),
                scoring=inputs.scoring,
            )
        )
    return jobs
