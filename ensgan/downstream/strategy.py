"""What a classifier may be trained on: strategies, and the ensembles worth trying as G*.

A strategy says which images, and with which weights; the shortlist is that from which validation
chooses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal, TypeAlias

import numpy as np

from ensgan.errors import InputError, unknown_name
from ensgan.types import (
    Front,
    FrontPoint,
    PoolScores,
    Selection,
    gan_of,
    harmonic_mean,
    step_of,
)

Kind: TypeAlias = Literal["real", "synthetic", "real+synthetic", "real+augment"]
WITHOUT_MEMBERS = ("real", "real+augment")
WEIGHTINGS = ("own", "uniform", "by-intra", "learned")
NO_WEIGHTS = {"final_weights": None}
"""Of members whose weights adapted, in files of earlier versions: tables are known by all keys."""


@dataclass(frozen=True)
class Strategy:
    """A named training set.

    Attributes:
        name: as the user wrote it; several draws of one strategy end in ``#0``, ``#1``, ….
        members: the generators, none for ``real`` and ``real+augment``.
        weights: chance of each member to give an image (scaled to sum 1), None for equal chances.
        kind: real images, synthetic ones, both, or real ones beside changed copies of them.
        n_times: images per epoch in multiples of the usual number: for ``real`` the real ones,
            else the synthetic ones or the changed copies.
    """

    name: str
    members: tuple[str, ...] = ()
    weights: tuple[float, ...] | None = None
    kind: Kind = "synthetic"
    n_times: int = 1

    def __post_init__(self) -> None:
        if (self.kind in WITHOUT_MEMBERS) != (not self.members):
            raise InputError(
                f"strategy '{self.name}' of kind '{self.kind}' has {len(self.members)} members: "
                f"only {' and '.join(WITHOUT_MEMBERS)} have none"
            )
        if len(set(self.members)) != len(self.members):
            raise InputError(f"strategy '{self.name}' names a member twice")
        if self.n_times < 1:
            raise InputError(f"n_times must be at least 1, not {self.n_times}")
        weights = self.weights
        if weights is not None and (
            len(weights) != len(self.members)
            or not all(weight >= 0 for weight in weights)
            or not 0 < sum(weights) < float("inf")
        ):
            raise InputError(
                f"strategy '{self.name}' needs one weight ≥ 0 per member, not all 0; it has "
                f"{len(self.members)} members and the weights {list(weights)}"
            )

    @property
    def group(self) -> str:
        """The name without the number of the draw."""
        return self.name.partition("#")[0]


@dataclass(frozen=True)
class StrategyContext:
    """What a name is resolved against.

    Attributes:
        scores: the pool.
        front: the front G* was chosen from.
        selection: G*.
        seed: of random draws.
    """

    scores: PoolScores
    front: Front
    selection: Selection
    seed: int


Resolve: TypeAlias = Callable[[str, str, StrategyContext], Sequence[Strategy]]
"""The whole name, what stands behind the colon, and the pool → strategies."""
Check: TypeAlias = Callable[[str, str, Sequence[str]], object]
"""The whole name, what stands behind the colon, and the pool's member names; raises InputError."""


@dataclass(frozen=True)
class StrategyForm:
    """One way of writing a strategy: ``head`` or ``head:argument``.

    Attributes:
        written: as help texts show it, e.g. ``random:K``; in brackets what may be left out.
        resolve: makes the strategies; the name has been checked.
        check: refuses what no pool with these member names could resolve, before anything is
            trained: which members will be best is not known then, which names there are is.
    """

    written: str
    resolve: Resolve
    check: Check = lambda name, argument, pool: None

    @property
    def head(self) -> str:
        """The name before the colon."""
        return self.written.partition(":")[0].partition("[")[0]

    @property
    def argument(self) -> Literal["none", "optional", "required"]:
        """Whether something stands behind a colon."""
        if ":" not in self.written:
            return "none"
        return "optional" if "[" in self.written else "required"


def spread_points(front: Front, most: int) -> tuple[FrontPoint, ...]:
    """At most ``most`` points of a front, evenly spread by their order, both ends among them."""
    if most >= len(front):
        return front.points
    chosen = np.unique(np.linspace(0, len(front) - 1, most).round().astype(int))
    return tuple(front.points[index] for index in chosen)


