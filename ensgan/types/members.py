"""The generators of a pool and their names; like the objectives', without numpy."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class MemberId:
    """A generator of the pool: a GAN at one snapshot, written ``GAN@STEP``.

    Where a sweep varies settings, ``gan`` names the variation too: ``GAN~VARIATION@STEP``.
    """

    gan: str
    step: int

    def __str__(self) -> str:
        return f"{self.gan}@{self.step}"


def gan_of(member: str) -> str:
    """The GAN, with its variation, in ``GAN@STEP``.

    A generator from elsewhere has a plain name, which is given back.
    """
    return member.partition("@")[0]


def row_of(name: str) -> str:
    """The zoo's GAN in ``GAN~VARIATION`` or ``GAN~VARIATION@STEP``."""
    return gan_of(name).partition("~")[0]


def step_of(member: str) -> int:
    """The step in ``GAN@STEP``, 0 for the plain name of a generator from elsewhere."""
    step = member.partition("@")[2]
    return int(step) if step.isdigit() else 0
