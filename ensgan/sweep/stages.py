"""The stages after training, each a function from typed values to a typed value.

The first argument of each is the sweep's folder: a stage looks for its result under its content
key there and computes only what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ensgan import __version__, downstream, ensemble, metrics, zoo
from ensgan.config import SearchSpec, SweepSpec
from ensgan.errors import DataError, EnsganError, IntegrityError
from ensgan.files import content_key, read_json, sha256_file, write_json
from ensgan.sweep.classifier_job import (
    EvaluateJob,
    choose_downstream,
    classifier_settings,
    compare_strategies,
    evaluation_jobs,
)
from ensgan.sweep.executor import Executor, as_mapper
from ensgan.sweep.external_member_job import card_facts
from ensgan.sweep.external_member_job import licences as external_licences
from ensgan.sweep.folder import SweepFolder
from ensgan.sweep.inputs import Inputs, Resolved, derive_seed
from ensgan.sweep.records import MemberResult
from ensgan.sweep.search_stage import mapped
from ensgan.types import Front, PoolScores, Selection, gan_of

REVISION = 1

LARGE_POOL = 1e13
"""Multiplications above which a pool's blocks become tasks: minutes of one core."""
LEAST_MEMORY = 1 << 28
"""Working memory of such a task, at least."""

OnProgress = Callable[[int, int], None]


