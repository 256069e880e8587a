"""Scores of a whole pool: densities, coverage masks and overlaps, each distance computed once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce, wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeAlias

import numpy as np

from ensgan.errors import DataError
from ensgan.metrics.blocks import BlockScorer, BlockScores, BlockTask
from ensgan.metrics.exact_distance import describe
from ensgan.metrics.extend import check_known, check_usable, merged, wanted_pairs
from ensgan.metrics.features import FeatureSource, Frame, PoolLabels, open_checked, robust_centre
from ensgan.metrics.radii_task import Member, RadiiTask, Scoring, measure_radii
from ensgan.metrics.sums import Approximation, ClassScores, ResampledSums, Sums, check_rounds
from ensgan.types import BoolArray, Float64Array, Int64Array, PairPrecision, PoolScores

_P = ParamSpec("_P")

Mapper: TypeAlias = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
"""``map`` or anything like it; results may come in any order."""
Progress: TypeAlias = Callable[[int, int], None]
"""Called with (products done, products in all): one per set for its radii, one per pair."""
Warn: TypeAlias = Callable[[str], None]

REAL = "real features"
"""What the real set is called among the members."""


@dataclass(frozen=True)
class PoolMeasures:
    """What one pass over a pool yields.

    Attributes:
        scores: densities, coverage masks and overlaps.
        pair_precision: precision of every member and between members, for the search.
        recall: float64 [M], share of real images inside some ball of the member.
        by_class: density and coverage within each class, where labels were given.

    Precision and recall are nan for members taken over from known scores, and so are their
    densities and coverages by class.
    """

    scores: PoolScores
    pair_precision: PairPrecision
    recall: Float64Array
    by_class: ClassScores | None = None

    @property
    def precision(self) -> Float64Array:
        """Share of each member's images inside some real ball, float64 [M]."""
        return self.pair_precision.precision


def measure_pool(
    real: FeatureSource,
    fakes: Sequence[FeatureSource],
    names: Sequence[str],
    k: int = 5,
    *,
    labels: PoolLabels | None = None,
    backend: str = "auto",
    memory_bytes: int = 2 << 30,
    extractor: str = "",
    checkpoint: str | Path | None = None,
    resamples: int = 0,
    known: PoolScores | Sequence[PoolScores] | None = None,
    approximate: Approximation | None = None,
    mapper: Mapper = map,
    on_progress: Progress | None = None,
    on_warning: Warn | None = None,
) -> PoolMeasures:
    """Score every member against the real set and every pair of members against each other.

    Radii are measured once per member; one matrix product serves both directions of a pair.

    Args:
        real: [N,D] features: array, memory map or a function that returns one.
        fakes: one such source per member, [S_g,D]; counts may differ.
        names: one per member, all different.
        k: neighbour that sets the radius.
        labels: score within classes: radii, pairs, masks and overlaps only know points of the same
            class. Densities and coverages of the classes are summed with the classes' shares of
            the real points; Intra-d and overlaps are the harmonic means of these sums.
        backend: ``auto`` (torch), ``torch`` or ``faiss``; the scores do not depend on it.
        memory_bytes: bound on working memory beside the features themselves.
        extractor: content key of the embedding, for the record.
        checkpoint: folder for finished radii and blocks, on storage that every worker of
            ``mapper`` sees; scoring the same features again continues there.
        resamples: rounds of :class:`ensgan.types.Resamples` to count in the same pass; 0 for none.
        known: scores of some of these members, or of several groups of them (pools that merge);
            only pairs that no group holds are computed.
        approximate: estimate the overlaps of members, and score exactly those it asks for.
        mapper: spreads the work (``measure_radii`` and ``BlockScorer`` are pure; their tasks can
            be pickled when the sources can).
        on_progress: called after every set and every block.
        on_warning: called with one sentence for each duplicate, zero-variance or collapsed set.

    Raises:
        InputError: names repeat or do not match the members, NaN or infinity (which member, how
            many), different dimensions, fewer than k+1 points (of a class, with labels), ``known``
            of other features, other settings or another k, resamples that take too much memory or
            are asked for with labels or estimates.
    """
    texts = tuple(str(name) for name in names)
    _check_names(texts, len(fakes))
    parts = (known,) if isinstance(known, PoolScores) else tuple(known or ())
    for part in parts:
        check_usable(part, resamples, approximate is not None)
    if approximate is not None and resamples:
        raise DataError("estimated overlaps have no resamples: leave one of them out")
    sources = dict(zip((REAL, *texts), (real, *fakes), strict=True))
    by_set = _checked_labels(labels, len(fakes), resamples)
    if memory_bytes < 1 << 20:
        raise DataError(f"a memory budget of {memory_bytes} bytes is too small: give 1 MiB or more")
    features = open_checked(real, REAL, k)
    check_rounds(resamples, len(texts), len(features), memory_bytes)
    scoring = Scoring(
        k,
        backend,
        features.shape[1],
        robust_centre(features),
        memory_bytes,
        resamples,
        () if by_set[0] is None else tuple(np.unique(by_set[0]).tolist()),
        1.0 if approximate is None else approximate.share,
        None if checkpoint is None else Path(checkpoint).resolve(),
    )
    del features  # tasks open the sets themselves: none is held here meanwhile
    wanted = wanted_pairs(texts, parts)
    progress = _Counter(on_progress, len(wanted) + int(wanted.sum()), on_warning)
    members = _measured_members(sources, by_set, scoring, mapper, progress, on_warning)
    for part in parts:
        check_known(part, members, k)
    pairs = _Pairs(members, scoring, mapper, progress, extractor)
    measures = pairs.count(wanted)
    scores = pairs.refined(reduce(merged, parts, measures.scores), approximate)
    return replace(measures, scores=scores)


