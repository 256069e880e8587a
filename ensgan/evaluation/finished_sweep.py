"""A sweep that has run: what its folder holds, as it is or scored with another extractor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from ensgan import embedding
from ensgan.config import SweepSpec
from ensgan.errors import DataError, EnsganError, InputError
from ensgan.files import content_key, require_whole
from ensgan.search import pool_key, select
from ensgan.sweep.classifier_job import RULE
from ensgan.sweep.executor import Executor, Needs
from ensgan.sweep.folder import SweepFolder, find_sweep
from ensgan.sweep.inputs import Inputs, embedding_inputs
from ensgan.sweep.manifest import Manifest, SelectedRecord
from ensgan.sweep.records import DatasetFiles, MemberResult
from ensgan.sweep.resolving import gan_rows
from ensgan.sweep.search_stage import find_front, score
from ensgan.sweep.validated import RULE as VALIDATED
from ensgan.types import Front, PoolScores, Samples, Selection
from ensgan.zoo import GANSpec


@dataclass(frozen=True, kw_only=True)
class FinishedSweep:
    """A pool with its scores, its front and G*, ready to be evaluated.

    Attributes:
        folder: of the sweep.
        spec: what was run.
        dataset: the real data, on the sweep's storage.
        members: in pool order.
        scores, front, selected: as the sweep found them.
        run_id: of the parent run, None when it was not recorded.
        failed: GANs that failed, with the reason.
        rows: the GANs of members whose weights can make further images, by GAN or by member.
    """

    folder: SweepFolder
    spec: SweepSpec
    dataset: DatasetFiles
    members: tuple[MemberResult, ...]
    scores: PoolScores
    front: Front
    selected: Selection
    run_id: str | None = None
    failed: Mapping[str, str] = field(default_factory=dict)
    rows: Mapping[str, GANSpec] = field(default_factory=dict)


def open_sweep(source: str, storage: Path) -> FinishedSweep:
    """Read a finished sweep.

    Args:
        source: its name, its folder, or the ID of a run recorded for it.

    Raises:
        InputError: no such sweep, or it has no front yet.
        DataError: a file of it is missing or damaged.
    """
    folder = find_sweep(source, storage)
    manifest = folder.read()
    name = folder.path.name
    if manifest.front is None or manifest.selected is None:
        raise InputError(
            f"sweep '{name}' has not come to its front yet (status: {manifest.status}): run "
            "`ensgan sweep` again to finish it"
        )
    front = Front.load(require_whole(manifest.front))
    scores = _scores_of(folder, front)
    absent = [member for member in scores.names if member not in manifest.members]
    if absent:
        raise DataError(f"the manifest of sweep '{name}' lacks the members {', '.join(absent)}")
    members = tuple(manifest.members[member] for member in scores.names)
    for member in members:
        if not member.samples.is_file():
            raise DataError(
                f"the images of {member.name} are not where sweep '{name}' wrote them "
                f"({member.samples}): run `ensgan sweep` again to make them"
            )
    real = manifest.dataset
    paths = {split: folder.real_images(real.key, split) for split in ("train", "val", "test")}
    return FinishedSweep(
        folder=folder,
        spec=manifest.settings,
        dataset=DatasetFiles(real.name, real.classes, real.key, paths),
        members=members,
        scores=scores,
        front=front,
        selected=_selection(manifest.selected, front, scores, name),
        run_id=folder.run_id(),
        failed=manifest.failed,
        rows=_rows(manifest),
    )


def _rows(manifest: Manifest) -> dict[str, GANSpec]:
    """The GANs of a sweep; none where a plugin that it was trained with is no longer there."""
    try:
        return gan_rows(manifest.settings, manifest.variations)
    except EnsganError:
        return {}


def _scores_of(folder: SweepFolder, front: Front) -> PoolScores:
    """The scores a front was searched in, known by their content key."""
    for path in sorted((folder.path / "scores").glob("scores-*.npz")):
        try:
            scores = PoolScores.load(require_whole(path))
        except InputError:  # if these are the wanted ones, the error below says so
            continue
        if pool_key(scores) == front.pool:
            return scores
    raise DataError(
        f"{folder.path / 'scores'} does not hold the scores of the front: run `ensgan sweep` again"
    )


def _selection(about: SelectedRecord, front: Front, scores: PoolScores, name: str) -> Selection:
    point = about.point(front)
    # Validation may choose an ensemble beside the front, but of the same pool.
    is_of_pool = about.rule == VALIDATED and set(point.members) <= set(scores.names)
    if point not in front.points and not is_of_pool:
        raise DataError(f"the ensemble that sweep '{name}' selected is not on its front")
    return Selection(about.rule, point, about.reason)


OnStage = Callable[[str, int, int], None]
"""Called with the name of a stage, what is done and the total."""


@dataclass(frozen=True)
class View:
    """Which extractor the pool is scored with.

    Attributes:
        extractor: a different one; None keeps the sweep's scores.
        weights: weight file of that extractor.
        count: images of each member to score with it, None for all. Labels are in random order, so
            the first ones are a fair part. Scores of different counts cannot be compared.
    """

    extractor: str | None = None
    weights: str | None = None
    count: int | None = None

    def __post_init__(self) -> None:
        if self.extractor is None and (self.weights is not None or self.count is not None):
            raise InputError("a weight file or number of images to score needs an extractor")
        if self.count is not None and self.count < 2:
            raise InputError(f"{self.count} images of each member cannot be scored: use 2 or more")


@dataclass(frozen=True)
class EmbedJob:
    """Features of one member's images; the first ``count`` of them, None for all."""

    samples: Path
    extractor: Path
    count: int | None
    path: Path


