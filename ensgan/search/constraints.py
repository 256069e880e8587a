"""Which subsets are allowed: sizes, members in or out, snapshots of one GAN, a cost budget."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np

from ensgan.errors import InputError, unknown_name
from ensgan.search.limits import (
    Constraint,
    CostLimit,
    Membership,
    SizeLimits,
    SnapshotLimit,
)
from ensgan.search.masks import BoolArray
from ensgan.types import Float64Array, Int64Array


@dataclass(frozen=True)
class Budget:
    """An upper limit on the summed cost of an ensemble's members.

    Attributes:
        costs: cost of every member by name, ≥ 0 (parameters, seconds an image, bytes …).
        limit: the largest allowed sum.
        unit: what is counted, for messages.
    """

    costs: Mapping[str, float]
    limit: float
    unit: str = "parameters"


@dataclass(frozen=True)
class Constraints:
    """Constraints in terms of pool positions; make them with :meth:`resolve`.

    Attributes:
        names: member names in pool order.
        allowed: bool [M], members that may take part.
        required: positions of the members that must take part.
        min_size, max_size: bounds of the number of members.
        parts: every condition, these among them.
    """

    names: tuple[str, ...]
    allowed: BoolArray
    required: Int64Array
    min_size: int
    max_size: int
    parts: tuple[Constraint, ...]

    @classmethod
    def resolve(
        cls,
        names: Sequence[str],
        *,
        min_size: int = 2,
        max_size: int | None = None,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        max_per_gan: int | None = None,
        budget: Budget | None = None,
    ) -> Constraints:
        """Check constraints against a pool's member names.

        Args:
            names: member names in pool order; the part before the last ``@`` names the GAN.
            min_size, max_size: bounds of the number of members, at least 2.
            include, exclude: member names or globs (``StyleGAN2*``, ``*@100000``).
            max_per_gan: at most this many snapshots of one GAN.
            budget: limit on the summed cost.

        Raises:
            InputError: a pattern matches no member, or no ensemble can meet the constraints;
                the message names the members that make it so.
        """
        must = _matching(names, include, "include")
        excluded = _matching(names, exclude, "exclude")
        both = [names[int(i)] for i in np.flatnonzero(must & excluded)]
        if both:
            raise InputError(f"both included and excluded: {', '.join(both)}")
        allowed, required = ~excluded, np.flatnonzero(must)
        largest = len(names) if max_size is None else max_size
        _check_sizes(names, allowed, required, min_size, largest)
        # What cannot be met is refused here, where the members that make it so are still known by
        # name; a sampler would only find nothing.
        parts: list[Constraint] = [
            SizeLimits(min_size, largest),
            Membership(allowed, required),
        ]
        if max_per_gan is not None:
            gans = [name.rpartition("@")[0] or name for name in names]
            order = {gan: number for number, gan in enumerate(dict.fromkeys(gans))}
            snapshots = SnapshotLimit(np.array([order[gan] for gan in gans]), max_per_gan)
            _check_snapshots(names, allowed, required, min_size, snapshots)
            parts.append(snapshots)
        if budget is not None:
            costs = costs_of(names, budget.costs)
            _check_budget(names, allowed, required, min_size, costs, budget)
            parts.append(CostLimit(costs, float(budget.limit)))
        return cls(tuple(names), allowed, required, min_size, largest, tuple(parts))

    @property
    def free(self) -> Int64Array:
        """Positions of the members the search may put in or leave out."""
        return self.outside(self.required)

    def at_most(self) -> int:
        """An upper bound of the number of allowed subsets (exact when only sizes are limited)."""
        fixed, free = len(self.required), len(self.free)
        sizes = range(max(self.min_size, fixed), min(self.max_size, fixed + free) + 1)
        return sum(math.comb(free, size - fixed) for size in sizes)

    def outside(self, inside: Int64Array) -> Int64Array:
        """Positions of the allowed members that are not in ``inside``, ascending."""
        free = self.allowed.copy()
        free[inside] = False
        return np.flatnonzero(free)

    def violation(self, subsets: BoolArray) -> Float64Array:
        """How far each row of a bool [B,M] matrix is from feasible; 0 is feasible."""
        total: Float64Array = np.sum([part.violation(subsets) for part in self.parts], axis=0)
        return total

    def feasible(self, subsets: BoolArray) -> BoolArray:
        """Which rows of a bool [B,M] matrix meet every constraint."""
        fits: BoolArray = self.violation(subsets) == 0
        return fits

    def moves(self, inside: Int64Array, outside: Int64Array, *, growing: bool = False) -> BoolArray:
        """Which entries of a neighbourhood are allowed: bool [len(inside)+1, len(outside)+1].

        ``inside`` itself need not meet the constraints. ``growing`` lets subsets be too small as
        long as members can still be added.
        """
        # While an ensemble is grown to min_size, only what more members cannot mend may stop it.
        parts = [part.bound_only_above() for part in self.parts] if growing else self.parts
        fits: BoolArray = np.ones((len(inside) + 1, len(outside) + 1), bool)
        for part in parts:
            fits &= part.moves(inside, outside)
        return fits


def _check_sizes(
    names: Sequence[str], allowed: BoolArray, required: Int64Array, low: int, high: int
) -> None:
    usable = [names[int(i)] for i in np.flatnonzero(allowed)]
    if low < 2:
        raise InputError(f"min_size {low}: an ensemble needs at least 2 members")
    if high < low:
        raise InputError(f"max_size {high} is below min_size {low}")
    if len(required) > high:
        raise InputError(
            f"{len(required)} included members exceed max_size {high}: "
            f"{_some([names[int(i)] for i in required])}"
        )
    if len(usable) < low:
        raise InputError(
            f"only {len(usable)} members are left for min_size {low}"
            + (f": {', '.join(usable)}" if usable else ": all are excluded")
        )


def _check_snapshots(
    names: Sequence[str],
    allowed: BoolArray,
    required: Int64Array,
    min_size: int,
    snapshots: SnapshotLimit,
) -> None:
    gan, most = snapshots.gan, snapshots.most
    if most < 1:
        raise InputError(f"max_per_gan {most} must be at least 1")
    counts = np.bincount(gan[required], minlength=int(gan.max()) + 1)
    for crowded in np.flatnonzero(counts > most):
        same = [names[int(i)] for i in required if gan[i] == crowded]
        raise InputError(f"max_per_gan {most} forbids the included {', '.join(same)} together")
    room = np.minimum(np.bincount(gan[allowed]), most).sum()
    if room < min_size:
        raise InputError(
            f"with max_per_gan {most} the allowed members make ensembles of at most {room}, below "
            f"min_size {min_size}"
        )


def _check_budget(
    names: Sequence[str],
    allowed: BoolArray,
    required: Int64Array,
    min_size: int,
    costs: Float64Array,
    budget: Budget,
) -> None:
    free = np.setdiff1d(np.flatnonzero(allowed), required)
    # The required members are given; the cheapest others complete the smallest ensemble.
    cheapest = np.sort(costs[free])[: max(0, min_size - len(required))]
    least = float(costs[required].sum() + cheapest.sum())
    if least > budget.limit:
        reason = f" with {_some([names[int(i)] for i in required])}" if len(required) else ""
        raise InputError(
            f"the cheapest ensemble of {max(min_size, len(required))}{reason} costs "
            f"{least:g} {budget.unit}, above the budget of {budget.limit:g}"
        )


def costs_of(names: Sequence[str], costs: Mapping[str, float]) -> Float64Array:
    """The cost of every member, float64 [M].

    Raises:
        InputError: a member without a cost, or one that is negative or not finite.
    """
    missing = [name for name in names if name not in costs]
    if missing:
        raise InputError(f"the costs give no cost for {_some(missing)}")
    found = np.array([costs[name] for name in names], np.float64)
    wrong = np.flatnonzero(~(np.isfinite(found) & (found >= 0)))
    if len(wrong):
        name = names[int(wrong[0])]
        raise InputError(f"the cost of {name} is {costs[name]}: it must be a number ≥ 0")
    return found


def _matching(names: Sequence[str], patterns: Sequence[str], option: str) -> BoolArray:
    found = np.zeros(len(names), bool)
    for pattern in patterns:
        hits = np.array([fnmatchcase(name, pattern) for name in names], bool)
        if not hits.any():
            raise InputError(f"{option}: {unknown_name('member', pattern, names)}")
        found |= hits
    return found


def _some(names: Sequence[str], most: int = 6) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
