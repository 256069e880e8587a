"""How many GANs a budget carries into each round.

A budget that pays for every snapshot of every GAN carries all of them through. A smaller one would
end with first snapshots only, were all GANs begun: fewer are then carried into each later round, by
the gentlest constant factor that it pays for, and when halving is not enough fewer are begun (the
widths of successive halving, Jamieson and Talwalkar 2016, chosen from the budget).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import inf
from statistics import fmean

FINALISTS = 2
"""GANs carried to their last snapshot at least: an ensemble has two members."""
STEEPEST = 0.5
"""No more than this part is let go between two rounds; below that fewer GANs are begun."""
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
    return tuple(max(floor, int(gans * factor**i + 0.5)) for i in range(rounds))


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

    def affordable(self, hours: float, begun: int) -> float:
        """Snapshots that the hours pay for if the first ``begun`` GANs share them.

        Raises:
            ValueError: nothing is known of any GAN.
        """
        known = self.known()
        effort = sum(self.efforts.get(gan, 0.0) for gan in known)
        ratio = sum(known.values()) / effort if effort > 0 else 0.0
        mean = fmean(known.values())
        each = [
            known.get(gan, ratio * self.efforts.get(gan, 0.0) or mean)
            for gan in list(self.planned)[:begun]
        ]
        return hours / fmean(each) if sum(each) else inf


def places(round_: int, found: Sequence[int], histories: Mapping[str, Sequence[object]]) -> int:
    """GANs that may be in a round so far.

    While some of the round before are still being trained, the same part of those that are not:
    one of the others may be better.
    """
    if round_ == 0:
        return found[0]
    before = found[round_ - 1]
    ready = sum(len(history) >= round_ for history in histories.values())
    return found[round_] * min(ready, before) // before
