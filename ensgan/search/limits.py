"""The kinds of constraints on an ensemble, each for a batch of subsets and for moves."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from ensgan.types import BoolArray, Float64Array, Int64Array


class Constraint(ABC):
    """One condition on the members of an ensemble, for a batch of subsets and for moves.

    A new constraint is a class of this kind and a line in
    :meth:`ensgan.search.constraints.Constraints.resolve`.
    """

    @abstractmethod
    def violation(self, subsets: BoolArray) -> Float64Array:
        """How far each row of a bool [B,M] matrix is from meeting it; 0 meets it."""

    @abstractmethod
    def moves(self, inside: Int64Array, outside: Int64Array) -> BoolArray:
        """Which entries of a neighbourhood keep it, bool [in+1, out+1].

        Row i drops ``inside[i-1]`` (row 0 nothing), column j takes in ``outside[j-1]``.
        """

    def bound_only_above(self) -> Constraint:
        """The part of it that growing cannot mend: what a subset that is too small must keep."""
        return self


@dataclass(frozen=True)
class SizeLimits(Constraint):
    """From ``low`` to ``high`` members."""

    low: int
    high: int

    def violation(self, subsets: BoolArray) -> Float64Array:
        """Members too few or too many."""
        sizes = subsets.sum(axis=1).astype(np.float64)
        short, long = np.maximum(0.0, self.low - sizes), np.maximum(0.0, sizes - self.high)
        return np.asarray(short + long)

    def moves(self, inside: Int64Array, outside: Int64Array) -> BoolArray:
        """By removals, swaps and additions alone."""
        # Swaps keep the size: one answer for the inside of the table, one for each edge.
        smaller, same, larger = (
            self.low <= len(inside) + change <= self.high for change in (-1, 0, 1)
        )
        fits = np.full((len(inside) + 1, len(outside) + 1), same)
        fits[1:, 0] = smaller
        fits[0, 1:] = larger
        return fits

    def bound_only_above(self) -> Constraint:
        """Any size up to ``high``."""
        return SizeLimits(0, self.high)


@dataclass(frozen=True)
class Membership(Constraint):
    """Members that may take part (bool [M]) and positions of those that must."""

    allowed: BoolArray
    required: Int64Array

    def violation(self, subsets: BoolArray) -> Float64Array:
        """Members that must not be in, and such that are missing."""
        strange = subsets[:, ~self.allowed].sum(axis=1)
        missing = (~subsets[:, self.required]).sum(axis=1)
        return np.asarray(strange + missing, np.float64)

    def moves(self, inside: Int64Array, outside: Int64Array) -> BoolArray:
        """No required member leaves, no other than the allowed comes in."""
        fits = np.ones((len(inside) + 1, len(outside) + 1), np.bool_)
        fits[:, 1:] = self.allowed[outside]
        if len(self.required):
            fits[1:] &= ~np.isin(inside, self.required)[:, None]
        return fits


@dataclass(frozen=True)
class SnapshotLimit(Constraint):
    """At most ``most`` snapshots of one GAN; ``gan`` int64 [M] numbers each member's."""

    gan: Int64Array
    most: int

    def violation(self, subsets: BoolArray) -> Float64Array:
        """1 where some GAN has too many."""
        # A product with the table of who is whose counts all GANs of all subsets at once.
        member_of = np.eye(int(self.gan.max()) + 1)[self.gan]
        counts = subsets.astype(np.float64) @ member_of
        return np.asarray(np.any(counts > self.most, axis=1), np.float64)

    def moves(self, inside: Int64Array, outside: Int64Array) -> BoolArray:
        """Only the GAN of the member that comes in can have too many."""
        held = np.bincount(self.gan[inside], minlength=int(self.gan.max()) + 1)
        fits = np.ones((len(inside) + 1, len(outside) + 1), np.bool_)
        # A snapshot that takes the place of one of the same GAN leaves the count as it was.
        after = np.repeat(held[self.gan[outside]][None, :] + 1, len(inside) + 1, axis=0)
        after[1:] -= self.gan[inside][:, None] == self.gan[outside]
        fits[:, 1:] = after <= self.most
        return fits


@dataclass(frozen=True)
class CostLimit(Constraint):
    """Summed costs (float64 [M] ≥ 0) of at most ``limit``."""

    costs: Float64Array
    limit: float

    def violation(self, subsets: BoolArray) -> Float64Array:
        """1 where the sum is above the limit."""
        return (subsets @ self.costs > self.limit).astype(np.float64)

    def moves(self, inside: Int64Array, outside: Int64Array) -> BoolArray:
        """By the sum after the move."""
        # Summed anew for the subset: a running sum would drift past a limit that is met exactly.
        lost, gained = (np.append(0.0, self.costs[side]) for side in (inside, outside))
        return np.asarray((self.costs[inside].sum() - lost)[:, None] + gained <= self.limit)
