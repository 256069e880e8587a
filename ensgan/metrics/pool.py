"""Scores of a whole pool: densities, coverage masks and overlaps, each distance computed once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

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
from ensgan.metrics.growing import check_known, check_settings, merged, wanted_pairs
from ensgan.metrics.options import Mapper, PoolOptions, Progress
from ensgan.metrics.resampled_sums import ResampledSums
from ensgan.metrics.resampling import check_rounds
from ensgan.metrics.sums import Sums
from ensgan.metrics.survey import Scoring, Survey, SurveyTask, survey
from ensgan.types import Float64Array, Int64Array, PoolScores, Resamples

REAL = "real features"
"""What the real set is called among the members."""


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
    **options: Any,
) -> PoolMeasures:
    """Score every member against the real set and every pair of members against each other.

    Radii are measured once a member; one matrix product serves both directions of a pair.

    Args:
        real: [N,D] features: array, memory map or a function that returns one.
        fakes: one such source a member, [S_g,D]; counts may differ.
        names: one a member, all different.
        **options: the attributes of :class:`PoolOptions`.

    Raises:
        InputError: names repeat or do not match the members, NaN or infinity (which member, how
            many), different dimensions, fewer than k+1 points, ``known`` of other features,
            other settings or another k.
    """
    chosen = PoolOptions(**options)
    labels = tuple(str(name) for name in names)
    _check_names(labels, len(fakes))
    if chosen.known is not None:
        check_settings(chosen.known, fast=chosen.fast, rounds=chosen.resamples)
    sources = dict(zip((REAL, *labels), (real, *fakes), strict=True))
    return _Measurement(sources, chosen).run()


class _Measurement:
    """One pass over a pool."""

    def __init__(self, sources: dict[str, FeatureSource], options: PoolOptions) -> None:
        self._sources, self._options = sources, options
        self._names = tuple(sources)[1:]
        self._scoring = _scoring(sources[REAL], options, len(self._names))
        self._wanted = wanted_pairs(self._names, options.known)
        total = len(self._wanted) + int(self._wanted.sum())
        self._progress = _Counter(options.on_progress, total)

    def run(self) -> PoolMeasures:
        """Radii of every set, then all pairs."""
        options = self._options
        members = self._members()
        if options.known is not None:
            check_known(options.known, members, options.k)
        frame = Frame.spanning(
            self._scoring.centre, max(member.balls.deviation for member in members)
        )
        size = np.array([len(member.balls) for member in members], np.int64)
        sums, resamples = self._count(members, frame, size)
        error = None
        if options.fast and self._wanted.any():
            tasks = _sampled(members, self._wanted, frame, replace(self._scoring, fast=False))
            error = measure_error(sums, options.mapper(score_block, tasks), size, options.k)
        scores = sums.scores(self._names, size, options.k, options.extractor)
        precision, recall = sums.precision_recall(scores, self._wanted[0, 1:])
        scores = replace(scores, fast=options.fast, resamples=resamples)
        if options.known is not None:
            scores = merged(scores, options.known)
        return PoolMeasures(scores, precision, recall, error)

    def _members(self) -> tuple[Member, ...]:
        """Every set with its radii; what should be known about them is said."""
        surveys = _survey(self._sources, self._scoring, self._options.mapper, self._progress)
        warn = self._options.on_warning
        for name, found in zip(self._sources, surveys, strict=True):
            for sentence in describe(found.balls, name, is_real=found.index == 0):
                if warn is not None:
                    warn(sentence)
        return tuple(
            Member(found.index, name, source, found.balls, found.digest)
            for (name, source), found in zip(self._sources.items(), surveys, strict=True)
        )

    def _count(
        self, members: tuple[Member, ...], frame: Frame, size: Int64Array
    ) -> tuple[Sums, Resamples | None]:
        options = self._options
        sums = Sums(len(members), (len(members[0].balls) + 7) // 8)
        rounds = None
        if options.resamples:
            rounds = ResampledSums(tuple(self._sources), size, options.k, options.resamples)
        tasks = _tasks(members, self._wanted, frame, self._scoring)
        for block in _run(tasks, options.mapper):
            sums.add(block)
            if rounds is not None:
                rounds.add(block)
            self._progress.add(int(block.wanted.sum()))
        return sums, None if rounds is None else rounds.result()


class _Counter:
    """Tells how many products are done."""

    def __init__(self, tell: Progress | None, total: int) -> None:
        self._tell, self._total, self._done = tell, total, 0
        self.add(0)

    def add(self, products: int) -> None:
        self._done += products
        if self._tell is not None:
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
    if REAL in names:
        raise DataError(f"a member is called '{REAL}': give it another name")


def _scoring(real: FeatureSource, options: PoolOptions, members: int) -> Scoring:
    memory_bytes = options.memory_bytes
    if memory_bytes < 1 << 20:
        raise DataError(f"a memory budget of {memory_bytes} bytes is too small: give 1 MiB or more")
    features = open_features(real, REAL)
    check_points(features, REAL, options.k)
    check_rounds(options.resamples, members, len(features), memory_bytes)
    shift = magnitude(features)
    return Scoring(
        options.k,
        options.backend,
        features.shape[1],
        robust_centre(shifted(features, shift)),
        shift,
        memory_bytes,
        fast=options.fast,
        rounds=options.resamples,
        store=None if options.checkpoint is None else options.checkpoint.resolve(),
    )


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