def _scores_of(measure: Callable[_P, PoolMeasures]) -> Callable[_P, PoolScores]:
    """The same function, returning the scores alone."""

    @wraps(measure)
    def score(*args: _P.args, **kwargs: _P.kwargs) -> PoolScores:
        return measure(*args, **kwargs).scores

    return score


score_pool = _scores_of(measure_pool)
"""Densities, masks and overlaps of a pool; arguments and errors of :func:`measure_pool`."""


class _Counter:
    """Counts finished products and reports them."""

    def __init__(self, tell: Progress | None, total: int, warn: Warn | None) -> None:
        self._tell, self._total, self._done = tell, total, 0
        self._warn, self._passed_on = warn, set[str]()
        self.add(0)

    def note(self, sentence: str) -> None:
        """Pass on a block's note, each sentence once."""
        if sentence and self._warn is not None and sentence not in self._passed_on:
            self._warn(sentence)
        self._passed_on.add(sentence)

    def expect(self, products: int) -> None:
        """Raise the total by products that were not known before."""
        self._total += products

    def add(self, products: int) -> None:
        self._done += products
        if self._tell is not None:
            self._tell(self._done, self._total)


def _check_names(names: Sequence[str], members: int) -> None:
    if len(names) != members or not members:
        raise DataError(f"{members} members but {len(names)} names: give one name per member")
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DataError(f"member names repeat: {', '.join(repeated)}; give each member its own")
    odd = next((name for name in names if not name.strip() or not name.isprintable()), None)
    if odd is not None:
        raise DataError(f"a member is called {odd!r}: give it a name that can be printed")
    if REAL in names:
        raise DataError(f"a member is called '{REAL}': give it another name")


def _checked_labels(
    labels: PoolLabels | None, members: int, resamples: int
) -> list[Int64Array | None]:
    """Labels of every set, the real one first; None where classes are scored together."""
    if labels is None:
        return [None] * (1 + members)
    if resamples:
        raise DataError(
            "resamples are counted over all classes together: score without --resamples, or "
            "without --classes per-class"
        )
    arrays = [np.asarray(one) for one in (labels[0], *labels[1])]
    if len(arrays) != 1 + members:
        raise DataError(f"labels of {len(arrays) - 1} members for {members}: give them for each")
    if any(array.dtype.kind not in "iub" for array in arrays):
        raise DataError("labels must be whole numbers, one per point")
    return [array.astype(np.int64) for array in arrays]


