"""Scores of a whole pool: densities, coverage masks and overlaps, each distance computed once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from ensgan.errors import DataError
from ensgan.metrics.approximation import FastError, measure_error, sample_pairs
from ensgan.metrics.blocks import BlockScores, BlockTask, Member, group_sets, score_block
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
from ensgan.metrics.sums import Sums
from ensgan.metrics.survey import Scoring, Survey, SurveyTask, survey
from ensgan.types import Float64Array, PoolScores

Mapper: TypeAlias = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
"""``map`` or anything like it; results may come in any order."""
Progress: TypeAlias = Callable[[int, int], None]
"""Called with (products done, products in all): one a set for its radii, one a pair."""
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
        fast_error: how far fast scores are from exact ones; None when they are exact.
    """

    scores: PoolScores
    precision: Float64Array
    recall: Float64Array
    fast_error: FastError | None = None


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
    fast: bool = False,
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
        checkpoint: folder for finished radii and blocks, on storage that every worker of
            ``mapper`` sees; scoring the same features again continues there.
        fast: let the product alone decide (TF32 on CUDA, no recheck); the error is measured on
            some pairs and returned.
        on_progress: called after every set and every block.
        on_warning: called with one sentence for each duplicate, zero-variance or collapsed set.
        mapper: spreads the work (``survey`` and ``score_block`` are pure; their tasks can be
            pickled when the sources can).
        known: scores of some of these members; only pairs with a new member are computed.

    Raises:
        InputError: names repeat or do not match the members, NaN or infinity (which member, how
            many), different dimensions, fewer than k+1 points, ``known`` of other features or k.
    """
    names = tuple(str(name) for name in names)
    _check_names(names, len(fakes))
    warn = on_warning or _silent
    wanted = _wanted_pairs(names, known)
    progress = _Counter(on_progress or _silent, len(wanted) + int(wanted.sum()))
    scoring = _scoring(real, k, backend, memory_bytes)
    scoring = replace(
        scoring, fast=fast, store=None if checkpoint is None else checkpoint.resolve()
    )
    sources = dict(zip(("real features", *names), (real, *fakes), strict=True))
    surveys = _survey(sources, scoring, mapper, progress)
    for name, found in zip(sources, surveys, strict=True):
        for sentence in describe(found.balls, name, is_real=found.index == 0):
            warn(sentence)
    members = tuple(
        Member(found.index, name, source, found.balls, found.digest)
        for (name, source), found in zip(sources.items(), surveys, strict=True)
    )
    if known is not None:
        _check_known(known, members, k)
    largest = max(found.balls.deviation for found in surveys)
    frame = Frame.spanning(scoring.centre, largest)
    sums = Sums(len(members), (len(members[0].balls) + 7) // 8)
    for block in _run(_tasks(members, wanted, frame, scoring), mapper):
        sums.add(block)
        progress.add(int(block.wanted.sum()))
    size = np.array([len(member.balls) for member in members], np.int64)
    error = None
    if fast and wanted.any():
        tasks = _sampled(members, wanted, frame, replace(scoring, fast=False))
        error = measure_error(sums, mapper(score_block, tasks), size, k)
    scores = sums.scores(names, size, k, extractor)
    precision, recall = sums.precision_recall(scores, wanted[0, 1:])
    if known is not None:
        scores = _merge(scores, known)
    return PoolMeasures(scores, precision, recall, error)


class _Counter:
    """Tells how many products are done."""

    def __init__(self, tell: Progress, total: int) -> None:
        self._tell, self._total, self._done = tell, total, 0
        tell(0, total)

    def add(self, products: int) -> None:
        self._done += products
        self._tell(self._done, self._total)


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
    sources: dict[str, FeatureSource], scoring: Scoring, mapper: Mapper, progress: _Counter
) -> list[Survey]:
    tasks = [
        SurveyTask(index, name, source, scoring)
        for index, (name, source) in enumerate(sources.items())
    ]
    found = []
    for each in mapper(survey, tasks):
        found.append(each)
        progress.add(1)
    return sorted(found, key=lambda each: int(each.index))


def _wanted_pairs(names: tuple[str, ...], known: PoolScores | None) -> BoolArray:
    """Upper triangle of sets [1+M,1+M] without the pairs already known."""
    size = 1 + len(names)
    wanted = np.triu(np.ones((size, size), np.bool_), 1)
    if known is not None:
        old = np.array([True, *(name in known.names for name in names)])
        wanted[np.ix_(old, old)] = False
    return wanted


def _check_known(known: PoolScores, members: tuple[Member, ...], k: int) -> None:
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


def _sampled(
    members: tuple[Member, ...], wanted: BoolArray, frame: Frame, scoring: Scoring
) -> list[BlockTask]:
    """Some pairs, one a task, to be scored exactly."""
    one = np.ones((1, 1), np.bool_)
    return [
        BlockTask((members[a],), (members[b],), one, frame, scoring)
        for a, b in sample_pairs(wanted)
    ]


def _run(tasks: Iterable[BlockTask], mapper: Mapper) -> Iterator[BlockScores]:
    """Blocks as they finish: those that an earlier run kept first."""
    missing = []
    for task in tasks:
        block = task.finished()
        if block is None:
            missing.append(task)
        else:
            yield block
    yield from mapper(score_block, missing)


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
