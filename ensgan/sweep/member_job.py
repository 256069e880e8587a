"""One GAN's share of a sweep: train it; sample, embed and score every snapshot as it is made.

A trial does all of this in one process, because its weights are at hand there. Every result is a
file named by the content key of what made it: doing a job again finds them and repeats nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ensgan import embedding, metrics, train, zoo
from ensgan.errors import DataError, TrainingError
from ensgan.files import atomic_path, content_key, sha256_file
from ensgan.sweep.records import Interval
from ensgan.sweep.records import MemberResult as MemberResult
from ensgan.types import Int64Array, MemberId, Samples

REVISION = 1
"""Raise it when a change of this module changes its results."""
NON_FINITE = "non-finite weights"
"""How the health of such a snapshot begins (:func:`ensgan.train.health.examine`)."""
BLANK = "every pixel of all its images is {}"


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

    def key(self, sha256: str) -> str:
        """What the member with these weights is made from, images, features and scores."""
        return content_key(
            REVISION,
            zoo.SAMPLING_REVISION,
            sha256,
            self.count,
            self.labels,
            self.sample_seed,
            self.extractor_key,
            self.k,
        )

    def finished(self, known: Mapping[str, MemberResult]) -> tuple[MemberResult, ...] | None:
        """The members among known ones, if all are there and made as this job makes them."""
        members = tuple(known[name] for name in self.names if name in known)
        if len(members) < len(self.names):
            return None
        for member in members:
            is_here = member.weights.parent == self.folder
            is_sound = is_here and belongs(member, member.name, self.key(member.sha256))
            if not is_sound or unusable(member.health):
                return None
        return members

    def made(self) -> int:
        """Snapshots that an earlier session has finished."""
        return sum(train.is_finished(self.folder, MemberId(self.name, step)) for step in self.steps)


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
        if unusable(snapshot.health):
            raise TrainingError(f"{name} cannot join the pool: {snapshot.health[0]}")
        key = job.key(snapshot.sha256)
        record = job.results / "members" / f"{name}-{key}.json"
        known = known_member(record, job.results, name, key)
        if known is not None:
            return known
        begin = time.time()
        generator = zoo.load_generator(snapshot.path, self.row, self.shape, job.classes)
        generator = generator.to(job.settings.device)
        images = zoo.sample(generator, self.labels, seed=job.sample_seed)
        if np.ptp(images) == 0:
            raise TrainingError(f"{name} cannot join the pool: {BLANK.format(images.flat[0])}")
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
        result.save(record, job.results)
        return result


def unusable(health: Sequence[str]) -> bool:
    """Whether a snapshot's health keeps it out of every pool: its weights are not numbers."""
    return any(sign.startswith(NON_FINITE) for sign in health)


def belongs(member: MemberResult, name: str, key: str) -> bool:
    """Whether a member is the one of this name and key, and its files are there."""
    stem = f"{name}-{key}"
    return (member.name, member.samples.stem, member.features.stem) == (name, stem, stem) and (
        member.is_there
    )


def known_member(record: Path, folder: Path, name: str, key: str) -> MemberResult | None:
    """A member made before; None where it was not, or is damaged: then it is made again."""
    try:
        member = MemberResult.load(record, folder)
    except DataError:
        return None
    return member if belongs(member, name, key) else None


@dataclass(frozen=True, kw_only=True)
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
            "contents": {
                "samples": sha256_file(self.samples),
                "features": sha256_file(self.features),
            },
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
            samples=samples_path,
            features=features_path,
            score=score,
            seconds={
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
    return metrics.kept_reference(real, radii, k, backend=backend)
