"""What the stages of a sweep read.

The data, the extractor and real features are written to its folder once, before any training.
Classifiers read members' banks, or train on images that generators make anew for every epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ensgan import embedding, zoo
from ensgan.config import SweepSpec
from ensgan.downstream.pool import Maker
from ensgan.errors import InputError
from ensgan.files import content_key, is_whole, seal
from ensgan.sweep.executor import Executor, Needs
from ensgan.sweep.folder import SweepFolder
from ensgan.sweep.member_job import Scoring, real_reference
from ensgan.sweep.records import DatasetFiles, MemberResult
from ensgan.types import Dataset, ImageShape, Int64Array, Samples, UInt8Array, gan_of

if TYPE_CHECKING:  # tasks import this module, and have no use for the data sets
    from ensgan.sweep.resolving import Resolved

SAMPLINGS = ("fresh", "bank")
ENOUGH = 2.0
"""A bank is as good as new images while each of its images is drawn at most this often."""
MOST_SECONDS = 60.0
"""Seconds of making images for one classifier above which banks are the default."""
NOT_FRESH = (
    "sampling fresh needs members with weights, but all {} are banks of finished images: use "
    "sampling bank"
)
KEPT_BYTES = 1 << 30
"""Up to this total size generators stay in memory between epochs; larger ones are read again."""


@dataclass(frozen=True)
class Inputs:
    """What the stages read, and the folder where they look for results before they compute any.

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

    def held_out(self, val: Samples) -> Path:
        """Features of the real images of the validation split, embedded once."""
        key = content_key(val.key, self.scoring.extractor_key)
        path = self.folder.file("features", f"real-val-{key}.npy")
        extractor = self.scoring.extractor
        embedding.keep_features(
            path, lambda: val.images, lambda: embedding.load_extractor(extractor)
        )
        return path


def write_inputs(
    resolved: Resolved, folder: SweepFolder, executor: Callable[[], Executor] | None = None
) -> Inputs:
    """Write the data set, the extractor and the real features to the sweep's folder (once).

    Extractors other than ``random`` are trained and run on a GPU where ``executor`` has one.
    """
    spec, dataset = resolved.spec, resolved.dataset
    files = DatasetFiles.write(dataset, folder.path / "data")
    is_new = not any(folder.path.glob("features/real-train-*.npy"))
    if executor is not None and is_new and spec.embed.extractor != "random":
        needs = Needs.on("auto")
        if executor().on_gpus(needs):
            task = EmbeddingTask(spec, files, folder.path)
            executor().map(make_on_gpu, [task], on_done=lambda _: None, needs=needs)
    return embedding_inputs(spec, dataset, files, folder)


@dataclass(frozen=True)
class EmbeddingTask:
    """Work for a GPU of the executor: an extractor to make and the real images to embed."""

    spec: SweepSpec
    dataset: DatasetFiles
    folder: Path

    @property
    def label(self) -> str:
        """What Ray's pages call it."""
        return f"make the extractor {self.spec.embed.extractor}"


