"""Which subsets are allowed: sizes, members in or out, snapshots of one GAN, a cost budget."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import numpy as np

from ensgan.errors import InputError, unknown_name
from ensgan.search.tables import costs_of, exchanged
from ensgan.text import some
from ensgan.types import BoolArray, Float64Array, Int64Array


@dataclass(frozen=True)
class Budget:
    """An upper limit on the summed cost of an ensemble's members.

    Attributes:
        costs: cost of every member by name, ≥ 0 (parameters, seconds per image, bytes …).
        limit: the largest allowed sum.
        unit: what is counted, for messages.

    Raises:
        InputError: the limit is no finite number from 0 on.
    """

    costs: Mapping[str, float]
    limit: float
    unit: str = "parameters"

    def __post_init__(self) -> None:
        # NaN compares false with everything: no ensemble would ever be allowed.
        if not 0 <= self.limit < float("inf"):
            raise InputError(f"a budget of {self.limit:g} {self.unit}: give a number from 0 on")


@dataclass(frozen=True)
class Limit:
    """Sums over an ensemble's members that must not exceed ``most``.

    Attributes:
        weights: float64 [R, M], one row per sum.
        most: float64 [R].
        graded: whether the amount of an excess counts; if not, any excess of any sum counts as 1.
    """

    weights: Float64Array
    most: Float64Array
    graded: bool = True

    @property
    def mendable(self) -> bool:
        """Whether more members can only help: a lower bound."""
        return bool((self.weights <= 0).all())

    def violation(self, subsets: Float64Array) -> Float64Array:
        """How far each row of a 0-1 matrix [B,M] is from meeting it; 0 meets it."""
        over = np.maximum(0.0, subsets @ self.weights.T - self.most)
        return np.asarray(over.sum(axis=1) if self.graded else over.any(axis=1), np.float64)


@dataclass(frozen=True)
class Constraints:
    """Constraints in terms of pool positions; make them with :meth:`resolve`.

    Attributes:
        names: member names in pool order.
        allowed: bool [M], members that may take part.
        required: positions of the members that must take part.
        min_size, max_size: bounds of the number of members.
        limits: every condition as sums, these among them.
    """

    names: tuple[str, ...]
    allowed: BoolArray
    required: Int64Array
    min_size: int
    max_size: int
    limits: tuple[Limit, ...]

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
        if (must & excluded).any():
            both = [name for name, twice in zip(names, must & excluded, strict=True) if twice]
            raise InputError(f"both included and excluded: {', '.join(both)}")
        allowed, required = ~excluded, np.flatnonzero(must)
        largest = len(names) if max_size is None else max_size
        basis = cls(tuple(names), allowed, required, min_size, largest, ())
        # What cannot be met is refused here, where the members that make it so are still known by
        # name; a sampler would only find nothing.
        basis._check_sizes()
        limits = basis._basic_limits()
        if max_per_gan is not None:
            # As many as there are: numbers of any size mean no limit.
            limits.append(basis._snapshot_limit(min(max_per_gan, len(names))))
        if budget is not None:
            limits.append(basis._cost_limit(budget))
        return replace(basis, limits=tuple(limits))

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

    def whole(self, chosen: BoolArray) -> BoolArray:
        """Subsets, bool [B,M], from what they hold of the free members, [B, free]."""
        subsets = np.zeros((len(chosen), len(self.names)), bool)
        subsets[:, self.free] = chosen
        subsets[:, self.required] = True
        return subsets

    def violation(self, subsets: BoolArray) -> Float64Array:
        """How far each row of a bool [B,M] matrix is from feasible; 0 is feasible."""
        matrix = subsets.astype(np.float64)
        return np.asarray(np.sum([limit.violation(matrix) for limit in self.limits], axis=0))

    def feasible(self, subsets: BoolArray) -> BoolArray:
        """Which rows of a bool [B,M] matrix meet every constraint."""
        return np.asarray(self.violation(subsets) == 0)

    def pairs(self, one: Int64Array, other: Int64Array) -> BoolArray:
        """Which of the ensembles {one[i], other[i]} are allowed."""
        fits = np.ones(len(one), np.bool_)
        for limit in self.limits:
            for row, most in zip(limit.weights, limit.most, strict=True):
                fits &= row[one] + row[other] <= most
        return fits

    def moves(self, inside: Int64Array, outside: Int64Array, *, growing: bool = False) -> BoolArray:
        """Which entries of a neighbourhood are allowed: bool [len(inside)+1, len(outside)+1].

        Row i drops ``inside[i-1]`` (row 0 nothing), column j takes in ``outside[j-1]``.
        ``inside`` itself need not meet the constraints. ``growing`` lets subsets be too small as
        long as members can still be added.
        """
        fits = np.ones((len(inside) + 1, len(outside) + 1), np.bool_)
        for limit in self.limits:
            # While an ensemble is grown, only what more members cannot mend may stop it.
            if growing and limit.mendable:
                continue
            for row, most in zip(limit.weights, limit.most, strict=True):
                fits &= exchanged(row, inside, inside, outside) <= most
        return fits

    def _named(self, members: Iterable[int]) -> list[str]:
        return [self.names[int(index)] for index in members]

    def _check_sizes(self) -> None:
        low, high = self.min_size, self.max_size
        usable = self._named(np.flatnonzero(self.allowed))
        if low < 2:
            raise InputError(f"min_size {low}: an ensemble needs at least 2 members")
        if high < low:
            raise InputError(f"max_size {high} is below min_size {low}")
        if len(self.required) > high:
            raise InputError(
                f"{len(self.required)} included members exceed max_size {high}: "
                f"{some(self._named(self.required))}"
            )
        if len(usable) < low:
            raise InputError(
                f"only {len(usable)} members are left for min_size {low}: "
                f"{', '.join(usable) or 'all are excluded'}"
            )

    def _basic_limits(self) -> list[Limit]:
        """Sizes and members, without limits that every ensemble meets: moves are checked often."""
        every, chosen = np.ones(len(self.names)), np.zeros(len(self.names))
        chosen[self.required] = 1.0
        rows: list[tuple[Float64Array, int]] = [(-every, -self.min_size)]
        if self.max_size < len(self.names):
            rows.append((every, self.max_size))
        if not self.allowed.all():
            rows.append((np.where(self.allowed, 0.0, 1.0), 0))
        if len(self.required):
            rows.append((-chosen, -len(self.required)))
        return [Limit(weights[None], np.array([float(most)])) for weights, most in rows]

    def _snapshot_limit(self, most: int) -> Limit:
        if most < 1:
            raise InputError(f"max_per_gan {most} must be at least 1")
        gans = [name.rpartition("@")[0] or name for name in self.names]
        gan = np.unique(gans, return_inverse=True)[1].astype(np.int64)
        counts = np.bincount(gan[self.required], minlength=int(gan.max()) + 1)
        for crowded in np.flatnonzero(counts > most):
            same = self._named(self.required[gan[self.required] == crowded])
            raise InputError(f"max_per_gan {most} forbids the included {', '.join(same)} together")
        room = np.minimum(np.bincount(gan[self.allowed]), most).sum()
        if room < self.min_size:
            raise InputError(
                f"with max_per_gan {most} the allowed members make ensembles of at most {room}, "
                f"below min_size {self.min_size}"
            )
        # GANs of few snapshots cannot have too many.
        rows = np.eye(int(gan.max()) + 1)[:, gan]
        rows = rows[rows.sum(axis=1) > most]
        return Limit(rows, np.full(len(rows), float(most)), graded=False)

    def _cost_limit(self, budget: Budget) -> Limit:
        costs, required = costs_of(self.names, budget.costs), self.required
        # The required members are given; the cheapest others complete the smallest ensemble.
        cheapest = np.sort(costs[self.free])[: max(0, self.min_size - len(required))]
        least = float(costs[required].sum() + cheapest.sum())
        if least > budget.limit:
            reason = f" with {some(self._named(required))}" if len(required) else ""
            raise InputError(
                f"the cheapest ensemble of {max(self.min_size, len(required))}{reason} costs "
                f"{least:g} {budget.unit}, above the budget of {budget.limit:g}"
            )
        return Limit(costs[None], np.array([float(budget.limit)]), graded=False)


def _matching(names: Sequence[str], patterns: Sequence[str], option: str) -> BoolArray:
    matching = np.zeros(len(names), np.bool_)
    for pattern in patterns:
        hits = np.array([fnmatchcase(name, pattern) for name in names], np.bool_)
        if not hits.any():
            raise InputError(f"{option}: {unknown_name('member', pattern, names)}")
        matching |= hits
    return matching
