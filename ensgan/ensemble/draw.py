"""Which member makes image i, and of which class: draws that do not depend on how many are made.

Every draw comes from a counter-based generator (Philox; Salmon et al., "Parallel random numbers:
as easy as 1, 2, 3", 2011) at position i, so image i of a seed is the same image in any request.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from ensgan.types import Int64Array


class ImageRequest(BaseModel):
    """What to make, as others ask for it; see :meth:`Ensemble.sample`."""

    model_config = ConfigDict(extra="forbid")

    n: int = Field(ge=1, description="How many images.")
    labels: list[int] | None = Field(
        None,
        description="The class of each image, n of them; drawn by the training shares when null.",
    )
    seed: int = Field(0, ge=0, lt=2**63, description="Equal seeds give equal images.")
    replacement: bool = Field(
        False, description="Whether a sample bank that runs out may repeat its images."
    )


@dataclass(frozen=True)
class Plan:
    """What is to be made.

    Attributes:
        members: int64 [n], index of the member of each image.
        ranks: int64 [n], how many images of its member come before it.
        turns: int64 [n], how many images of its member and class come before it.
        labels: int64 [n], classes.
        made: int64 [M,K], images of each member and class up to the end of this plan.
    """

    members: Int64Array
    ranks: Int64Array
    turns: Int64Array
    labels: Int64Array
    made: Int64Array


def derived_seed(*parts: object) -> int:
    """A seed in [0, 2⁶³) from parts, the same in every process."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def uniforms(seed: int, start: int, n: int) -> npt.NDArray[np.float64]:
    """Uniform draws start … start+n-1 of the stream of ``seed``, float64 [n] in [0, 1)."""
    stream = np.random.Philox(key=seed)
    stream.advance(start // 4)  # four 64-bit draws per counter step
    return np.random.Generator(stream).random(start % 4 + n)[start % 4 :]


def choose(shares: Sequence[float], draws: npt.NDArray[np.float64]) -> Int64Array:
    """Categories with these shares (sum 1) for uniform draws, int64 of the draws' shape."""
    edges = np.cumsum(np.asarray(shares, np.float64))
    chosen = np.searchsorted(edges / edges[-1], draws, side="right")
    return np.minimum(chosen, len(edges) - 1).astype(np.int64)


def make_plan(
    n: int,
    *,
    seed: int,
    weights: Sequence[float],
    class_shares: Sequence[float],
    labels: Int64Array | None = None,
    start: int = 0,
    made: Int64Array | None = None,
) -> Plan:
    """Plan images start … start+n-1 of a seed.

    Args:
        labels: int64 [n], or None to draw them by ``class_shares``.
        made: int64 [M,K], how many images of each member and class lie before ``start``.
    """
    members = choose(weights, uniforms(derived_seed(seed, "member"), start, n))
    if labels is None:
        labels = choose(class_shares, uniforms(derived_seed(seed, "label"), start, n))
    size = (len(weights), len(class_shares))
    before = np.zeros(size, np.int64) if made is None else made
    cells = members * size[1] + labels
    turns = before.reshape(-1)[cells] + _occurrences(cells)
    ranks = before.sum(axis=1)[members] + _occurrences(members)
    counts = np.bincount(cells, minlength=size[0] * size[1]).astype(np.int64)
    return Plan(members, ranks, turns, labels, before + counts.reshape(size))


def _occurrences(values: Int64Array) -> Int64Array:
    """How often each value occurred before its place, int64 [n]."""
    order = np.argsort(values, kind="stable")
    counts = np.bincount(values)
    starts = np.cumsum(counts) - counts
    before = np.empty(len(values), np.int64)
    before[order] = np.arange(len(values)) - starts[values[order]]
    return before
