"""A strategy: which images a downstream classifier is trained on, and with which weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np

from ensgan.errors import InputError, unknown_name
from ensgan.types import Front, FrontPoint, PoolScores, Selection, gan_of, step_of

Kind: TypeAlias = Literal["real", "synthetic", "real+synthetic", "real+augment"]
WITHOUT_MEMBERS = ("real", "real+augment")
WEIGHTINGS = ("own", "uniform", "by-intra", "learned")
NO_WEIGHTS = {"final_weights": None}
"""Of members whose weights adapted, in files of earlier versions: tables are known by all keys."""


@dataclass(frozen=True)
class Strategy:
    """A named training set.

    Attributes:
        name: as the user wrote it; several draws of one strategy end in ``#0``, ``#1``, ….
        members: the generators, none for ``real`` and ``real+augment``.
        weights: chance of each member to give an image (scaled to sum 1), None for equal chances.
        kind: real images, synthetic ones, both, or real ones beside changed copies of them.
        n_times: images per epoch in multiples of the usual number: for ``real`` the real ones,
            else the synthetic ones or the changed copies.
    """

    name: str
    members: tuple[str, ...] = ()
    weights: tuple[float, ...] | None = None
    kind: Kind = "synthetic"
    n_times: int = 1

    def __post_init__(self) -> None:
        if (self.kind in WITHOUT_MEMBERS) != (not self.members):
            raise InputError(
                f"strategy '{self.name}' of kind '{self.kind}' has {len(self.members)} members: "
                f"only {' and '.join(WITHOUT_MEMBERS)} have none"
            )
        if len(set(self.members)) != len(self.members):
            raise InputError(f"strategy '{self.name}' names a member twice")
        if self.n_times < 1:
            raise InputError(f"n_times must be at least 1, not {self.n_times}")
        weights = self.weights
        if weights is not None and (
            len(weights) != len(self.members)
            or not all(weight >= 0 for weight in weights)
            or not 0 < sum(weights) < float("inf")
        ):
            raise InputError(
                f"strategy '{self.name}' needs one weight ≥ 0 per member, not all 0; it has "
                f"{len(self.members)} members and the weights {list(weights)}"
            )

    @property
    def group(self) -> str:
        """The name without the number of the draw."""
        return self.name.partition("#")[0]

    def to_json(self) -> dict[str, Any]:
        """The strategy as results record it."""
        return asdict(self)


@dataclass(frozen=True)
class StrategyContext:
    """What a name is resolved against.

    Attributes:
        scores: the pool.
        front: the front G* was chosen from.
        selection: G*.
        seed: of random draws.
    """

    scores: PoolScores
    front: Front
    selection: Selection
    seed: int


Resolve: TypeAlias = Callable[[str, str, StrategyContext], Sequence[Strategy]]
"""The whole name, what stands behind the colon, and the pool → strategies."""
Check: TypeAlias = Callable[[str, str, Sequence[str]], object]
"""The whole name, what stands behind the colon, and the pool's member names; raises InputError."""


@dataclass(frozen=True)
class StrategyForm:
    """One way of writing a strategy: ``head`` or ``head:argument``.

    Attributes:
        written: as help texts show it, e.g. ``random:K``; in brackets what may be left out.
        resolve: makes the strategies; the name has been checked.
        check: refuses what no pool with these member names could resolve, before anything is
            trained: which members will be best is not known then, which names there are is.
    """

    written: str
    resolve: Resolve
    check: Check = lambda name, argument, pool: None

    @property
    def head(self) -> str:
        """The name before the colon."""
        return self.written.partition(":")[0].partition("[")[0]

    @property
    def argument(self) -> Literal["none", "optional", "required"]:
        """Whether something stands behind a colon."""
        if ":" not in self.written:
            return "none"
        return "optional" if "[" in self.written else "required"


def spread_points(front: Front, most: int) -> tuple[FrontPoint, ...]:
    """At most ``most`` points of a front, evenly spread by their order, both ends among them."""
    if most >= len(front):
        return front.points
    chosen = np.unique(np.linspace(0, len(front) - 1, most).round().astype(int))
    return tuple(front.points[index] for index in chosen)


def snapshots(pool: Sequence[str]) -> dict[str, list[str]]:
    """Members by GAN, in step order."""
    gans: dict[str, list[str]] = {}
    for member in sorted(pool, key=step_of):
        gans.setdefault(gan_of(member), []).append(member)
    return gans


def reweighted(
    strategies: Sequence[Strategy], weighting: str, scores: PoolScores, n_times: int = 1
) -> tuple[Strategy, ...]:
    """Give the strategies other member weights, and ``n_times`` as many synthetic images.

    Args:
        strategies: as :func:`build_strategies` made them.
        weighting: ``own`` keeps each strategy's weights; ``uniform``; ``by-intra``: in proportion
            to the members' Intra-d; ``learned``: the weights with the largest Intra-d of the
            ensemble (:func:`ensgan.search.optimise_weights`), learned on the training split alone.
        scores: the pool.
        n_times: factor on the number of synthetic images per epoch, at least 1.

    Raises:
        InputError: an unknown weighting, ``n_times`` below 1, or members that all have Intra-d 0.
    """
    if weighting not in WEIGHTINGS:
        raise InputError(unknown_name("weighting", weighting, WEIGHTINGS))
    return tuple(
        replace(_weighted(strategy, weighting, scores), n_times=strategy.n_times * n_times)
        if strategy.members
        else strategy
        for strategy in strategies
    )


def weighted_by_intra_d(strategy: Strategy, scores: PoolScores) -> Strategy:
    """The strategy with each member's Intra-d as its weight.

    Raises:
        InputError: all of them are 0.
    """
    by_name = dict(zip(scores.names, scores.intra_d.tolist(), strict=True))
    weights = tuple(by_name[member] for member in strategy.members)
    if sum(weights) == 0:
        raise InputError(
            f"strategy '{strategy.name}': every member has Intra-d 0, so none has a weight"
        )
    return replace(strategy, weights=weights)


def _weighted(strategy: Strategy, weighting: str, scores: PoolScores) -> Strategy:
    if weighting == "own" or len(strategy.members) == 1:
        return strategy
    if weighting == "uniform":
        return replace(strategy, weights=None)
    if weighting == "by-intra":
        return weighted_by_intra_d(strategy, scores)
    # Late: only this form needs the search package.
    from ensgan.search import Evaluator, optimise_weights

    evaluator = Evaluator(scores)
    values = evaluator.evaluate(evaluator.indices(strategy.members))
    point = optimise_weights(evaluator, FrontPoint(strategy.members, *values))
    return replace(strategy, members=point.members, weights=point.weights)
