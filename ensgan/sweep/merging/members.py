"""Members of other sweeps, brought unchanged into a sweep's own folder.

Files are linked or copied and scores of pairs within a sweep are taken over, so that the merged
sweep no longer needs the other folders once it has begun.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ensgan.config import SweepSpec
from ensgan.errors import DataError, InputError
from ensgan.files import atomic_path, content_key, sha256_file
from ensgan.sweep.folder import SweepFolder
from ensgan.sweep.inputs import Inputs
from ensgan.sweep.member_job import belongs
from ensgan.sweep.merging import SIGN, Source, require_same, sources_of
from ensgan.sweep.records import MemberResult
from ensgan.sweep.resolving import Resolved
from ensgan.sweep.search_stage import TAKEN, scores_key, taken_of
from ensgan.types import Dataset, Samples

REVISION = 1


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
