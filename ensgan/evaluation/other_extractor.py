"""Members that are already trained, seen through another extractor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ensgan import embedding
from ensgan.errors import InputError
from ensgan.evaluation.finished_sweep import FinishedSweep
from ensgan.files import atomic_path, content_key
from ensgan.search import select
from ensgan.sweep import stages
from ensgan.sweep.classifier_job import RULE
from ensgan.sweep.executor import Executor
from ensgan.sweep.inputs import Inputs, embedding_inputs
from ensgan.sweep.records import MemberResult
from ensgan.sweep.search_stage import find_front
from ensgan.types import PoolScores, Samples

OnStage = Callable[[str, int, int], None]
"""Called with the name of a stage, what is done and the total."""


@dataclass(frozen=True)
class EmbedJob:
    """Features of one member's images; the first ``count`` of them, None for all."""

    samples: Path
    extractor: Path
    count: int | None
    path: Path


def embed_member(job: EmbedJob) -> Path:
    """Write the features of a job, or find them on disk; their file."""
    if not job.path.exists():
        images = Samples.load(job.samples).images[: job.count]
        extractor = embedding.load_extractor(job.extractor)
        with atomic_path(job.path) as temporary:
            np.save(temporary, embedding.embed(images, extractor).features)
    return job.path


def rescore(
    sweep: FinishedSweep,
    extractor: str,
    executor: Executor,
    *,
    weights: str | None = None,
    count: int | None = None,
    on_stage: OnStage = lambda stage, done, total: None,
) -> FinishedSweep:
    """Embed, score, search and select again with another extractor; nothing is trained.

    The members' images are those of the sweep, and so are all its other settings. Results are
    kept in the sweep's folder, whose manifest stays as it is.

    Args:
        sweep: the trained pool.
        extractor: name of the other extractor.
        executor: where images are embedded.
        weights: weight file of the extractor.
        count: images of each member to score, None for all. Labels are in random order, so the
            first ones are a fair part. Scores of different counts cannot be compared.
        on_stage: told of the progress.

    Returns:
        The sweep with the new scores, front and G*.

    Raises:
        InputError: an unknown extractor, or a count below 2.
    """
    embedding.EXTRACTORS.get(extractor)  # an unknown one is refused before anything is computed
    if count is not None and count < 2:
        raise InputError(f"{count} images of each member cannot be scored: use 2 or more")
    own = sweep.spec.embed
    if (extractor, weights, count) == (own.extractor, own.weights, None):
        return sweep
    embed = own.model_copy(update={"extractor": extractor, "weights": weights})
    spec = sweep.spec.model_copy(update={"embed": embed})
    inputs = embedding_inputs(spec, sweep.dataset.load(), sweep.dataset, sweep.folder)
    members = _embedded(sweep, inputs, count, executor, on_stage)
    scores = stages.score(
        sweep.folder, spec, inputs, members, lambda done, total: on_stage("score", done, total)
    )
    front, _ = find_front(
        sweep.folder,
        spec,
        scores,
        inputs,
        members,
        lambda done, total: on_stage("search", done, total),
    )
    rule = spec.select.rule if spec.select.rule != RULE else "knee"
    return replace(
        sweep,
        spec=spec,
        members=_with_scores(members, scores),
        scores=scores,
        front=front,
        selected=select(front, rule, pool=scores),
    )


def _embedded(
    sweep: FinishedSweep,
    inputs: Inputs,
    count: int | None,
    executor: Executor,
    on_stage: OnStage,
) -> list[MemberResult]:
    """The members with the features of the other extractor."""
    jobs = []
    for member in sweep.members:
        key = content_key(member.samples.name, inputs.extractor_key, count)
        path = sweep.folder.file("features", f"{member.name}-{key}.npy")
        jobs.append(EmbedJob(member.samples, inputs.extractor, count, path))
    done: list[Path] = []

    def on_done(path: Path) -> None:
        done.append(path)
        on_stage("embed", len(done), len(jobs))

    paths = executor.map(embed_member, jobs, on_done=on_done)
    return [
        # The hash of the sweep's own features says nothing of these.
        member.model_copy(update={"features": path, "contents": {}})
        for member, path in zip(sweep.members, paths, strict=True)
    ]


def _with_scores(members: Sequence[MemberResult], scores: PoolScores) -> tuple[MemberResult, ...]:
    """The members with what the pool's scores say of each."""
    columns = zip(members, scores.density, scores.coverage, scores.intra_d, strict=True)
    return tuple(
        member.model_copy(update={"density": float(d), "coverage": float(c), "intra_d": float(i)})
        for member, d, c, i in columns
    )
