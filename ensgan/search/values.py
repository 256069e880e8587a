"""What an evaluator returns."""

from __future__ import annotations

from dataclasses import dataclass

from ensgan.types import Float64Array, Int64Array


@dataclass(frozen=True)
class Values:
    """Objectives of B subsets, each float64 [B] (or [rows, columns] of a neighbourhood)."""

    intra_d: Float64Array
    inter_d: Float64Array
    density: Float64Array
    coverage: Float64Array


@dataclass(frozen=True)
class Neighbourhood:
    """Every subset one addition, removal or swap away from ``members``.

    Entry [i, j] of ``values`` drops ``removed[i]`` and takes in ``added[j]``; row 0 removes
    nothing, column 0 adds nothing, so [0, 0] is the subset itself. Subsets of fewer than two
    members have Inter-d nan.
    """

    members: tuple[int, ...]
    removed: Int64Array
    added: Int64Array
    values: Values

    def subset(self, row: int, column: int) -> tuple[int, ...]:
        """The members of entry [row, column], ascending."""
        kept = set(self.members)
        if row:
            kept.discard(int(self.removed[row - 1]))
        if column:
            kept.add(int(self.added[column - 1]))
        return tuple(sorted(kept))