def snapshots(pool: Sequence[str]) -> dict[str, list[str]]:
    """Members by GAN, in step order."""
    gans: dict[str, list[str]] = {}
    for member in sorted(pool, key=step_of):
        gans.setdefault(gan_of(member), []).append(member)
    return gans


def reweighted(
    strategies: Sequence[Strategy], weighting: str, scores: PoolScores, n_times: int = 1
) -> tuple[Strategy, ...]:
    """Give the strategies other member weights, and ``n_times`` as many synthetic images.

    Args:
        strategies: as :func:`build_strategies` made them.
        weighting: ``own`` keeps each strategy's weights; ``uniform``; ``by-intra``: in proportion
            to the members' Intra-d; ``learned``: the weights with the largest Intra-d of the
            ensemble (:func:`ensgan.search.optimise_weights`), learned on the training split alone.
        scores: the pool.
        n_times: factor on the number of synthetic images per epoch, at least 1.

    Raises:
        InputError: an unknown weighting, ``n_times`` below 1, or members that all have Intra-d 0.
    """
    if weighting not in WEIGHTINGS:
        raise InputError(unknown_name("weighting", weighting, WEIGHTINGS))
    return tuple(
        replace(_weighted(strategy, weighting, scores), n_times=strategy.n_times * n_times)
        if strategy.members
        else strategy
        for strategy in strategies
    )


def weighted_by_intra_d(strategy: Strategy, scores: PoolScores) -> Strategy:
    """The strategy with each member's Intra-d as its weight.

    Raises:
        InputError: all of them are 0.
    """
    by_name = dict(zip(scores.names, scores.intra_d.tolist(), strict=True))
    weights = tuple(by_name[member] for member in strategy.members)
    if sum(weights) == 0:
        raise InputError(
            f"strategy '{strategy.name}': every member has Intra-d 0, so none has a weight"
        )
    return replace(strategy, weights=weights)


def _weighted(strategy: Strategy, weighting: str, scores: PoolScores) -> Strategy:
    if weighting == "own" or len(strategy.members) == 1:
        return strategy
    if weighting == "uniform":
        return replace(strategy, weights=None)
    if weighting == "by-intra":
        return weighted_by_intra_d(strategy, scores)
    # Late: only this form needs the search package.
    from ensgan.search import Evaluator, optimise_weights

    evaluator = Evaluator(scores)
    values = evaluator.evaluate(evaluator.indices(strategy.members))
    point = optimise_weights(evaluator, FrontPoint(strategy.members, *values))
    return replace(strategy, members=point.members, weights=point.weights)


SIZES = (3, 5, 10, 20, 30)
"""Numbers of best single members that are tried together."""
FROM_FRONT = 8
"""Points taken from each front, evenly spread."""
ALL_PAIRS = 6
"""Members of a pool so small that every pair is tried."""
RANDOM_DRAWS = 3
"""Random ensembles of each size from 5 to half the pool."""


@dataclass(frozen=True)
class Candidate:
    """An ensemble that may become G*.

    Attributes:
        members: at least two, in pool order.
        intra_d: capped Intra-d, in [0, 1].
        sources: who proposed it, e.g. ``top 10`` or ``front of capped Intra-d``.
    """

    members: tuple[str, ...]
    intra_d: float
    sources: tuple[str, ...]


@dataclass(frozen=True)
class CappedIntraD:
    """Intra-d with each member's density capped at 1 (:attr:`PoolScores.capped_density`)."""

    scores: PoolScores

    def indices(self, members: Sequence[str]) -> list[int]:
        """Places of the members in the pool, ascending.

        Raises:
            InputError: a member that the pool lacks.
        """
        places = {name: index for index, name in enumerate(self.scores.names)}
        unknown = [name for name in members if name not in places]
        if unknown:
            raise InputError(f"the pool has no member {', '.join(unknown)}")
        return sorted(places[name] for name in members)

    def __call__(self, members: Sequence[str]) -> float:
        """Capped Intra-d of an ensemble of equal weights, in [0, 1]."""
        rows = self.indices(members)
        density = self.scores.capped_density[rows].mean()
        reached = np.bitwise_or.reduce(self.scores.masks[rows], axis=0)
        coverage = np.unpackbits(reached).sum() / self.scores.n_real
        return float(harmonic_mean(density, coverage))


