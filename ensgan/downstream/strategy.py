"""A strategy: which images a downstream classifier is trained on, and with which weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeAlias, get_args

from ensgan.errors import InputError, unknown_name
from ensgan.types import FrontPoint, PoolScores

Kind: TypeAlias = Literal["real", "synthetic", "real+synthetic", "real+augment", "dynamic"]
WITHOUT_MEMBERS = ("real", "real+augment")
Weighting: TypeAlias = Literal["own", "uniform", "by-intra", "learned"]
WEIGHTINGS: tuple[str, ...] = get_args(Weighting)


@dataclass(frozen=True)
class Strategy:
    """A named training set.

    Attributes:
        name: as the user wrote it; several draws of one strategy end in ``#0``, ``#1``, ….
        members: the generators, none for ``real`` and ``real+augment``.
        weights: chance of each member to give an image (scaled to sum 1), None for equal chances;
            for ``dynamic`` the chances to begin with.
        kind: real images, synthetic ones, both, real ones beside changed copies of them, or
            synthetic ones whose weights adapt.
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

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Strategy:
        """Read what :meth:`to_json` wrote."""
        weights = value["weights"]
        return cls(
            value["name"],
            tuple(value["members"]),
            None if weights is None else tuple(weights),
            value["kind"],
            value["n_times"],
        )


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
    if n_times < 1:
        raise InputError(f"n_times must be at least 1, not {n_times}")
    return tuple(
        replace(_weighted(strategy, weighting, scores), n_times=strategy.n_times * n_times)
        if strategy.members
        else strategy
        for strategy in strategies
    )


def intra_d_weights(name: str, members: Sequence[str], scores: PoolScores) -> tuple[float, ...]:
    """Intra-d of each member, to be its weight.

    Raises:
        InputError: all of them are 0.
    """
    by_name = dict(zip(scores.names, scores.intra_d.tolist(), strict=True))
    weights = tuple(by_name[member] for member in members)
    if sum(weights) == 0:
        raise InputError(f"strategy '{name}': every member has Intra-d 0, so none has a weight")
    return weights


def _weighted(strategy: Strategy, weighting: str, scores: PoolScores) -> Strategy:
    if weighting == "own" or len(strategy.members) == 1:
        return strategy
    if weighting == "uniform":
        return replace(strategy, weights=None)
    if weighting == "by-intra":
        weights = intra_d_weights(strategy.name, strategy.members, scores)
        return replace(strategy, weights=weights)
    # Late: only this form needs the search package.
    from ensgan.search import Evaluator, optimise_weights

    evaluator = Evaluator(scores)
    values = evaluator.evaluate(evaluator.indices(strategy.members))
    point = optimise_weights(evaluator, FrontPoint(strategy.members, *values))
    return replace(strategy, members=point.members, weights=point.weights)