def _embed_member(job: EmbedJob) -> Path:
    """Write the features of a job, or find them on disk; their file."""
    embedding.keep_features(
        job.path,
        lambda: Samples.load(job.samples).images[: job.count],
        lambda: embedding.load_extractor(job.extractor, "auto"),
    )
    return job.path


def rescore(
    sweep: FinishedSweep,
    view: View,
    executor: Executor,
    on_stage: OnStage = lambda stage, done, total: None,
) -> FinishedSweep:
    """Embed, score, search and select again with another extractor; nothing is trained.

    The members' images are those of the sweep, and so are all its other settings. Results are
    kept in the sweep's folder, whose manifest stays as it is.

    Args:
        sweep: the trained pool.
        view: the other extractor, and how many images to score.
        executor: where images are embedded.
        on_stage: told of the progress.

    Returns:
        The sweep with the new scores, front and G*.

    Raises:
        InputError: an unknown extractor.
    """
    extractor, weights, count = view.extractor, view.weights, view.count
    if extractor is None:
        return sweep
    embedding.EXTRACTORS.get(extractor)  # an unknown one is refused before anything is computed
    before = sweep.spec.embed
    if (extractor, weights, count) == (before.extractor, before.weights, None):
        return sweep
    embed = before.model_copy(update={"extractor": extractor, "weights": weights})
    spec = sweep.spec.model_copy(update={"embed": embed})
    inputs = embedding_inputs(spec, sweep.dataset.load(), sweep.dataset, sweep.folder)
    members = _embedded(sweep, inputs, count, executor, on_stage)
    scores, _ = score(inputs, members, partial(on_stage, "score"), lambda: executor)
    front, *_ = find_front(inputs, scores, members, partial(on_stage, "search"))
    # Nothing is trained here: ``validated`` is then the largest first objective.
    rule = spec.select.rule if spec.select.rule != RULE else "knee"
    columns = zip(members, scores.density, scores.coverage, scores.intra_d, strict=True)
    return replace(
        sweep,
        spec=spec,
        members=tuple(
            member.model_copy(
                update={"density": float(density), "coverage": float(cover), "intra_d": float(d)}
            )
            for member, density, cover, d in columns
        ),
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
        key = content_key(member.samples.name, inputs.scoring.extractor_key, count)
        path = sweep.folder.file("features", f"{member.name}-{key}.npy")
        jobs.append(EmbedJob(member.unchanged("samples"), inputs.scoring.extractor, count, path))
    done: list[Path] = []

    def on_done(path: Path) -> None:
        done.append(path)
        on_stage("embed", len(done), len(jobs))

    paths = executor.map(_embed_member, jobs, on_done=on_done, needs=Needs.on("auto"))
    return [
        # The recorded hashes are of the sweep's own features, not of these.
        member.model_copy(update={"features": path, "contents": {}})
        for member, path in zip(sweep.members, paths, strict=True)
    ]