def _measured_members(
    sources: dict[str, FeatureSource],
    labels: Sequence[Int64Array | None],
    scoring: Scoring,
    mapper: Mapper,
    progress: _Counter,
    warn: Warn | None,
) -> tuple[Member, ...]:
    """Every set with its radii; warns of duplicates and collapsed sets."""
    tasks = [
        RadiiTask(index, name, source, scoring, labels[index])
        for index, (name, source) in enumerate(sources.items())
    ]
    measured: dict[int, Member] = {}
    for member in mapper(measure_radii, tasks):
        measured[member.index] = member
        progress.add(1)
        progress.note(member.note)
    members = tuple(measured[task.index] for task in tasks)
    if warn is not None:
        for member in members:
            for sentence in describe(member.balls, member.name, is_real=member.index == 0):
                warn(sentence)
    return members


@dataclass(frozen=True)
class _Pairs:
    """The pairs of a pool's sets, counted as far as they are wanted (bool [sets,sets])."""

    members: tuple[Member, ...]
    scoring: Scoring
    mapper: Mapper
    progress: _Counter
    extractor: str

    def count(self, wanted: BoolArray) -> PoolMeasures:
        members, scoring = self.members, self.scoring
        size = np.array([member.class_sizes(scoring.classes) for member in members], np.int64)
        names = tuple(member.name for member in members)
        sums, rounds = Sums(size, scoring.k, scoring.share), None
        if scoring.rounds:
            rounds = ResampledSums(names, size[:, 0], scoring.k, scoring.rounds)
        for block in self._blocks(wanted):
            sums.add(block)
            if rounds is not None:
                rounds.add(block)
            self.progress.add(int(block.wanted.sum()))
            self.progress.note(block.note)
        scores = sums.scores(names[1:], self.extractor)
        return PoolMeasures(
            replace(scores, resamples=None if rounds is None else rounds.result()),
            *sums.precision_recall(names[1:], wanted),
            sums.by_class(wanted[0, 1:]) if scoring.classes else None,
        )

    def refined(self, scores: PoolScores, approximate: Approximation | None) -> PoolScores:
        """Estimated scores with the pairs that are asked for scored exactly."""
        exactly = replace(self, scoring=replace(self.scoring, share=1.0))
        while approximate is not None and (near := approximate.refine(scores)).any():
            near, wanted = near | near.T, np.zeros((len(self.members),) * 2, np.bool_)
            wanted[1:, 1:] = np.triu(near, 1)
            self.progress.expect(int(wanted.sum()))
            directed = np.where(near, exactly.count(wanted).scores.directed, scores.directed)
            assert scores.spread is not None
            scores = replace(scores, directed=directed, spread=np.where(near, 0, scores.spread))
        return scores

    def _blocks(self, wanted: BoolArray) -> Iterator[BlockScores]:
        """Blocks as they finish: those that an earlier run kept first."""
        members, scoring, missing = self.members, self.scoring, []
        frame = Frame.spanning(scoring.centre, max(member.deviation for member in members))
        sizes = [member.points for member in members[1:]]
        groups = group_sets(sizes, scoring.dim, scoring.memory_bytes)
        for first, rows in enumerate([(0,), *groups]):
            # Pairs are counted in both directions at once: columns begin at the rows' own group.
            for columns in groups[max(0, first - 1) :]:
                part = wanted[np.ix_(rows, columns)]
                if not part.any():
                    continue
                above, beside = (tuple(members[i] for i in side) for side in (rows, columns))
                task = BlockTask(above, beside, part, frame, scoring)
                block = task.finished()
                if block is None:
                    missing.append(task)
                else:
                    yield block
        yield from self.mapper(BlockScorer(), missing)


def group_sets(sizes: Sequence[int], dim: int, memory_bytes: int) -> list[tuple[int, ...]]:
    """Consecutive members (indices from 1) whose placed points fit in half the memory together.

    At most 16 per group, so that progress shows and a cluster has enough blocks.
    """
    groups: list[tuple[int, ...]] = []
    current: list[int] = []
    used = 0
    for index, size in enumerate(sizes, start=1):
        # Placed in float32, and the features themselves when they are loaded.
        needed = 8 * size * dim
        if current and (len(current) == 16 or used + needed > memory_bytes // 2):
            groups.append(tuple(current))
            current, used = [], 0
        current.append(index)
        used += needed
    return [*groups, tuple(current)] if current else groups
