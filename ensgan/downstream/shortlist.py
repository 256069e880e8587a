"""The ensembles worth trying: the shortlist from which validation chooses G*."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from ensgan.downstream.strategy import snapshots
from ensgan.errors import InputError
from ensgan.types import Float64Array, PoolScores, harmonic_mean

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

    def singles(self) -> Float64Array:
        """Of every member alone, float64 [members]."""
        return self.scores.capped_intra_d


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
        best = np.argsort(-intra_d.singles(), kind="stable")[:largest]
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
    best = np.argsort(-intra_d.singles(), kind="stable")
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
