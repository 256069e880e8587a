"""Untried subsets beside the front, the nearest first: what to try once the front is used up."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

import numpy as np

from ensgan.search.ledger import SearchLedger

_ENOUGH = 2000
_EXPANSIONS = 20


class UntriedNeighbours:
    """Walks outwards from a run's front by additions, removals and swaps.

    Every front point, then every subset it returned, is expanded once. So it ends only when no
    allowed subset that can be reached by single moves is left.

    Args:
        ledger: whose front and constraints count; nothing is written to it.
    """

    def __init__(self, ledger: SearchLedger) -> None:
        self._ledger = ledger
        self._expanded: set[tuple[int, ...]] = set()
        self._returned: list[tuple[int, ...]] = []
        self._waiting: list[tuple[float, tuple[int, ...]]] = []  # the nearest last
        self._known: set[tuple[int, ...]] = set()

    def next(
        self, tried: AbstractSet[tuple[int, ...]], taken: AbstractSet[tuple[int, ...]]
    ) -> tuple[int, ...] | None:
        """The nearest subset that is neither tried nor taken; None when all are."""
        while True:
            while self._waiting:
                _, members = self._waiting.pop()
                if members not in tried and members not in taken:
                    self._returned.append(members)
                    return members
            if not self._expand(tried):
                return None

    def _expand(self, tried: AbstractSet[tuple[int, ...]]) -> bool:
        """Take in the neighbours of a few more subsets; False when none is left to expand."""
        ledger = self._ledger
        sources = [m for m in ledger.archive.members if m not in self._expanded] + self._returned
        if not sources:
            others = [m for m in sorted(tried) if len(m) > 1 and m not in self._expanded]
            fits = ledger.constraints.feasible(ledger.evaluator.subsets(others))
            sources = [m for m, fit in zip(others, fits, strict=True) if fit]
        found: list[tuple[float, tuple[int, ...]]] = []
        expanded = 0
        for members in sources:
            if members in self._expanded:
                continue
            self._expanded.add(members)
            expanded += 1
            found += self._neighbours(members, tried)
            if len(found) >= _ENOUGH or expanded >= _EXPANSIONS:
                break
        self._returned = [m for m in self._returned if m not in self._expanded]
        self._waiting = sorted(found, reverse=True)
        return expanded > 0

    def _neighbours(
        self, members: tuple[int, ...], tried: AbstractSet[tuple[int, ...]]
    ) -> list[tuple[float, tuple[int, ...]]]:
        ledger = self._ledger
        inside = np.array(members, np.int64)
        outside = ledger.constraints.outside(inside)
        near = ledger.evaluator.moves(members, outside)
        fits = ledger.constraints.moves(inside, outside)
        fits[0, 0] = False
        rows, columns = np.nonzero(fits)
        first, second = near.values.first[fits], near.values.second[fits]
        short = ledger.archive.shortfall(first, second, ledger.move_costs(near)[fits])
        found = []
        for row, column, gap in zip(rows.tolist(), columns.tolist(), short.tolist(), strict=True):
            subset = near.subset(row, column)
            if subset not in tried and subset not in self._known:
                self._known.add(subset)
                found.append((gap, subset))
        return found
