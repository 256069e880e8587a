"""Which subsets are allowed: sizes, members in or out, snapshots of one GAN, a cost budget."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import numpy as np

from ensgan.errors import InputError, unknown_name
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
        gan: int64 [M], number of each member's GAN.
        max_per_gan: most snapshots of one GAN, or None.
        costs, limit: the budget; costs are 0 and the limit infinite without one.
    """

    names: tuple[str, ...]
    allowed: BoolArray
    required: Int64Array
    min_size: int
    max_size: int
    gan: Int64Array
    max_per_gan: int | None
    costs: Float64Array
    limit: float
    unit: str = field(default="parameters")

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
        required = _matching(names, include, "include")
        excluded = _matching(names, exclude, "exclude")
        both = [names[int(i)] for i in np.flatnonzero(required & excluded)]
        if both:
            raise InputError(f"both included and excluded: {', '.join(both)}")
        gans = [name.rpartition("@")[0] or name for name in names]
        order = {gan: number for number, gan in enumerate(dict.fromkeys(gans))}
        costs = np.zeros(len(names)) if budget is None else costs_of(names, budget.costs)
        constraints = cls(
            names=tuple(names),
            allowed=~excluded,
            required=np.flatnonzero(required),
            min_size=min_size,
            max_size=len(names) if max_size is None else max_size,
            gan=np.array([order[gan] for gan in gans], np.int64),
            max_per_gan=max_per_gan,
            costs=costs,
            limit=np.inf if budget is None else float(budget.limit),
            unit="parameters" if budget is None else budget.unit,
        )
        constraints._check_possible()
        return constraints

    @property
    def free(self) -> Int64Array:
        """Positions of the members the search may put in or leave out."""
        free = self.allowed.copy()
        free[self.required] = False
        return np.flatnonzero(free)

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

    def feasible(self, subsets: BoolArray) -> BoolArray:
        """Which rows of a bool [B,M] matrix meet every constraint."""
        sizes = subsets.sum(axis=1)
        fits: BoolArray = (sizes >= self.min_size) & (sizes <= self.max_size)
        fits &= ~subsets[:, ~self.allowed].any(axis=1)
        fits &= subsets[:, self.required].all(axis=1)
        fits &= self.within_limits(subsets)
        return fits

    def pairs(self, first: Int64Array, second: Int64Array) -> Int64Array:
        """Which of the ensembles {first[i], second[i]} are allowed, as positions."""
        fits = self.allowed[first] & self.allowed[second]
        fits &= self.min_size <= 2 <= self.max_size
        if len(self.required):
            there = np.isin(first, self.required).astype(np.int64) + np.isin(second, self.required)
            fits &= there == len(self.required)
        if self.max_per_gan == 1:
            fits &= self.gan[first] != self.gan[second]
        fits &= self.costs[first] + self.costs[second] <= self.limit
        return np.flatnonzero(fits)

    def within_limits(self, subsets: BoolArray) -> BoolArray:
        """Which rows of a bool [B,M] matrix keep the limits that growing can only break."""
        fits = np.ones(len(subsets), bool)
        if self.max_per_gan is not None:
            member_of = np.eye(int(self.gan.max()) + 1)[self.gan]
            fits &= (subsets.astype(np.float64) @ member_of <= self.max_per_gan).all(axis=1)
        if np.isfinite(self.limit):
            fits &= subsets @ self.costs <= self.limit
        return fits

    def violation(self, subsets: BoolArray) -> Float64Array:
        """How far each row of a bool [B,M] matrix is from feasible; 0 is feasible."""
        sizes = subsets.sum(axis=1).astype(np.float64)
        amount: Float64Array = np.maximum(0, self.min_size - sizes) + np.maximum(
            0, sizes - self.max_size
        )
        amount += subsets[:, ~self.allowed].sum(axis=1) + (~subsets[:, self.required]).sum(axis=1)
        amount += ~self.within_limits(subsets)
        return amount

    def moves(self, inside: Int64Array, outside: Int64Array) -> BoolArray:
        """Which entries of a neighbourhood are allowed: bool [len(inside)+1, len(outside)+1].

        ``inside`` itself need not meet the lower bound of the size.
        """
        rows, columns = len(inside) + 1, len(outside) + 1
        smaller, same, larger = (
            self.min_size <= len(inside) + change <= self.max_size for change in (-1, 0, 1)
        )
        fits: BoolArray = np.full((rows, columns), same)
        fits[1:, 0] = smaller
        fits[0, 1:] = larger
        if len(self.required):
            fits[1:] &= ~np.isin(inside, self.required)[:, None]
        fits[:, 1:] &= self.allowed[outside]
        if self.max_per_gan is not None:
            held = np.bincount(self.gan[inside], minlength=int(self.gan.max()) + 1)
            after = np.broadcast_to(held[self.gan[outside]] + 1, (rows, len(outside))).copy()
            after[1:] -= self.gan[inside][:, None] == self.gan[outside]
            fits[:, 1:] &= after <= self.max_per_gan
        if np.isfinite(self.limit):
            lost = np.concatenate(([0.0], self.costs[inside]))
            gained = np.concatenate(([0.0], self.costs[outside]))
            fits &= (self.costs[inside].sum() - lost)[:, None] + gained <= self.limit
        return fits

    def _check_possible(self) -> None:
        required = [self.names[i] for i in self.required]
        usable = [name for name, allowed in zip(self.names, self.allowed, strict=True) if allowed]
        if self.min_size < 2:
            raise InputError(f"min_size {self.min_size}: an ensemble needs at least 2 members")
        if self.max_size < self.min_size:
            raise InputError(f"max_size {self.max_size} is below min_size {self.min_size}")
        if len(required) > self.max_size:
            raise InputError(
                f"{len(required)} included members exceed max_size {self.max_size}: "
                f"{_some(required)}"
            )
        if len(usable) < self.min_size:
            raise InputError(
                f"only {len(usable)} members are left for min_size {self.min_size}"
                + (f": {', '.join(usable)}" if usable else ": all are excluded")
            )
        self._check_gans(required)
        self._check_budget(required)

    def _check_gans(self, required: list[str]) -> None:
        if self.max_per_gan is None:
            return
        if self.max_per_gan < 1:
            raise InputError(f"max_per_gan {self.max_per_gan} must be at least 1")
        counts = np.bincount(self.gan[self.required], minlength=int(self.gan.max()) + 1)
        for gan in np.flatnonzero(counts > self.max_per_gan):
            same = [self.names[i] for i in self.required if self.gan[i] == gan]
            raise InputError(
                f"max_per_gan {self.max_per_gan} forbids the included {', '.join(same)} together"
            )
        room = np.minimum(np.bincount(self.gan[self.allowed]), self.max_per_gan).sum()
        if room < self.min_size:
            raise InputError(
                f"with max_per_gan {self.max_per_gan} the allowed members make ensembles of at "
                f"most {room}, below min_size {self.min_size}"
            )

    def _check_budget(self, required: list[str]) -> None:
        cheapest = np.sort(self.costs[self.free])[: max(0, self.min_size - len(required))]
        least = float(self.costs[self.required].sum() + cheapest.sum())
        if least > self.limit:
            reason = f" with {_some(required)}" if required else ""
            raise InputError(
                f"the cheapest ensemble of {max(self.min_size, len(required))}{reason} costs "
                f"{least:g} {self.unit}, above the budget of {self.limit:g}"
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
