"""One GAN's share of a sweep: train it; sample, embed and score every snapshot as it is made.

A trial does all of this in one process, because its weights are at hand there. Every result is a
file named by the content key of what made it: doing a job again finds them and repeats nothing.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from ensgan import embedding, metrics, train, zoo
from ensgan.errors import DataError, InputError, TrainingError
from ensgan.files import content_key, map_array, sha256_file
from ensgan.sweep.records import Interval
from ensgan.sweep.records import MemberResult as MemberResult
from ensgan.types import ImageShape, Int64Array, Samples, apportion

REVISION = 1
"""Raise it when a change of this module changes its results."""
NON_FINITE = "non-finite weights"
"""Begins the health of a snapshot with such weights (:func:`ensgan.train.snapshot.examine`)."""
BLANK = "every pixel of all its images is {}"


@dataclass(frozen=True)
class Scoring:
    """How members' images are embedded and scored; paths are on storage that every node sees.

    Attributes:
        results: folder of the sweep's samples, features and member records.
        extractor: file of the extractor; ``extractor_key`` is of its content.
        reference: ``.npy`` of the real training split's features.
        k, backend: density and coverage.
    """

    results: Path
    extractor: Path
    extractor_key: str
    reference: Path
    k: int
    backend: str

    def record(self, name: str, key: str) -> Path:
        """The record of a member."""
        return self.results / "members" / f"{name}-{key}.json"

    def known(self, name: str, key: str) -> MemberResult | None:
        """A member made before; None if there is none, or a damaged one, to be made again."""
        try:
            member = MemberResult.load(self.record(name, key), self.results)
        except DataError:
            return None
        return member if belongs(member, name, key) else None


@dataclass(frozen=True)
class MemberJob:
    """All that a trial needs; paths are on storage that every node sees.

    Attributes:
        name: of the GAN or its variation.
        row: the row, already scaled, as JSON; ``plugins`` are loaded before it is read, because
            a trial runs in another process.
        settings: how it trains.
        classes: number of classes.
        training_set: :class:`Samples` file of the real training split.
        folder: where snapshots and the resume checkpoint go.
        count, labels: images to generate and how they are labelled (``training``/``uniform``).
        sample_seed: seed of the images; the same over the snapshots of a GAN, so that image i
            shows the same latent at every snapshot.
        scoring: how the images are embedded and scored.
        effort: how long it will take relative to the others (seconds if measured before).
        seconds_per_step: of an earlier training on this storage, None if there was none.
        memory_bytes: of GPU memory it will need, 0 if that was not estimated.
    """

    name: str
    row: Mapping[str, Any]
    plugins: tuple[Path, ...]
    settings: train.TrainSettings
    classes: int
    training_set: Path
    folder: Path
    count: int
    labels: str
    sample_seed: int
    scoring: Scoring
    effort: float = 0.0
    seconds_per_step: float | None = None
    memory_bytes: int = 0

    def on(self, device: str) -> MemberJob:
        """The same job on another device; its results keep their names."""
        return replace(self, settings=replace(self.settings, device=device))

    @property
    def steps(self) -> tuple[int, ...]:
        """The steps at which snapshots are taken."""
        return self.settings.snapshot_steps

    def gan(self) -> zoo.GANSpec:
        """The row."""
        if self.plugins:
            from ensgan.sweep.planning.sweep_file import (
                load_plugin,  # every registry: only where it is needed
            )

            for plugin in self.plugins:
                load_plugin(plugin)
        return zoo.GANSpec.from_json(self.row)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the members this job makes."""
        return tuple(f"{self.name}@{step}" for step in self.steps)

    def key(self, sha256: str) -> str:
        """Key of a member: its weights, and how its images, features and scores are made."""
        return content_key(
            REVISION,
            zoo.SAMPLING_REVISION,
            sha256,
            self.count,
            self.labels,
            self.sample_seed,
            self.scoring.extractor_key,
            self.scoring.k,
        )

    def finished(self, known: Mapping[str, MemberResult]) -> tuple[MemberResult, ...] | None:
        """The members of this job, if all are there and made the same way."""
        members = []
        for name in self.names:
            member = known.get(name) or self._on_disk(name)
            is_here = member is not None and member.weights.parent == self.folder
            if member is None or not is_here or unusable(member.health):
                return None
            if not belongs(member, name, self.key(member.sha256)):
                return None
            members.append(member)
        return tuple(members)

    def _on_disk(self, name: str) -> MemberResult | None:
        """A member that the sweep had before its file asked for fewer."""
        with suppress(InputError):  # the trial reports a damaged snapshot
            if snapshot := train.read_snapshot(self.folder, name):
                return self.scoring.known(name, self.key(snapshot.sha256))
        return None

    def made(self) -> int:
        """Snapshots that an earlier session has finished."""
        return sum(train.is_finished(self.folder, name) for name in self.names)


def purpose_seed(seed: int, *purpose: str) -> int:
    """A seed below 2**31 that depends on ``seed`` and on what it is for."""
    # Another formula than ``ensemble.draw.derived_seed``, and neither can follow the other: keys of
    # trained members hold these seeds, the images of published ensembles depend on those.
    digest = hashlib.sha256(repr((seed, *purpose)).encode()).digest()
    return int.from_bytes(digest[:4], "little") >> 1


