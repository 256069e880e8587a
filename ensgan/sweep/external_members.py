"""Members made elsewhere that join a sweep's pool (section ``members`` of its file).

A generator becomes a sample bank: its images with labels, embedded and scored like those of the
zoo's GANs. Members of other sweeps are brought unchanged: files are linked or copied and scores of
pairs within a sweep are taken over, so that the merged sweep no longer needs the other folders once
it has begun. All this happens before any training, so that a mistake costs little.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ensgan import ensemble
from ensgan.config import ExternalSpec, SampleSpec, SweepSpec
from ensgan.data.image_set import fitted
from ensgan.data.pool import read_generator
from ensgan.ensemble.external import describe, draw_bank, open_sampler
from ensgan.errors import DataError, InputError, IntegrityError
from ensgan.files import atomic_path, content_key, sha256_file
from ensgan.sweep.executor import Executor, Needs
from ensgan.sweep.folder import SweepFolder
from ensgan.sweep.inputs import Inputs
from ensgan.sweep.member_job import BLANK, MemberScorer, Scoring, belongs, sample_labels
from ensgan.sweep.merging import SIGN, Source, require_same, sources_of
from ensgan.sweep.records import MemberResult
from ensgan.sweep.resolving import Resolved
from ensgan.sweep.search_stage import TAKEN, scores_key, taken_of
from ensgan.types import Dataset, Samples

REVISION = 1
"""Raise it when a change of this module changes its results."""


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


def make_members(
    resolved: Resolved,
    inputs: Inputs,
    known: Mapping[str, MemberResult],
    executor: Callable[[], Executor],
    on_member: Callable[[MemberResult], None],
) -> None:
    """Make members of the spec's generators, in its order; those made before are not made again.

    Args:
        known: members that this sweep has.
        executor: asked only when a member has to be made.
        on_member: called for every member.

    Raises:
        InputError: one of them cannot be used.
    """
    names, training_set = resolved.dataset.class_names, inputs.dataset.splits["train"]
    missing = []
    for member in resolved.spec.members:
        if member.sweep is None:
            job = ExternalJob(member, names, training_set, resolved.spec.sample, inputs.scoring)
            # To look for an unknown one would read its images here and again in its task.
            made = _known(job, _named_samples(job)[1]) if member.name in known else None
            if made is None:
                missing.append(job)
            else:
                on_member(made)
    if missing:
        executor().map(_make_member, missing, on_done=on_member, needs=Needs.on("auto"))


def _known(job: ExternalJob, key: str) -> MemberResult | None:
    member = job.scoring.known(job.member.name, key)
    with suppress(IntegrityError):  # a damaged bank is written again
        if member is not None and member.unchanged("weights"):
            return member
    return None


def _make_member(job: ExternalJob) -> MemberResult:
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


def bring_inputs(spec: SweepSpec, folder: SweepFolder) -> None:
    """Take over extractors and real features; named by content, they are used only if they fit."""
    for source in sources_of(spec, folder):
        for part, pattern in (("extractor", "*"), ("features", "real-*")):
            for path in sorted((source.folder.path / part).glob(pattern)):
                _link(path, folder.file(part, path.name))


def bring_members(
    resolved: Resolved, inputs: Inputs, known: Mapping[str, MemberResult]
) -> list[MemberResult]:
    """The members of other sweeps, with all their files in this sweep's folder.

    Args:
        known: members that this sweep has.

    Raises:
        ConfigError: another extractor.
        InputError: a sweep or member that is gone and was not brought before.
        DataError: images of another size, or of classes that the data do not have.
        IntegrityError: a file has changed since its member was made.
    """
    brought: dict[str, MemberResult] = {}
    wanted: dict[str, list[str]] = {}
    for member in resolved.spec.members:
        if member.sweep is not None:
            have = known.get(member.name) or _on_disk(member.name, inputs)
            if have is not None and belongs(have, member.name, _key(have, inputs)):
                brought[member.name] = have
            else:
                wanted.setdefault(member.sweep, []).append(member.name)
    for place, names in wanted.items():
        source = Source(place, inputs.folder.path.parents[1])
        extractor = f"{inputs.spec.embed.extractor} ({inputs.scoring.extractor_key})"
        require_same(inputs.spec.name, {"extractor": extractor}, source.name, source.facts())
        for name in names:
            brought[name] = _bring(name, source, inputs, resolved.dataset)
        joined = [one.name for one in resolved.spec.members if one.sweep == place]
        _take_scores(source, [brought[name] for name in joined], inputs)
    return [brought[one.name] for one in resolved.spec.members if one.sweep is not None]


def _key(member: MemberResult, inputs: Inputs) -> str:
    scoring = inputs.scoring
    return content_key(REVISION, member.sha256, scoring.extractor_key, scoring.k)


def _on_disk(name: str, inputs: Inputs) -> MemberResult | None:
    """A member that was brought before and has been removed since."""
    for path in sorted((inputs.folder.path / "members").glob(f"{name}-*.json")):
        with suppress(DataError):
            member = MemberResult.load(path, inputs.folder.path)
            if belongs(member, name, _key(member, inputs)):
                return member
    return None


def _bring(name: str, source: Source, inputs: Inputs, real: Dataset) -> MemberResult:
    """One member: its weights, images, features and record."""
    theirs = name.partition(SIGN)[2]
    if theirs not in source.members:
        raise InputError(f"sweep '{source.name}' has no member '{theirs}': take it out of the file")
    member = source.members[theirs]
    made = Samples.load(member.samples)
    if made.shape != real.shape or (made.labels >= real.num_classes).any():
        raise DataError(
            f"{member.samples} cannot be used: its images are not of {real.name}'s shape, "
            f"{list(real.shape.array_shape(1)[1:])}, or of classes beyond its {real.num_classes}"
        )
    key = _key(member, inputs)
    file = inputs.folder.file
    paths = {
        "weights": file("banks", f"{name}-{key}.safetensors"),
        "samples": file("samples", f"{name}-{key}.npz"),
        "features": file("features", f"{name}-{key}.npy"),
    }
    for part, path in paths.items():
        _link(member.unchanged(part), path)
    record = member.weights.with_suffix(".json")
    if record.is_file():  # a snapshot's: it says which GAN's weights these are
        _link(record, paths["weights"].with_suffix(".json"))
    run = source.folder.run_id()
    result = member.model_copy(
        update={
            **paths,
            "name": name,
            "contents": {
                part: member.contents.get(part) or sha256_file(paths[part])
                for part in ("samples", "features")
            },
            "work": (),
            "origin": {"sweep": source.name, "member": theirs, **({"run": run} if run else {})},
        }
    )
    result.save(inputs.scoring.record(name, key), inputs.folder.path)
    return result


def _take_scores(source: Source, members: Sequence[MemberResult], inputs: Inputs) -> None:
    """Keep a sweep's scores of its members under their names here, once its key is checked."""
    settings, features = source.manifest.settings.score, source.members
    reference, path = inputs.scoring.reference, source.manifest.scores
    with suppress(DataError):
        known = source.scores
        if path is None or not set(known.names) <= set(features):
            return
        files = [features[name].features for name in known.names]
        key = scores_key(reference, files, settings, len(inputs.dataset.class_names))
        theirs = source.folder.file("features", reference.name)
        # Real features that another machine embedded may differ in the last bit.
        is_same = theirs.is_file() and sha256_file(theirs) == sha256_file(reference)
        if path.stem != f"scores-{key}" or not is_same:
            return
        names = {member.origin["member"]: member for member in members if member.origin}
        part = known.part([name for name in known.names if name in names])
        ours = [names[name] for name in part.names]
        contents = [taken_of(inputs), *(member.contents["features"] for member in ours)]
        replace(
            part,
            names=tuple(member.name for member in ours),
            contents=tuple(contents),
            resamples=None,  # they depend on the names, which are others here
        ).save(inputs.folder.file("scores", f"{TAKEN}{content_key(contents)}.npz"))


def _link(origin: Path, path: Path) -> None:
    """Link a file to another place, or copy it where the file system cannot link."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(origin.resolve(), path)
    except OSError:
        with atomic_path(path) as temporary:
            shutil.copyfile(origin, temporary)


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
