"""Generators trained elsewhere that join a sweep's pool (section ``members`` of its file).

Each becomes a sample bank: its images with labels, embedded and scored like those of the zoo's
GANs. They come before any training, so that a mistake in one costs nothing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ensgan import ensemble
from ensgan.config import ExternalSpec, SampleSpec
from ensgan.data.pool import fitted, read_generator
from ensgan.ensemble.external import describe, draw_bank, open_sampler
from ensgan.errors import InputError
from ensgan.files import content_key, sha256_file
from ensgan.sweep.folder import SweepFolder
from ensgan.sweep.inputs import Inputs, Resolved
from ensgan.sweep.member_job import BLANK, MemberScorer, known_member, sample_labels
from ensgan.sweep.records import MemberResult
from ensgan.types import Samples

REVISION = 1


@dataclass(frozen=True, kw_only=True)
class ExternalJob:
    """All that a task needs; paths are on storage that every node sees.

    Attributes:
        member: as the sweep file names it, paths absolute.
        class_names: of the real images.
        training_set: :class:`Samples` file of the real training split.
        results: folder of the sweep's samples, features and member records.
        sample: images to ask a generator for.
        extractor, extractor_key, reference, k, backend: as in
            :class:`~ensgan.sweep.member_job.MemberJob`.
    """

    member: ExternalSpec
    class_names: tuple[str, ...]
    training_set: Path
    results: Path
    sample: SampleSpec
    extractor: Path
    extractor_key: str
    reference: Path
    k: int
    backend: str


def external_jobs(resolved: Resolved, inputs: Inputs, folder: SweepFolder) -> list[ExternalJob]:
    """One job per external member of the spec, in its order."""
    spec = resolved.spec
    return [
        ExternalJob(
            member=member,
            class_names=resolved.dataset.class_names,
            training_set=inputs.dataset.splits["train"],
            results=folder.path,
            sample=spec.sample,
            extractor=inputs.extractor,
            extractor_key=inputs.extractor_key,
            reference=inputs.reference,
            k=spec.score.k,
            backend=spec.score.backend,
        )
        for member in spec.members
    ]


def known_external_member(job: ExternalJob) -> MemberResult | None:
    """The member as an earlier session made it of the same images; None where there is none."""
    _, key = _named_samples(job)
    return known_member(*_place(job, key))


def make_external_member(job: ExternalJob) -> MemberResult:
    """Keep, embed and score the images of one generator, or find that done.

    Raises:
        InputError: images or a generator that cannot be used; names the member.
    """
    begin = time.time()
    samples, key = _named_samples(job)
    record, *_ = place = _place(job, key)
    known = known_member(*place)
    if known is not None:
        return known
    samples = samples if samples is not None else _drawn(job)
    if np.ptp(samples.images) == 0:
        problem = BLANK.format(samples.images.flat[0])
        raise InputError(f"member '{job.member.name}' cannot join the pool: {problem}")
    name = f"{job.member.name}-{key}"
    bank = ensemble.write_bank(job.results / "banks" / f"{name}.safetensors", samples)
    scorer = MemberScorer(job.extractor, job.reference, job.k, job.backend, "cpu")
    scored = scorer(samples, job.results, name, begin)
    result = MemberResult(
        name=job.member.name,
        weights=bank,
        sha256=sha256_file(bank),
        metrics={},
        health=_health(job, samples),
        seconds=dict(scored.seconds),
        work=((begin, time.time()),),
        **scored.values(),
    )
    result.save(record, job.results)
    return result


def _place(job: ExternalJob, key: str) -> tuple[Path, Path, str, str]:
    """Where the member's record is; the sweep's folder; the member's name and key."""
    name = job.member.name
    return job.results / "members" / f"{name}-{key}.json", job.results, name, key


def _named_samples(job: ExternalJob) -> tuple[Samples | None, str]:
    """:func:`_samples`, and the key of the whole member; errors name it."""
    try:
        samples, key = _samples(job)
    except InputError as error:
        raise InputError(f"member '{job.member.name}': {error}") from error
    return samples, content_key(REVISION, key, job.extractor_key, job.k)


def _samples(job: ExternalJob) -> tuple[Samples | None, str]:
    """Given images and their key; or, for a generator, only the key of what it will make."""
    member = job.member
    if member.images is None:
        facts = describe(str(member.generator))
        about = member.model_dump(include={"seed", "batch", "range"})
        return None, content_key(facts, about, job.sample.model_dump(), job.training_set.name)
    real = Samples.load(job.training_set)
    samples, labelled = read_generator(Path(member.images), real.shape, job.class_names)
    if not labelled:
        raise InputError(
            f"{member.images} has no classes, the real images have {len(job.class_names)}: put "
            "the images into class folders, or labels into the .npz"
        )
    return samples, samples.key


def _drawn(job: ExternalJob) -> Samples:
    """What the generator makes: as many images as the zoo's, in the same class proportions."""
    member = job.member
    real = Samples.load(job.training_set)
    count = job.sample.count or len(real)
    classes = len(job.class_names)
    labels = sample_labels(real.labels, classes, count, job.sample.labels, member.seed)
    try:
        images = draw_bank(
            open_sampler(str(member.generator)).sampler,
            labels,
            seed=member.seed,
            batch=member.batch,
            value_range=member.range,
        )
    except InputError as error:
        raise InputError(f"member '{member.name}': {error}") from error
    return Samples(fitted(images, real.shape), labels)


def _health(job: ExternalJob, samples: Samples) -> tuple[str, ...]:
    """Density and coverage depend on the number of images."""
    wanted = job.sample.count or len(Samples.load(job.training_set))
    if len(samples) == wanted:
        return ()
    return (f"scored with {len(samples)} images, the others with {wanted}",)


def card_facts(members: Sequence[ExternalSpec], chosen: Sequence[str]) -> dict[str, Any]:
    """What the card says of chosen members from elsewhere: their notes by name."""
    found: dict[str, Any] = {}
    for member in members:
        if member.name in chosen:
            about = member.model_dump(include={"licence", "source"}, exclude_none=True)
            if member.images is not None:
                about["images"] = Path(member.images).name
            else:
                about["generator"] = describe(str(member.generator))
                about |= {"seed": member.seed, "batch": member.batch}
            found[member.name] = about
    return found


def licences(facts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """One licence note a member from elsewhere."""
    return [f"{name}: {about.get('licence') or 'not stated'}" for name, about in facts.items()]