def make_on_gpu(task: EmbeddingTask) -> None:
    """Write what :func:`embedding_inputs` writes, so that its next caller finds it."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    dataset, folder = task.dataset.load(), SweepFolder(task.folder)
    embedding_inputs(task.spec, dataset, task.dataset, folder, device=device)


def embedding_inputs(
    spec: SweepSpec,
    dataset: Dataset,
    files: DatasetFiles,
    folder: SweepFolder,
    device: str = "cpu",
) -> Inputs:
    """Write the extractor of ``spec`` and the real features; ``files`` hold ``dataset``."""
    extractor = embedding.make_extractor(
        spec.embed.extractor,
        weights=Path(spec.embed.weights) if spec.embed.weights else None,
        dataset=dataset,
        seed=spec.seed,
        cache=folder.path / "extractor",
        device=device,
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


@dataclass(frozen=True)
class GeneratorFile:
    """A member's generator on shared storage.

    Attributes:
        path, sha256: of its weights.
        row: its GAN as JSON.
        shape, classes: of its images.
    """

    path: Path
    sha256: str
    row: Mapping[str, Any]
    shape: ImageShape
    classes: int

    def maker(self, device: str, *, keep: bool) -> Maker:
        """What makes its images; the generator stays loaded between calls if ``keep``.

        Raises:
            IntegrityError: when called, the file is damaged or of another row.
        """

        def load() -> zoo.Generator:
            row = zoo.GANSpec.from_json(self.row)
            return zoo.load_generator(self.path, row, self.shape, self.classes, device)

        generator = cache(load) if keep else load

        def make(labels: Int64Array, seed: int) -> UInt8Array:
            return zoo.sample(generator(), labels, seed=seed)

        return make


@dataclass(frozen=True)
class Sampling:
    """Where the images of a classifier come from.

    Attributes:
        generators: of the members that make new images; none if banks are used.
        reason: what was chosen and why, in a sentence.
    """

    generators: Mapping[str, GeneratorFile] = field(default_factory=dict)
    reason: str = ""


def choose_sampling(
    asked: str | None,
    members: Sequence[MemberResult],
    generators: Mapping[str, GeneratorFile],
    *,
    bank: int,
    images: int,
) -> Sampling:
    """Decide between banks and new images.

    Args:
        asked: ``fresh``, ``bank``, or None to weigh benefit and cost.
        members: of the pool.
        generators: of the members whose weights can be used.
        bank: images that each member's bank has.
        images: that one classifier is trained on at most.

    Raises:
        InputError: ``fresh`` was asked for and no member has weights.
    """
    if asked == "fresh" and not generators:
        raise InputError(NOT_FRESH.format(len(members)))
    makers = [member for member in members if member.name in generators]
    seconds = [member.seconds["sample"] / bank for member in makers if "sample" in member.seconds]
    cost = images * sum(seconds) / len(seconds) if seconds else None
    about = "" if cost is None else f", about {cost:.2g} s of making images for each classifier"
    if asked == "fresh":
        return Sampling(generators, f"fresh images in every epoch, as asked for{about}")
    if asked == "bank":
        return Sampling(reason="images from the members' banks, as asked for")
    if images <= ENOUGH * bank:
        why = f"a classifier sees {images:,} images, a single member's bank has {bank:,}"
    elif cost is None:
        why = "what new ones would cost is not known"
    elif cost > MOST_SECONDS:
        why = f"new ones would take about {cost:.0f} s for each classifier"
    else:
        return Sampling(generators, f"fresh images in every epoch{about}")
    return Sampling(reason=f"images from the members' banks: {why}")


def generator_files(
    members: Sequence[MemberResult], rows: Mapping[str, zoo.GANSpec], dataset: Dataset
) -> dict[str, GeneratorFile]:
    """The generators of members whose GAN is known, by member.

    Args:
        rows: at their width, by member or by the GAN of several members.
        dataset: of the images that they make.
    """
    files = {}
    for member in members:
        row = rows.get(member.name) or rows.get(gan_of(member.name))
        if row is not None:
            where = (member.weights, member.sha256)
            made = (dataset.shape, dataset.num_classes)
            files[member.name] = GeneratorFile(*where, row.to_json(), *made)
    return files


@dataclass(frozen=True)
class FileBank:
    """Images of members: from files, or made anew by generators."""

    paths: Mapping[str, Path]
    generators: Mapping[str, GeneratorFile] = field(default_factory=dict)

    def maker(self, name: str, device: str) -> Maker | None:
        """The generator of one member; None for a member that has none here."""
        found = self.generators.get(name)
        weights = sum(each.path.stat().st_size for each in self.generators.values())
        return None if found is None else found.maker(device, keep=weights <= KEPT_BYTES)

    def load(self, name: str) -> Samples:
        """Images of one member."""
        return Samples.load(self.paths[name])
