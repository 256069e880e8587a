"""One GAN's share of a sweep: train it; sample, embed and score every snapshot as it is made.

A trial does all of this in one process, because its weights are at hand there. Every result is a
file named by the content key of what made it: doing a job again finds them and repeats nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ensgan import embedding, metrics, train, zoo
from ensgan.files import atomic_path, content_key, read_json, write_json
from ensgan.sweep.events import Interval
from ensgan.types import Int64Array, MemberId, Samples

REVISION = 1
"""Raise it when a change of this module changes its results."""


@dataclass(frozen=True)
class MemberJob:
    """All that a trial needs; paths are on storage that every node sees.

    Attributes:
        name: of the GAN.
        row: the row, already scaled, as JSON; ``plugins`` are loaded before it is read, because
            a trial runs in another process.
        settings: how it trains.
        classes: number of classes.
        training_set: :class:`Samples` file of the real training split.
        folder: where snapshots and the resume checkpoint go.
        results: folder of the sweep's samples, features and member records.
        count, labels: images to generate and how they are labelled (``training``/``uniform``).
        sample_seed: seed of the images; the same over the snapshots of a GAN, so that image i
            shows the same latent at every snapshot.
        extractor: file of the extractor.
        extractor_key: its content key.
        reference: ``.npy`` of the real training split's features.
        k, backend: density and coverage.
        threads: torch threads of the trial.
        effort: how long it will take against the others (seconds where that is known).
        seconds_per_step: what an earlier training on this storage took, None where none did.
        memory_bytes: of the GPU it will need, 0 where nobody asked.
    """

    name: str
    row: Mapping[str, Any]
    plugins: tuple[Path, ...]
    settings: train.TrainSettings
    classes: int
    training_set: Path
    folder: Path
    results: Path
    count: int
    labels: str
    sample_seed: int
    extractor: Path
    extractor_key: str
    reference: Path
    k: int
    backend: str
    threads: int = 1
    effort: float = 0.0
    seconds_per_step: float | None = None
    memory_bytes: int = 0

    def on(self, device: str) -> MemberJob:
        """The same job on another device; its results keep their names."""
        return replace(self, settings=replace(self.settings, device=device))

    @property
    def steps(self) -> tuple[int, ...]:
        """The steps at which snapshots are taken."""
        return tuple(self.settings.spacing * (i + 1) for i in range(self.settings.snapshots))

    def gan(self) -> zoo.GANSpec:
        """The row."""
        for plugin in self.plugins:
            zoo.load_plugin(plugin)
        return zoo.GANSpec.from_json(self.row)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the members this job makes."""
        return tuple(f"{self.name}@{step}" for step in self.steps)

    def made(self) -> int:
        """Snapshots that an earlier session has finished."""
        return sum(train.is_finished(self.folder, MemberId(self.name, step)) for step in self.steps)


