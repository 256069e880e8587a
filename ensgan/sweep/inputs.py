"""Before any training: resolve the spec against the data, find every problem, write the inputs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ensgan import data, downstream, embedding, train, zoo
from ensgan.config import ExternalSpec, GanOverrides, SweepSpec, TrainSpec
from ensgan.ensemble.external import describe
from ensgan.errors import ConfigError, DataError, InputError
from ensgan.files import atomic_path, content_key
from ensgan.sweep.classifier_job import DatasetFiles
from ensgan.sweep.folder import SweepFolder
from ensgan.sweep.member_job import REVISION, MemberJob, real_reference
from ensgan.types import Dataset


@dataclass(frozen=True)
class Resolved:
    """A spec with its names resolved: the data set and the rows at their final size."""

    spec: SweepSpec
    dataset: Dataset
    gans: tuple[zoo.GANSpec, ...]
    settings: tuple[train.TrainSettings, ...]

    @property
    def count(self) -> int:
        """Images each member generates."""
        return self.spec.sample.count or len(self.dataset.train)


@dataclass(frozen=True)
class Inputs:
    """What the stages read: the data set on disk, the extractor and the real features."""

    dataset: DatasetFiles
    extractor: Path
    extractor_key: str
    reference: Path
    extractor_licence: str = ""


def derive_seed(seed: int, *parts: Any) -> int:
    """A seed below 2**31 that depends on ``seed`` and on what it is for."""
    digest = hashlib.sha256(repr((seed, *parts)).encode()).digest()
    return int.from_bytes(digest[:4], "little") >> 1


def resolve(spec: SweepSpec, data_dir: Path | None = None) -> Resolved:
    """Load the data set and check every row against it.

    Args:
        spec: the validated spec.
        data_dir: where data sets lie; the spec's own ``dataset.data_dir`` comes first.

    Raises:
        ConfigError: with every row that cannot be built or trained on this data.
        DataError: the data set cannot be read.
    """
    root = Path(spec.dataset.data_dir) if spec.dataset.data_dir else data_dir
    dataset = data.load_dataset(
        spec.dataset.name,
        root=root,
        image_size=spec.dataset.image_size,
        options=spec.dataset.options,
        seed=spec.seed,
    )
    names = zoo.names() if spec.train.gans == "all" else tuple(spec.train.gans)
    gans, settings, problems = [], [], []
    for name in names:
        try:
            row, setting = _row(spec, name)
        except InputError as error:
            problems.append(f"train.{name}: {error}")
            continue
        problems += [
            f"train.{name}: {problem}"
            for problem in (
                *row.problems(dataset.shape, dataset.num_classes),
                *train.problems(row, setting, len(dataset.train)),
            )
        ]
        gans.append(row)
        settings.append(setting)
    problems += [problem for member in spec.members if (problem := _external_problem(member))]
    if sum(setting.snapshots for setting in settings) + len(spec.members) < 2 and not problems:
        problems.append("train: an ensemble needs at least 2 members: add GANs or snapshots")
    problems += _evaluation_problems(spec, dataset, gans, settings)
    if problems:
        raise ConfigError(f"sweep '{spec.name}'", problems)
    return Resolved(spec, dataset, tuple(gans), tuple(settings))


def _external_problem(member: ExternalSpec) -> str:
    """What of a member from elsewhere can be seen without reading it, "" if nothing is wrong."""
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
    """What would make the downstream proof fail after all the training."""
    if not spec.evaluate.strategies and spec.select.rule != "downstream":
        return []  # no classifier is trained
    if dataset.num_classes < 2:
        return [
            f"evaluate.strategies: a classifier needs at least 2 classes, {dataset.name} has "
            f"{dataset.num_classes}: write evaluate.strategies: []"
        ]
    pool = [
        f"{row.name}@{setting.spacing * (i + 1)}"
        for row, setting in zip(gans, settings, strict=True)
        for i in range(setting.snapshots)
    ]
    pool += [member.name for member in spec.members]
    problems = []
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


def _row(spec: SweepSpec, name: str) -> tuple[zoo.GANSpec, train.TrainSettings]:
    """The row at its width and its training settings, overrides applied."""
    chosen: TrainSpec = spec.train
    override = chosen.overrides.get(name)
    values = {key: getattr(chosen, key) for key in GanOverrides.model_fields}
    if override is not None:
        values.update({key: v for key, v in override.model_dump().items() if v is not None})
    width = values.pop("width")
    if values["steps"] % chosen.snapshots:
        raise InputError(
            f"{chosen.snapshots} snapshots do not divide {values['steps']} steps: change steps"
        )
    settings = train.TrainSettings(
        **values,
        snapshots=chosen.snapshots,
        resume_every=chosen.resume_every,
        weights=chosen.weights,
        fake_labels=chosen.fake_labels,
        precision=chosen.precision,
        ema=chosen.ema,
        compile=chosen.compile,
        seed=derive_seed(spec.seed, "train", name),
    )
    return zoo.get(name).scaled(width), settings


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
    if not extractor_path.exists():
        extractor.save(extractor_path)
    key = content_key(dataset.train.key, extractor.key)
    reference = folder.file("features", f"real-train-{key}.npy")
    if not reference.exists():
        features = embedding.embed(dataset.train.images, extractor).features
        with atomic_path(reference) as temporary:
            np.save(temporary, features)
    real_reference(reference, spec.score.k, spec.score.backend)  # for the trials
    return Inputs(files, extractor_path, extractor.key, reference, extractor.licence)


def member_jobs(resolved: Resolved, inputs: Inputs, folder: SweepFolder) -> list[MemberJob]:
    """One job a GAN, in the order of the spec."""
    spec = resolved.spec
    jobs = []
    for row, settings in zip(resolved.gans, resolved.settings, strict=True):
        trained = (train.REVISION, row.to_json(), settings.identity(), resolved.dataset.train.key)
        key = content_key(REVISION, *trained)
        jobs.append(
            MemberJob(
                name=row.name,
                row=row.to_json(),
                plugins=tuple(Path(plugin) for plugin in spec.train.plugins),
                settings=settings,
                classes=resolved.dataset.num_classes,
                training_set=inputs.dataset.splits["train"],
                folder=folder.training(row.name, key),
                results=folder.path,
                count=resolved.count,
                labels=spec.sample.labels,
                sample_seed=derive_seed(spec.seed, "sample", row.name),
                extractor=inputs.extractor,
                extractor_key=inputs.extractor_key,
                reference=inputs.reference,
                k=spec.score.k,
                backend=spec.score.backend,
            )
        )
    return jobs
