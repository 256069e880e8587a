"""What the stages of a sweep read: written to its folder once, before any training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ensgan import embedding
from ensgan.config import SweepSpec
from ensgan.files import content_key, is_whole, seal
from ensgan.sweep.executor import Executor, Needs
from ensgan.sweep.folder import SweepFolder
from ensgan.sweep.member_job import MemberJob, Scoring, purpose_seed, real_reference
from ensgan.sweep.opening import training_folders
from ensgan.sweep.records import DatasetFiles
from ensgan.sweep.resolving import Resolved
from ensgan.types import Dataset, Samples


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


def member_jobs(resolved: Resolved, inputs: Inputs) -> list[MemberJob]:
    """One job per configuration of a GAN, in the order of the spec."""
    spec, folders = resolved.spec, training_folders(resolved, inputs.folder)
    return [
        MemberJob(
            name=gan.name,
            row=gan.row.to_json(),
            plugins=tuple(Path(plugin) for plugin in spec.train.plugins),
            settings=gan.settings,
            classes=resolved.dataset.num_classes,
            training_set=inputs.dataset.splits["train"],
            folder=folder,
            count=resolved.count,
            labels=spec.sample.labels,
            sample_seed=purpose_seed(spec.seed, "sample", gan.name),
            scoring=inputs.scoring,
        )
        for gan, folder in zip(resolved.configurations, folders, strict=True)
    ]