def score(
    folder: SweepFolder,
    spec: SweepSpec,
    inputs: Inputs,
    members: Sequence[MemberResult],
    on_progress: OnProgress,
    executor: Callable[[], Executor] | None = None,
) -> PoolScores:
    """Densities, coverage masks and overlaps of the pool; a large one's blocks are tasks."""
    path = scores_path(folder, spec, inputs, members)
    names = tuple(member.name for member in members)
    known = _known_scores(path, names, spec.score.k, inputs.extractor_key)
    if known is not None:
        return known
    check_contents(members)
    memory = int(spec.score.memory_gb * 2**30)
    mapper: metrics.Mapper = map
    if executor is not None and _products(members) > LARGE_POOL and executor().slots > 1:
        slots = executor().slots
        mapper, memory = as_mapper(executor()), max(memory // slots, LEAST_MEMORY)
    scores = metrics.score_pool(
        mapped(inputs.reference),
        [mapped(member.features) for member in members],
        names,
        k=spec.score.k,
        resamples=spec.score.resamples,
        backend=spec.score.backend,
        memory_bytes=memory,
        extractor=inputs.extractor_key,
        mapper=mapper,
        checkpoint=path.with_name(path.stem.replace("scores", "blocks")),
        on_progress=on_progress,
    )
    scores.save(path)
    return scores


def _known_scores(path: Path, names: tuple[str, ...], k: int, extractor: str) -> PoolScores | None:
    """Scores made before; None where there are none, or damaged ones, or those of another pool."""
    try:
        scores = PoolScores.load(path)
    except DataError:
        return None
    same = (scores.names, scores.k, scores.extractor) == (names, k, extractor)
    return scores if same else None


def check_contents(members: Sequence[MemberResult]) -> None:
    """Refuse features that are not those the members were made with.

    Raises:
        IntegrityError: a file was replaced, swapped or cut off since.
    """
    for member in members:
        made = member.contents.get("features")
        if made is not None and sha256_file(member.features) != made:
            raise IntegrityError(
                f"{member.features} has changed since {member.name} was made: delete it and run "
                "`ensgan sweep` again, which makes it anew"
            )


def scores_path(
    folder: SweepFolder, spec: SweepSpec, inputs: Inputs, members: Sequence[MemberResult]
) -> Path:
    """Where :func:`score` keeps the scores of these members."""
    resamples = [spec.score.resamples] if spec.score.resamples else []
    key = content_key(
        REVISION,
        inputs.reference.name,
        [m.features.name for m in members],
        spec.score.k,
        *resamples,
    )
    return folder.file("scores", f"scores-{key}.npz")


def _products(members: Sequence[MemberResult]) -> float:
    """Multiplications that scoring the pool takes, roughly."""
    points, dim = mapped(members[0].features)().shape
    return float(len(members) ** 2 / 2 * points**2 * dim)


def strategies(
    spec: SweepSpec, scores: PoolScores, front: Front, selected: Selection
) -> tuple[downstream.Strategy, ...]:
    """The strategies of the spec, resolved to members."""
    resolved = downstream.build_strategies(
        spec.evaluate.strategies,
        scores=scores,
        front=front,
        selection=selected,
        seed=derive_seed(spec.seed, "strategies"),
    )
    return downstream.reweighted(resolved, spec.evaluate.weights, scores, spec.evaluate.n_times)


def choose(
    folder: SweepFolder,
    resolved: Resolved,
    inputs: Inputs,
    members: Sequence[MemberResult],
    front: Front,
    executor: Callable[[], Executor],
    on_result: Callable[[dict[str, Any]], None],
) -> Selection:
    """G* by the rule ``downstream``: validation scores of classifiers decide."""
    spec = resolved.spec
    return choose_downstream(
        front,
        points=spec.select.points,
        repeats=spec.select.repeats,
        dataset=inputs.dataset,
        samples={member.name: member.samples for member in members},
        settings=classifier_settings(spec.evaluate),
        seed=derive_seed(spec.seed, "select"),
        folder=folder.path / "evaluate",
        executor=executor,
        on_done=on_result,
    )


def evaluate_strategies(
    folder: SweepFolder,
    resolved: Resolved,
    inputs: Inputs,
    members: Sequence[MemberResult],
    chosen: Sequence[downstream.Strategy],
    executor: Callable[[], Executor],
    on_result: Callable[[dict[str, Any]], None],
) -> downstream.DownstreamTable:
    """Train and test a classifier per strategy and repeat, and compare them."""
    jobs = _classifier_jobs(
        folder, resolved, inputs, {member.name: member.samples for member in members}, chosen
    )
    if not jobs:  # data without classes has nothing to classify
        return downstream.DownstreamTable(None, (), ())
    return compare_strategies(jobs, executor, on_result)


def _classifier_jobs(
    folder: SweepFolder,
    resolved: Resolved,
    inputs: Inputs,
    samples: Mapping[str, Path],
    chosen: Sequence[downstream.Strategy],
) -> list[EvaluateJob]:
    spec = resolved.spec
    return evaluation_jobs(
        chosen,
        spec.evaluate.repeats,
        dataset=inputs.dataset,
        samples=samples,
        settings=classifier_settings(spec.evaluate),
        seed=derive_seed(spec.seed, "downstream"),
        folder=folder.path / "evaluate",
    )


def hand_over(
    folder: SweepFolder,
    resolved: Resolved,
    inputs: Inputs,
    members: Sequence[MemberResult],
    selected: Selection,
    table: downstream.DownstreamTable,
    memorisation: Mapping[str, Any],
) -> Path:
    """Write the selected ensemble as one artifact; its folder."""
    point = selected.point
    by_name = {member.name: member for member in members}
    rows = {row.name: row for row in resolved.gans}
    shares = point.weights or (1 / len(point.members),) * len(point.members)
    facts = _facts(resolved, inputs, selected, table)
    facts["metrics"]["memorisation"] = dict(memorisation)
    facts["provenance"]["known_failures"] = [
        f"{name}: {note}" for name in point.members for note in by_name[name].health
    ]
    hashes = [by_name[name].sha256 for name in point.members]
    path = folder.file("ensemble", content_key(REVISION, hashes, shares, facts))
    if _weights_of(path) == hashes:
        return path
    dataset = resolved.dataset
    counts = np.bincount(dataset.train.labels, minlength=dataset.num_classes)
    ensemble.write_ensemble(
        path,
        members=[
            _source(by_name[name], share, rows.get(gan_of(name)))
            for name, share in zip(point.members, shares, strict=True)
        ],
        shape=dataset.shape,
        class_names=dataset.class_names,
        class_shares=tuple(float(share) for share in counts / counts.sum()),
        **facts,
    )
    if _weights_of(path) != hashes:
        raise IntegrityError(
            f"weights of {', '.join(point.members)} have changed since they were trained: delete "
            f"their files in {folder.path / 'train'} and run `ensgan sweep` again"
        )
    return path


def _weights_of(path: Path) -> list[str] | None:
    """Hashes of an ensemble's members in order; None where there is no sound ensemble."""
    try:
        manifest = ensemble.verify_folder(path)
    except EnsganError:
        return None
    return [manifest.files[member.file].sha256 for member in manifest.members]


def _source(member: MemberResult, share: float, row: zoo.GANSpec | None) -> ensemble.MemberSource:
    """A member of the artifact; one without a row came as images and stays a bank of them."""
    kind: Literal["gan", "bank"] = "bank" if row is None else "gan"
    return ensemble.MemberSource(member.name, share, member.weights, row, kind)


def _facts(
    resolved: Resolved, inputs: Inputs, selected: Selection, table: downstream.DownstreamTable
) -> dict[str, Any]:
    """What the card and the manifest of the ensemble say beside its members."""
    spec, dataset, point = resolved.spec, resolved.dataset, selected.point
    external = card_facts(spec.members, point.members)
    return {
        "metrics": {
            **point.named(),
            "rule": selected.rule,
            "reason": selected.reason,
            "downstream": {k: v for k, v in table.to_json().items() if k != "runs"},
        },
        "dataset": {
            "name": dataset.name,
            "key": dataset.key,
            "licence": dataset.licence,
            "source": dataset.source,
            "train_images": len(dataset.train),
        },
        "extractor": {
            "name": spec.embed.extractor,
            "key": inputs.extractor_key,
            "k": spec.score.k,
            "images_per_member": resolved.count,
        },
        "provenance": {
            "sweep": spec.name,
            "seed": spec.seed,
            "ensgan": __version__,
            "weights": spec.train.weights,
            "inter": spec.search.inter,
            **({"outside": external} if external else {}),
            **_other_form(spec.search),
        },
        "licences": [
            f"data set {dataset.name}: {dataset.licence or 'not stated'}",
            f"generators: trained from scratch on {dataset.name}, its terms may bind them",
            f"extractor {spec.embed.extractor} (used for scoring, not part of this artifact): "
            + (inputs.extractor_licence or "made here, free of terms"),
            *external_licences(external),
            "code: ensgan, Apache-2.0",
        ],
    }


def _other_form(settings: SearchSpec) -> Mapping[str, str]:
    """What the objectives are when they are not the paper's."""
    if settings.objectives == "paper":
        return {}
    return {"objectives": settings.objectives}


def save_table(folder: SweepFolder, table: downstream.DownstreamTable) -> Path:
    """Write the downstream table beside the other results."""
    value = table.to_json()
    path = folder.file("evaluate", f"table-{content_key(value)}.json")
    if not _holds(path, value):
        write_json(path, value)
    return path


def _holds(path: Path, value: Any) -> bool:
    """Whether a JSON file holds this value; a damaged one does not."""
    try:
        return content_key(read_json(path)) == content_key(value)
    except (DataError, ValueError):
        return False