def sample_labels(
    training: Int64Array, classes: int, count: int, mode: str, seed: int
) -> Int64Array:
    """Labels for ``count`` images: in the training split's class proportions, or uniform.

    Largest-remainder rounding, then a seeded shuffle: int64 [count].
    """
    shares = np.bincount(training, minlength=classes) / len(training)
    if mode == "uniform":
        shares = np.full(classes, 1 / classes)
    labels = np.repeat(np.arange(classes, dtype=np.int64), apportion(shares, count))
    return np.random.default_rng(seed).permutation(labels)


def grow(
    job: MemberJob,
    on_progress: Callable[[train.TrainProgress], None] | None = None,
    turn: train.Turn = nullcontext,
) -> Iterator[MemberResult]:
    """Train the GAN of a job and finish each member; members already on disk come first.

    Args:
        job, on_progress: what to train; as of :func:`ensgan.train.train_gan`.
        turn: entered around plugins, every step, sampling and embedding, where other GANs are
            trained in this process too.

    Raises:
        TrainingError: the GAN cannot be trained further.
    """
    training = Samples.load(job.training_set)
    labels = sample_labels(training.labels, job.classes, job.count, job.labels, job.sample_seed)
    with turn():  # plugins are loaded once per process
        row = job.gan()
    steps = train.train_steps(
        row, training, job.classes, job.settings, job.folder, on_progress=on_progress
    )
    scorer = MemberScorer(job.scoring, job.settings.device, turn)
    begin = time.time()
    for snapshot in train.in_turns(steps, turn):
        if snapshot is not None:
            yield _member(job, snapshot, (begin, time.time()), labels, training.shape, scorer)
            begin = time.time()


def _member(
    job: MemberJob,
    snapshot: train.Snapshot,
    trained: Interval,
    labels: Int64Array,
    shape: ImageShape,
    scorer: MemberScorer,
) -> MemberResult:
    """The member that a snapshot makes."""
    name, key = snapshot.member, job.key(snapshot.sha256)
    if unusable(snapshot.health):
        raise TrainingError(f"{name} cannot join the pool: {snapshot.health[0]}")
    known = job.scoring.known(name, key)
    if known is not None:
        return known
    with scorer.turn():
        begin = time.time()
        generator = zoo.load_generator(snapshot.path, job.gan(), shape, job.classes)
        images = zoo.sample(generator.to(job.settings.device), labels, seed=job.sample_seed)
    if np.ptp(images) == 0:
        raise TrainingError(f"{name} cannot join the pool: {BLANK.format(images.flat[0])}")
    facts = {
        "weights": snapshot.path,
        "sha256": snapshot.sha256,
        "metrics": dict(snapshot.metrics),
        "health": snapshot.health,
    }
    before = {"train": snapshot.seconds}
    return scorer.finish(name, key, Samples(images, labels), facts, begin, before, (trained,))


def unusable(health: Sequence[str]) -> bool:
    """Whether a snapshot is kept out of every pool: its weights are not finite."""
    return any(sign.startswith(NON_FINITE) for sign in health)


def belongs(member: MemberResult, name: str, key: str) -> bool:
    """Whether a member is the one of this name and key, and its files are there."""
    stem = f"{name}-{key}"
    return (member.name, member.samples.stem, member.features.stem) == (name, stem, stem) and (
        member.is_there
    )


class MemberScorer:
    """Keeps, embeds and scores members' images; extractor and reference are loaded once.

    Args:
        scoring: what with.
        device: of the extractor, see :func:`ensgan.embedding.load_extractor`.
        turn: entered around embedding, see :func:`grow`.
    """

    def __init__(self, scoring: Scoring, device: str, turn: train.Turn = nullcontext) -> None:
        self.scoring, self.device, self.turn = scoring, device, turn

    @cached_property
    def _extractor(self) -> embedding.Extractor:
        return embedding.load_extractor(self.scoring.extractor, self.device)

    @cached_property
    def _reference(self) -> metrics.RealReference:
        scoring = self.scoring
        return real_reference(scoring.reference, scoring.k, scoring.backend)

    def finish(
        self,
        name: str,
        key: str,
        samples: Samples,
        facts: Mapping[str, Any],
        begin: float,
        before: Mapping[str, float] = MappingProxyType({}),
        work: tuple[Interval, ...] = (),
    ) -> MemberResult:
        """Write the images, features and record of a member.

        Args:
            facts: its weights, hash, metrics and health.
            begin: when its images began to be made.
            before, work: seconds and intervals of what was done for it before that.
        """
        results = self.scoring.results
        samples_path = results / "samples" / f"{name}-{key}.npz"
        features_path = results / "features" / f"{name}-{key}.npy"
        samples.save(samples_path)
        sampled = time.time()
        with self.turn():
            features = embedding.write_features(features_path, samples.images, self._extractor)
        embedded = time.time()
        score = metrics.score_member(self._reference, features)
        end = time.time()
        result = MemberResult(
            name=name,
            samples=samples_path,
            features=features_path,
            density=float(score.density),
            coverage=float(score.coverage),
            intra_d=float(score.d),
            seconds={
                **before,
                "sample": sampled - begin,
                "embed": embedded - sampled,
                "score": end - embedded,
            },
            work=(*work, (begin, end)),
            contents={"samples": sha256_file(samples_path), "features": sha256_file(features_path)},
            **facts,
        )
        result.save(self.scoring.record(name, key), results)
        return result


def real_reference(features: Path, k: int, backend: str) -> metrics.RealReference:
    """The real features with their radii; the radii are kept beside them after the first call."""
    real = np.array(map_array(features))
    radii = features.with_name(f"{features.stem}-radii-{k}.npz")
    return metrics.prepare(real, k, backend=backend, kept=radii)
