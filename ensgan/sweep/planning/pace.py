"""How many GANs a budget carries into each round.

A budget that pays for every snapshot of every GAN carries all of them through. A smaller one would
end with first snapshots only, were all GANs begun: fewer are then carried into each later round, by
the gentlest constant factor that it pays for, and where the steepest is not enough fewer are begun.
Successive halving (Jamieson and Talwalkar 2016) is the steepest of such schedules; the learning
curves of GANs cross too often for it, and their first snapshots say too little.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import accumulate
from math import inf
from statistics import fmean

from ensgan.sweep.planning.budget import EVIDENCE

FINALISTS = 2
"""GANs carried to their last snapshot at least: an ensemble has two members."""
STEEPEST = 0.8
"""At least this part goes on from a round to the next; where that is too much fewer are begun.

Replaying the recorded scores of three sweeps under a quarter to a half of their cost, 0.7 to 0.9
did best, and 0.5 worse than training GANs to their ends in any order (``docs/results/budget.md``).
"""
_FACTORS = 51


def widths(rounds: int, affordable: Sequence[float]) -> tuple[int, ...]:
    """GANs in each round, never more in a later one.

    Args:
        rounds: snapshots of each GAN.
        affordable: snapshots that the whole budget pays for when one GAN is begun, two, … all.

    Returns:
        ``rounds`` numbers whose sum is at most what is affordable, unless even ``FINALISTS`` GANs
        carried through all rounds are more than that: then that.
    """
    gans = len(affordable)
    for step in range(_FACTORS):
        found = _falling(gans, rounds, 1 - (1 - STEEPEST) * step / (_FACTORS - 1))
        if sum(found) <= affordable[gans - 1]:
            return found
    for begun in range(gans - 1, FINALISTS, -1):
        found = _falling(begun, rounds, STEEPEST)
        if sum(found) <= affordable[begun - 1]:
            return found
    return (min(gans, FINALISTS),) * rounds


def _falling(gans: int, rounds: int, factor: float) -> tuple[int, ...]:
    floor = min(gans, FINALISTS)
    powers = (max(0, i - EVIDENCE + 1) for i in range(rounds))  # nothing is judged before
    return tuple(max(floor, int(gans * factor**power + 0.5)) for power in powers)


class Costs:
    """Hours that a snapshot of each GAN takes: measured, or by the ratio of efforts to one that is.

    Args:
        planned: snapshots by GAN, those that are begun first coming first.
        efforts: how long the GANs take against each other; any unit.
    """

    def __init__(self, planned: Mapping[str, int], efforts: Mapping[str, float]) -> None:
        self.planned, self.efforts = planned, efforts
        self._heard: dict[str, float] = {}
        self._measured: dict[str, list[float]] = {}

    def hear(self, gan: str, hours: float) -> None:
        """What a snapshot of a running trial will take at its present speed."""
        self._heard[gan] = hours

    def measure(self, gan: str, hours: float) -> None:
        """What a finished snapshot took."""
        self._measured.setdefault(gan, []).append(hours)

    def each(self) -> dict[str, float]:
        """Hours a snapshot of every GAN; empty while nothing is known of any."""
        known = self._heard | {gan: fmean(hours) for gan, hours in self._measured.items()}
        if not known:
            return {}
        efforts = [self.efforts.get(gan, 0.0) for gan in known]
        ratio = sum(known.values()) / sum(efforts) if all(efforts) else 0.0
        mean = fmean(known.values())
        return {
            gan: known.get(gan, ratio * self.efforts.get(gan, 0.0) or mean) for gan in self.planned
        }

    def affordable(self, hours: float) -> list[float]:
        """Snapshots that the hours pay for if the first GAN has them, the first two share them, …

        Empty while nothing is known of any GAN.
        """
        sums = accumulate(self.each().values())
        return [hours * begun / total if total else inf for begun, total in enumerate(sums, 1)]


def places(found: Sequence[int], stages: Collection[int], underway: Collection[int]) -> list[int]:
    """GANs that may still be taken into each round.

    Whoever has begun comes as far as something can be said of it. After that, while some of the
    round before are still being trained, the same part of those that are not: one of the others may
    be better.

    Args:
        found: GANs in each round, as the budget carries.
        stages: snapshots that each GAN has.
        underway: the same of those that are being trained.
    """
    free = []
    for round_, width in enumerate(found):
        ready = sum(stage >= round_ for stage in stages)
        if round_ >= EVIDENCE:
            before = found[round_ - 1]
            width = width * min(ready, before) // before
        elif round_ > 0:
            width = max(width, ready)
        taken = sum(stage > round_ for stage in stages)
        free.append(width - taken - sum(stage == round_ for stage in underway))
    return free
