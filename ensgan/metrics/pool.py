"""Scores of a whole pool: densities, coverage masks and overlaps, each distance computed once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from ensgan.errors import DataError
from ensgan.metrics.blocks import (
    BlockScores,
    BlockTask,
    Member,
    Scoring,
    Survey,
    SurveyTask,
    group_sets,
    score_block,
    survey,
)
from ensgan.metrics.exact import BoolArray, describe
from ensgan.metrics.features import (
    FeatureSource,
    Frame,
    check_points,
    magnitude,
    open_features,
    robust_centre,
    shifted,
)
from ensgan.types import Float64Array, Int64Array, PoolScores, UInt8Array, harmonic_mean

Mapper: TypeAlias = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
"""``map`` or anything like it; results may come in any order."""
Progress: TypeAlias = Callable[[int, int], None]
"""Called with (pairs done, pairs in all)."""
Warn: TypeAlias = Callable[[str], None]


def _silent(*_: object) -> None:
    return None


@dataclass(frozen=True)
class PoolMeasures:
    """What one pass over a pool yields.

    Attributes:
        scores: densities, coverage masks and overlaps.
        precision: float64 [M], share of each member's images inside some real ball.
        recall: float64 [M], share of real images inside some ball of the member.
            Both are nan for members taken over from known scores.
    """

    scores: PoolScores
    precision: Float64Array
    recall: Float64Array


def score_pool(
    real: FeatureSource, fakes: Sequence[FeatureSource], names: Sequence[str], **options: Any
) -> PoolScores:
    """Densities, masks and overlaps of a pool: :func:`measure_pool` without the rest."""
    return measure_pool(real, fakes, names, **options).scores


def measure_pool(
    real: FeatureSource,
    fakes: Sequence[FeatureSource],
    names: Sequence[str],
    *,
    k: int = 5,
    backend: str = "auto",
    memory_bytes: int = 2 << 30,
    extractor: str = "",
    checkpoint: Path | None = None,
    on_progress: Progress | None = None,
    on_warning: Warn | None = None,
    mapper: Mapper = map,
    known: PoolScores | None = None,
) -> PoolMeasures:
    """Score every member against the real set and every pair of members against each other.

    Radii are measured once a member; one matrix product serves both directions of a pair.

    Args:
        real: [N,D] features: array, memory map or a function that returns one.
        fakes: one such source a member, [S_g,D]; counts may differ.
        names: one a member, all different.
        k: neighbour that sets the radius.
        backend: ``auto``, ``torch`` or ``faiss``; the scores do not depend on it.
        memory_bytes: bound on working memory beside the features themselves.
        extractor: content key of the embedding, for the record.
        checkpoint: folder for finished blocks; scoring the same features again continues there.
        on_progress: called after every block.
        on_warning: called with one sentence for each duplicate, zero-variance or collapsed set.
        mapper: spreads the blocks (``score_block`` is pure, tasks can be pickled when the
            sources can).
        known: scores of some of these members; only pairs with a new member are computed.

    Raises:
        InputError: names repeat or do not match the members, NaN or infinity (which member, how
            many), different dimensions, fewer than k+1 points, ``known`` of other features or k.
    """
    names = tuple(str(name) for name in names)
    _check_names(names, len(fakes))
    progress, warn = on_progress or _silent, on_warning or _silent
    scoring = _scoring(real, k, backend, memory_bytes)
    sources = dict(zip(("real features", *names), (real, *fakes), strict=True))
    surveys = _survey(sources, scoring, mapper, digest=checkpoint is not None)
    for name, found in zip(sources, surveys, strict=True):
        for sentence in describe(found.balls, name, is_real=found.index == 0):
            warn(sentence)
    largest = max(found.balls.deviation for found in surveys)
    members = tuple(
        Member(found.index, name, source, found.balls, found.digest)
        for (name, source), found in zip(sources.items(), surveys, strict=True)
    )
    wanted = _wanted_pairs(names, known, members, k)
    tasks = list(_tasks(members, wanted, Frame.spanning(scoring.centre, largest), scoring))
    total, done = int(wanted.sum()), 0
    sums = _Sums(len(members), (len(members[0].balls) + 7) // 8)
    progress(done, total)
    for block in _run(tasks, checkpoint, mapper):
        sums.add(block)
        done += int(block.wanted.sum())
        progress(done, total)
    scores = sums.scores(names, [len(member.balls) for member in members], k, extractor)
    precision, recall = sums.precision_recall(scores, wanted[0, 1:])
    return PoolMeasures(scores if known is None else _merge(scores, known), precision, recall)


def add_members(
    scores: PoolScores,
    real: FeatureSource,
    fakes: Sequence[FeatureSource],
    names: Sequence[str],
    **options: Any,
) -> PoolScores:
    """Scores of a grown pool: only pairs with a member that ``scores`` lacks are computed.

    ``fakes`` and ``names`` are the whole pool in its new order; options and errors as
    :func:`score_pool`. The caller answers for the known members' features being unchanged.
    """
    options.setdefault("k", scores.k)
    options.setdefault("extractor", scores.extractor)
    return score_pool(real, fakes, names, known=scores, **options)


def _check_names(names: Sequence[str], members: int) -> None:
    if len(names) != members or not members:
        raise DataError(f"{members} members but {len(names)} names: give one name a member")
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DataError(f"member names repeat: {', '.join(repeated)}; give each member its own")
    if "real features" in names:
        raise DataError("a member is called 'real features': give it another name")


def _scoring(real: FeatureSource, k: int, backend: str, memory_bytes: int) -> Scoring:
    if memory_bytes < 1 << 20:
        raise DataError(f"a memory budget of {memory_bytes} bytes is too small: give 1 MiB or more")
    features = open_features(real, "real features")
    check_points(features, "real features", k)
    shift = magnitude(features)
    centre = robust_centre(shifted(features, shift))
    return Scoring(k, backend, features.shape[1], centre, shift, memory_bytes)


def _survey(
    sources: dict[str, FeatureSource], scoring: Scoring, mapper: Mapper, *, digest: bool
) -> list[Survey]:
    tasks = [
        SurveyTask(index, name, source, scoring, digest)
        for index, (name, source) in enumerate(sources.items())
    ]
    return sorted(mapper(survey, tasks), key=lambda found: int(found.index))


def _wanted_pairs(
    names: tuple[str, ...], known: PoolScores | None, members: tuple[Member, ...], k: int
) -> BoolArray:
    """Upper triangle of sets [1+M,1+M] without the pairs already known."""
    wanted = np.triu(np.ones((len(members), len(members)), np.bool_), 1)
    if known is None:
        return wanted
    counts = {member.name: len(member.balls) for member in members}
    differs = [
        name
        for name, count in zip(known.names, known.counts.tolist(), strict=True)
        if name in counts and counts[name] != count
    ]
    if known.k != k or known.n_real != len(members[0].balls) or differs:
        raise DataError(
            f"the known scores are of other features (k {known.k}, {known.n_real} real points"
            + (f", another count for {', '.join(differs)}" if differs else "")
            + "): score the whole pool again"
        )
    old = np.array([True, *(name in known.names for name in names)])
    wanted[np.ix_(old, old)] = False
    return wanted


def _tasks(
    members: tuple[Member, ...], wanted: BoolArray, frame: Frame, scoring: Scoring
) -> Iterator[BlockTask]:
    sizes = [len(member.balls) for member in members[1:]]
    groups = group_sets(sizes, scoring.dim, scoring.memory_bytes)
    rows_of = [(0,), *groups]
    for first, rows in enumerate(rows_of):
        for columns in groups[max(0, first - 1) :]:
            part = wanted[np.ix_(rows, columns)]
            if part.any():
                yield BlockTask(
                    tuple(members[index] for index in rows),
                    tuple(members[index] for index in columns),
                    part,
                    frame,
                    scoring,
                )


def _run(tasks: list[BlockTask], checkpoint: Path | None, mapper: Mapper) -> Iterator[BlockScores]:
    """Blocks as they finish: those in the checkpoint first, the others stored when done."""
    if checkpoint is None:
        yield from mapper(score_block, tasks)
        return
    waiting: dict[tuple[int, int], BlockTask] = {}
    for task in tasks:
        path = _stored(checkpoint, task)
        if path.exists():
            # Indices are of this pool, not of the one that stored the block.
            yield replace(
                BlockScores.load(path), rows=_indices(task.rows), columns=_indices(task.columns)
            )
        else:
            waiting[task.rows[0].index, task.columns[0].index] = task
    for block in mapper(score_block, list(waiting.values())):
        task = waiting[int(block.rows[0]), int(block.columns[0])]
        block.save(_stored(checkpoint, task))
        yield block


def _stored(checkpoint: Path, task: BlockTask) -> Path:
    return checkpoint / f"block-{task.key}.npz"


def _indices(members: tuple[Member, ...]) -> Int64Array:
    return np.array([member.index for member in members], np.int64)


class _Sums:
    """Counts of all pairs so far; [g,h] holds the balls of g and the points of h."""

    def __init__(self, sets: int, width: int) -> None:
        self._hits = np.zeros((sets, sets), np.int64)
        self._reached = np.zeros((sets, sets), np.int64)
        self._covered = np.zeros((sets, sets), np.int64)
        self._masks: UInt8Array = np.zeros((sets, width), np.uint8)

    def add(self, block: BlockScores) -> None:
        a, b = np.nonzero(block.wanted)
        g, h = block.rows[a], block.columns[b]
        for target, counts in (
            (self._hits, block.hits),
            (self._reached, block.reached),
            (self._covered, block.covered),
        ):
            target[g, h], target[h, g] = counts[a, b, 0], counts[a, b, 1]
        if block.masks.size:
            self._masks[block.columns] = block.masks

    def scores(
        self, names: tuple[str, ...], counts: Sequence[int], k: int, extractor: str
    ) -> PoolScores:
        size = np.asarray(counts, np.int64)
        density = self._hits / (k * size[None, :])
        coverage = self._reached / size[:, None]
        directed = harmonic_mean(density, coverage)[1:, 1:]
        np.fill_diagonal(directed, np.nan)
        return PoolScores(
            names,
            density=density[0, 1:],
            coverage=coverage[0, 1:],
            masks=self._masks[1:],
            directed=directed,
            overlap=(directed + directed.T) / 2,
            k=k,
            n_real=int(size[0]),
            counts=size[1:],
            extractor=extractor,
        )

    def precision_recall(
        self, scores: PoolScores, scored: BoolArray
    ) -> tuple[Float64Array, Float64Array]:
        precision = self._covered[0, 1:] / scores.counts
        recall = self._covered[1:, 0] / scores.n_real
        return np.where(scored, precision, np.nan), np.where(scored, recall, np.nan)


def _merge(scores: PoolScores, known: PoolScores) -> PoolScores:
    """``scores`` with the members and pairs of ``known`` filled in."""
    place = {name: index for index, name in enumerate(scores.names)}
    old = [index for index, name in enumerate(known.names) if name in place]
    new = [place[known.names[index]] for index in old]
    for field in ("density", "coverage", "masks"):
        getattr(scores, field)[new] = getattr(known, field)[old]
    for field in ("directed", "overlap"):
        getattr(scores, field)[np.ix_(new, new)] = getattr(known, field)[np.ix_(old, old)]
    return scores
