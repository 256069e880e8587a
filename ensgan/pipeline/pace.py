"""How many GANs a budget carries into each round.

A budget that pays for every snapshot of every GAN carries all of them through. A smaller one would
end with first snapshots only, were all GANs begun: fewer are then carried into each later round, by
the gentlest constant factor that it pays for, and where the steepest is not enough fewer are begun.
Successive halving (Jamieson and Talwalkar 2016) is the steepest of such schedules; the learning
curves of GANs cross too often for it, and their first snapshots say too little.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import inf
from statistics import fmean

from ensgan.pipeline.budget import EVIDENCE

FINALISTS = 2
"""GANs carried to their last snapshot at least: an ensemble has two members."""
STEEPEST = 0.8
"""At least this part goes on from a round to the next; where that is too much fewer are begun.

Replaying the recorded scores of three sweeps under a quarter to a half of their cost, 0.7 to 0.9
did best, and 0.5 worse than training GANs to their ends in any order (``docs/results/budget.md``).
"""
_FACTORS = 51


def widths(gans: int, rounds: int, affordable: Callable[[int], float]) -> tuple[int, ...]:
    """GANs in each round, never more in a later one.

    Args:
        gans: how many there are.
        rounds: snapshots of each.
        affordable: snapshots that the whole budget pays for when so many GANs are begun.

    Returns:
        ``rounds`` numbers whose sum is at most what is affordable, unless even ``FINALISTS`` GANs
        carried through all rounds are more than that: then that.
    """
    for step in range(_FACTORS):
        found = _falling(gans, rounds, 1 - (1 - STEEPEST) * step / (_FACTORS - 1))
        if sum(found) <= affordable(gans):
            return found
    for begun in range(gans - 1, FINALISTS, -1):
        found = _falling(begun, rounds, STEEPEST)
        if sum(found) <= affordable(begun):
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

    def known(self) -> dict[str, float]:
        """Hours a snapshot of the GANs that have been heard of."""
        return self._heard | {gan: fmean(each) for gan, each in self._measured.items()}

    def of(self, gan: str) -> float:
        """Hours that a snapshot of the GAN takes.

        Raises:
            ValueError: nothing is known of any GAN.
        """
        known = self.known()
        if gan in known:
            return known[gan]
        efforts = [self.efforts.get(each, 0.0) for each in (*known, gan)]
        if not all(efforts):
            return fmean(known.values())
        return efforts[-1] * sum(known.values()) / sum(efforts[:-1])

    def affordable(self, hours: float, begun: int) -> float:
        """Snapshots that the hours pay for if the first ``begun`` GANs share them.

        Raises:
            ValueError: nothing is known of any GAN.
        """
        each = [self.of(gan) for gan in list(self.planned)[:begun]]
        return hours / fmean(each) if sum(each) else inf


def places(round_: int, found: Sequence[int], histories: Mapping[str, Sequence[object]]) -> int:
    """GANs that may be in a round so far.

    Whoever has begun comes as far as something can be said of it. After that, while some of the
    round before are still being trained, the same part of those that are not: one of the others may
    be better.
    """
    if round_ == 0:
        return found[0]
    before = found[round_ - 1]
    ready = sum(len(history) >= round_ for history in histories.values())
    if round_ < EVIDENCE:
        return max(found[round_], ready)
    return found[round_] * min(ready, before) // before
