"""Other member weights, and more images, for strategies that are already resolved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, TypeAlias, get_args

from ensgan.downstream.strategy import Strategy
from ensgan.errors import InputError, unknown_name
from ensgan.types import FrontPoint, PoolScores

Weighting: TypeAlias = Literal["own", "uniform", "by-intra", "learned"]
WEIGHTINGS: tuple[str, ...] = get_args(Weighting)


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
        n_times: factor on the number of synthetic images an epoch, at least 1.

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