@dataclass(frozen=True)
class MemberResult:
    """One finished member.

    Attributes:
        name: ``GAN@STEP``.
        weights: snapshot file (safetensors), ``sha256`` of it.
        samples, features: files of its images and their embeddings.
        density, coverage, intra_d: against the real training split.
        metrics, health: of the snapshot (losses; warnings).
        seconds: by stage.
        work: when the work was done.
    """

    name: str
    weights: Path
    sha256: str
    samples: Path
    features: Path
    density: float
    coverage: float
    intra_d: float
    metrics: dict[str, float]
    health: tuple[str, ...]
    seconds: dict[str, float]
    work: tuple[Interval, ...]

    def to_json(self) -> dict[str, Any]:
        """JSON-able form, as trials report it."""
        return {
            **{name: getattr(self, name) for name in self.__dataclass_fields__},
            "weights": str(self.weights),
            "samples": str(self.samples),
            "features": str(self.features),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> MemberResult:
        """Read :meth:`to_json`."""
        return cls(
            **{
                **value,
                "weights": Path(value["weights"]),
                "samples": Path(value["samples"]),
                "features": Path(value["features"]),
                "health": tuple(value["health"]),
                "work": tuple((float(a), float(b)) for a, b in value["work"]),
            }
        )


def sample_labels(
    training: Int64Array, classes: int, count: int, mode: str, seed: int
) -> Int64Array:
    """Labels for ``count`` images: in the training split's class proportions, or uniform.

    Largest-remainder rounding, then a seeded shuffle: int64 [count].
    """
    shares = np.bincount(training, minlength=classes) / len(training)
    if mode == "uniform":
        shares = np.full(classes, 1 / classes)
    exact = shares * count
    whole = np.floor(exact + 1e-9).astype(np.int64)
    for label in np.argsort(-(exact - whole), kind="stable")[: count - int(whole.sum())]:
        whole[label] += 1
    labels = np.repeat(np.arange(classes, dtype=np.int64), whole)
    return np.random.default_rng(seed).permutation(labels)


def grow(
    job: MemberJob, on_progress: Callable[[train.TrainProgress], None] | None = None
) -> Iterator[MemberResult]:
    """Train the GAN of a job and finish each member; members already on disk come first.

    Raises:
        TrainingError: the GAN cannot be trained further.
    """
    training = Samples.load(job.training_set)
    labels = sample_labels(training.labels, job.classes, job.count, job.labels, job.sample_seed)
    snapshots = train.train_gan(
        job.gan(), training, job.classes, job.settings, job.folder, on_progress=on_progress
    )
    finish = _Finisher(job, training, labels)
    while True:
        begin = time.time()
        snapshot = next(snapshots, None)
        if snapshot is None:
            return
        yield finish(snapshot, (begin, time.time()))


class _Finisher:
    """Turns snapshots into members."""

    def __init__(self, job: MemberJob, training: Samples, labels: Int64Array) -> None:
        self.job = job
        self.row = job.gan()
        self.shape = training.shape
        self.labels = labels
        self.scorer = MemberScorer(
            job.extractor, job.reference, job.k, job.backend, job.settings.device
        )

    def __call__(self, snapshot: train.Snapshot, trained: Interval) -> MemberResult:
        job = self.job
        name = str(snapshot.member)
        key = content_key(
            REVISION,
            zoo.SAMPLING_REVISION,
            snapshot.sha256,
            job.count,
            job.labels,
            job.sample_seed,
            job.extractor_key,
            job.k,
        )
        record = job.results / "members" / f"{name}-{key}.json"
        if record.exists():
            return MemberResult.from_json(read_json(record))
        begin = time.time()
        generator = zoo.load_generator(snapshot.path, self.row, self.shape, job.classes)
        generator = generator.to(job.settings.device)
        images = zoo.sample(generator, self.labels, seed=job.sample_seed)
        scored = self.scorer(Samples(images, self.labels), job.results, f"{name}-{key}", begin)
        result = MemberResult(
            name=name,
            weights=snapshot.path,
            sha256=snapshot.sha256,
            metrics=dict(snapshot.metrics),
            health=snapshot.health,
            seconds={"train": snapshot.seconds, **scored.seconds},
            work=(trained, (begin, time.time())),
            **scored.values(),
        )
        write_json(record, result.to_json())
        return result


@dataclass(frozen=True)
class Scored:
    """The files and scores of a member's images, and the seconds of ``sample, embed, score``."""

    samples: Path
    features: Path
    score: metrics.MemberScore
    seconds: Mapping[str, float]

    def values(self) -> dict[str, Any]:
        """What a :class:`MemberResult` says of them."""
        return {
            "samples": self.samples,
            "features": self.features,
            "density": float(self.score.density),
            "coverage": float(self.score.coverage),
            "intra_d": float(self.score.d),
        }


class MemberScorer:
    """Keeps, embeds and scores members' images; extractor and reference are loaded once.

    Args:
        extractor: its file.
        reference: ``.npy`` of the real training split's features.
        k, backend: density and coverage.
        device: of the extractor.
    """

    def __init__(self, extractor: Path, reference: Path, k: int, backend: str, device: str) -> None:
        self.extractor_file, self.reference_file = extractor, reference
        self.k, self.backend, self.device = k, backend, device
        self.extractor: embedding.Extractor | None = None
        self.reference: metrics.RealReference | None = None

    def __call__(self, samples: Samples, results: Path, name: str, begin: float) -> Scored:
        """Write ``samples/NAME.npz`` and ``features/NAME.npy``, and score; made since ``begin``."""
        samples_path = results / "samples" / f"{name}.npz"
        features_path = results / "features" / f"{name}.npy"
        samples.save(samples_path)
        sampled = time.time()
        features = self._embed(samples)
        with atomic_path(features_path) as temporary:
            np.save(temporary, features)
        embedded = time.time()
        score = metrics.score_member(self._reference(), features)
        return Scored(
            samples_path,
            features_path,
            score,
            {
                "sample": sampled - begin,
                "embed": embedded - sampled,
                "score": time.time() - embedded,
            },
        )

    def _embed(self, samples: Samples) -> Any:
        if self.extractor is None:
            self.extractor = embedding.load_extractor(self.extractor_file, self.device)
        return embedding.embed(samples.images, self.extractor).features

    def _reference(self) -> metrics.RealReference:
        if self.reference is None:
            self.reference = real_reference(self.reference_file, self.k, self.backend)
        return self.reference


def real_reference(features: Path, k: int, backend: str) -> metrics.RealReference:
    """The real features with their radii, which lie beside them once anybody has asked."""
    real = np.load(features, allow_pickle=False)
    radii = features.with_name(f"{features.stem}-radii-{k}.npz")
    return metrics.prepare(real, k, backend=backend, kept=radii)
