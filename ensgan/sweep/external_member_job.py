"""Generators trained elsewhere that join a sweep's pool (section ``members`` of its file).

Each becomes a sample bank: its images with labels, embedded and scored like those of the zoo's
GANs. This happens before any training, so that a mistake in one costs little.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ensgan import ensemble
from ensgan.config import ExternalSpec, SampleSpec
from ensgan.data.image_set import fitted
from ensgan.data.pool import read_generator
from ensgan.ensemble.external import describe, draw_bank, open_sampler
from ensgan.errors import InputError, IntegrityError
from ensgan.files import content_key, sha256_file
from ensgan.sweep.inputs import Inputs
from ensgan.sweep.member_job import BLANK, MemberScorer, Scoring, sample_labels
from ensgan.sweep.records import MemberResult
from ensgan.sweep.resolving import Resolved
from ensgan.types import Samples

REVISION = 1


@dataclass(frozen=True)
class ExternalJob:
    """All that a task needs; paths are on storage that every node sees.

    Attributes:
        member: as the sweep file names it, paths absolute.
        class_names: of the real images.
        training_set: :class:`Samples` file of the real training split.
        sample: images to ask a generator for.
        scoring: how the images are embedded and scored.
    """

    member: ExternalSpec
    class_names: tuple[str, ...]
    training_set: Path
    sample: SampleSpec
    scoring: Scoring


def external_jobs(resolved: Resolved, inputs: Inputs) -> list[ExternalJob]:
    """One job per generator of the spec's ``members``, in its order."""
    names, training_set = resolved.dataset.class_names, inputs.dataset.splits["train"]
    return [
        ExternalJob(member, names, training_set, resolved.spec.sample, inputs.scoring)
        for member in resolved.spec.members
        if member.sweep is None
    ]


def known_external_member(job: ExternalJob) -> MemberResult | None:
    """The member that an earlier session made of the same images, or None."""
    _, key = _named_samples(job)
    return _known(job, key)


def _known(job: ExternalJob, key: str) -> MemberResult | None:
    member = job.scoring.known(job.member.name, key)
    with suppress(IntegrityError):  # a damaged bank is written again
        if member is not None and member.unchanged("weights"):
            return member
    return None


def make_external_member(job: ExternalJob) -> MemberResult:
    """Keep, embed and score the images of one generator, or find that done.

    Raises:
        InputError: images or a generator that cannot be used; names the member.
    """
    begin, name = time.time(), job.member.name
    samples, key = _named_samples(job)
    known = _known(job, key)
    if known is not None:
        return known
    samples = samples if samples is not None else _drawn(job)
    if np.ptp(samples.images) == 0:
        problem = BLANK.format(samples.images.flat[0])
        raise InputError(f"member '{name}' cannot join the pool: {problem}")
    bank = job.scoring.results / "banks" / f"{name}-{key}.safetensors"
    facts = {
        "weights": ensemble.write_bank(bank, samples),
        "sha256": sha256_file(bank),
        "metrics": {},
        "health": _health(job, samples),
    }
    return MemberScorer(job.scoring, "auto").finish(name, key, samples, facts, begin)


def _named_samples(job: ExternalJob) -> tuple[Samples | None, str]:
    """:func:`_samples`, and the key of the whole member; errors name it."""
    try:
        samples, key = _samples(job)
    except InputError as error:
        raise InputError(f"member '{job.member.name}': {error}") from error
    return samples, content_key(REVISION, key, job.scoring.extractor_key, job.scoring.k)


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
    """The generator's images: as many as the zoo's, in the same class proportions."""
    member = job.member
    real = Samples.load(job.training_set)
    count = job.sample.count or len(real)
    classes = len(job.class_names)
    labels = sample_labels(real.labels, classes, count, job.sample.labels, member.seed)
    try:
        images = draw_bank(
            open_sampler(str(member.generator)),
            labels,
            seed=member.seed,
            batch=member.batch,
            value_range=member.range,
        )
    except InputError as error:
        raise InputError(f"member '{member.name}': {error}") from error
    return Samples(fitted(images, real.shape), labels)


def _health(job: ExternalJob, samples: Samples) -> tuple[str, ...]:
    """A warning if the number of images differs: density and coverage depend on it."""
    wanted = job.sample.count or len(Samples.load(job.training_set))
    if len(samples) == wanted:
        return ()
    return (f"scored with {len(samples)} images, the others with {wanted}",)


def card_facts(members: Sequence[ExternalSpec], chosen: Sequence[MemberResult]) -> dict[str, Any]:
    """Notes about chosen external members for the card, by name."""
    facts: dict[str, Any] = {}
    results = {result.name: result for result in chosen}
    for member in members:
        if member.name not in results:
            continue
        about = member.model_dump(include={"licence", "source"}, exclude_none=True)
        if member.sweep is not None:
            about |= results[member.name].origin or {}
        elif member.images is not None:
            about["images"] = Path(member.images).name
        else:
            about["generator"] = describe(str(member.generator))
            about |= {"seed": member.seed, "batch": member.batch}
        facts[member.name] = about
    return facts