def make_shortlist(
    scores: PoolScores,
    fronts: Mapping[str, Sequence[Sequence[str]]],
    *,
    seed: int,
    most: int = 60,
    fewest_members: int = 2,
    most_members: int | None = None,
) -> tuple[Candidate, ...]:
    """Collect ensembles from everything that has proposed good ones, without labels.

    Proposed are points spread along each front, the members of largest capped Intra-d (3, 5, 10,
    …), all pairs of a small pool, each GAN's snapshots, the last snapshots, the whole pool, and
    random ensembles. Of more than ``most`` those of largest capped Intra-d stay, the last
    snapshots and the pool among them.

    Args:
        scores: the pool.
        fronts: by a name for messages, the members of each front point, in front order.
        seed: of the random ensembles.
        most: candidates returned, at least 2.
        fewest_members: smaller ensembles are left out.
        most_members: larger ensembles are left out; None: half the pool, at least 2. More images
            of more generators rarely hurt, but an ensemble of nearly all is no choice.

    Returns:
        Candidates by falling capped Intra-d; every set of members once.

    Raises:
        InputError: fewer than two members in the pool, or a front of another pool.
    """
    pool = scores.names
    if len(pool) < 2:
        raise InputError(f"a shortlist needs at least 2 members, the pool has {len(pool)}")
    if most < 2:
        raise InputError(f"a shortlist holds at least 2 ensembles, not {most}")
    largest = max(2, len(pool) // 2) if most_members is None else most_members
    intra_d = CappedIntraD(scores)
    sources_of: dict[tuple[int, ...], list[str]] = {}
    for source, members in _proposals(scores, intra_d, fronts, seed):
        rows = tuple(intra_d.indices(members))
        if fewest_members <= len(rows) <= largest:
            sources_of.setdefault(rows, []).append(source)
    if not sources_of:
        best = np.argsort(-scores.capped_intra_d, kind="stable")[:largest]
        sources_of[tuple(sorted(best.tolist()))] = [f"top {largest}"]
    candidates = []
    for rows, sources in sources_of.items():
        members = tuple(pool[row] for row in rows)
        candidates.append(Candidate(members, intra_d(members), tuple(dict.fromkeys(sources))))
    candidates.sort(key=lambda candidate: (-candidate.intra_d, len(candidate.members)))
    # These two are what G* is compared with: it should have had the chance to be one of them.
    chosen = sorted(candidates, key=lambda c: {"last", "all"}.isdisjoint(c.sources))[:most]
    return tuple(candidate for candidate in candidates if candidate in chosen)


def _proposals(
    scores: PoolScores,
    intra_d: CappedIntraD,
    fronts: Mapping[str, Sequence[Sequence[str]]],
    seed: int,
) -> list[tuple[str, Sequence[str]]]:
    """Members of every candidate by the name of its source."""
    pool = scores.names
    proposals: list[tuple[str, Sequence[str]]] = []
    for name, points in fronts.items():
        places = np.unique(np.linspace(0, len(points) - 1, FROM_FRONT).round().astype(int))
        proposals += [(name, points[place]) for place in places if len(points)]
    if len(pool) <= ALL_PAIRS:
        proposals += [("pair", pair) for pair in combinations(pool, 2)]
    best = np.argsort(-scores.capped_intra_d, kind="stable")
    proposals += [(f"top {size}", [pool[row] for row in best[:size]]) for size in SIZES]
    by_gan = snapshots(pool)
    proposals += [(f"snapshots of {gan}", members) for gan, members in by_gan.items()]
    proposals += [("last", [members[-1] for members in by_gan.values()]), ("all", pool)]
    for size in [size for size in SIZES if 5 <= size <= len(pool) // 2]:
        for draw in range(RANDOM_DRAWS):
            rng = np.random.default_rng([seed, size, draw])
            rows = rng.choice(len(pool), size, replace=False)
            proposals.append((f"random {size}", [pool[row] for row in rows]))
    return proposals
