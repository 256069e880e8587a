"""Choosing one ensemble G* from a front, with the reason in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from ensgan.errors import InputError, unknown_name
from ensgan.search.objectives import pool_key
from ensgan.search.pareto import objective_values
from ensgan.types import Float64Array, Front, FrontPoint, PoolScores, Selection

_ALTERNATIVES = 3


@dataclass(frozen=True)
class _Question:
    """What a rule may look at: the front, its argument and downstream scores if there are any."""

    front: Front
    argument: str
    validation_scores: Float64Array | None

    @property
    def values(self) -> Float64Array:
        return objective_values(self.front)


Rule: TypeAlias = Callable[[_Question], Float64Array]
"""Merit of every front point, the largest wins; -inf excludes."""


def _scaled(values: Float64Array) -> Float64Array:
    """Both objectives scaled to [0,1] over the front, 1 the better; 1 where they do not vary."""
    better = values * np.array([1.0, -1.0])
    low, high = better.min(axis=0), better.max(axis=0)
    span = high - low
    scaled: Float64Array = np.where(span > 0, (better - low) / np.where(span > 0, span, 1.0), 1.0)
    return scaled


def _knee(question: _Question) -> Float64Array:
    """Signed distance from the chord between the two ends, positive towards the ideal corner.

    After scaling, the ends are (1, 0) and (0, 1), the chord is x + y = 1.
    Source: Das 1999, normal-boundary knee.
    """
    scaled = _scaled(question.values)
    distance: Float64Array = (scaled.sum(axis=1) - 1.0) / np.sqrt(2.0)
    return distance


def _ratio(question: _Question) -> Float64Array:
    values = question.values
    positive = values[:, 1] > 0
    return np.where(positive, values[:, 0] / np.where(positive, values[:, 1], 1.0), np.inf)


def _utopia(question: _Question) -> Float64Array:
    distance: Float64Array = -np.linalg.norm(1.0 - _scaled(question.values), axis=1)
    return distance


def _max_intra(question: _Question) -> Float64Array:
    return question.values[:, 0]


def _min_inter(question: _Question) -> Float64Array:
    return -question.values[:, 1]


def _max_size(question: _Question) -> Float64Array:
    text = question.argument
    if not text.isdigit() or int(text) < 2:
        raise InputError(f"max-size:{text} needs a number of members ≥ 2, e.g. max-size:5")
    sizes = np.array([len(point.members) for point in question.front])
    if not (sizes <= int(text)).any():
        raise InputError(
            f"no point of the front has at most {text} members: the smallest has {sizes.min()}"
        )
    return np.where(sizes <= int(text), _knee(question), -np.inf)


def _downstream(question: _Question) -> Float64Array:
    scores = question.validation_scores
    if scores is None:
        raise InputError(
            "rule 'downstream' needs the validation score of every front point: "
            "pass validation_scores"
        )
    if scores.shape != (len(question.front),) or not np.isfinite(scores).all():
        raise InputError(
            f"validation_scores must be {len(question.front)} finite numbers, one a front point"
        )
    return scores


@dataclass(frozen=True)
class _RuleRow:
    merit: Rule
    because: str
    takes_argument: bool = False


_RULES: dict[str, _RuleRow] = {
    "knee": _RuleRow(_knee, "farthest from the chord between the front's ends"),
    "ratio": _RuleRow(_ratio, "largest Intra-d / Inter-d"),
    "utopia": _RuleRow(_utopia, "nearest to the ideal corner"),
    "max-intra": _RuleRow(_max_intra, "largest Intra-d"),
    "min-inter": _RuleRow(_min_inter, "smallest Inter-d"),
    "max-size": _RuleRow(_max_size, "the knee among small ensembles", takes_argument=True),
    "downstream": _RuleRow(_downstream, "best downstream validation score"),
}


def rules() -> tuple[str, ...]:
    """Names of the selection rules; ``max-size`` is written ``max-size:K``."""
    return tuple(_RULES)


def select(
    front: Front,
    rule: str = "knee",
    *,
    validation_scores: Sequence[float] | None = None,
    pool: PoolScores | None = None,
) -> Selection:
    """Choose G* from a front.

    Args:
        front: the front to choose from.
        rule: ``knee``, ``ratio``, ``utopia``, ``max-intra``, ``min-inter``, ``max-size:K`` or
            ``downstream``. Of equally good points the one with the larger Intra-d wins, except
            under ``max-intra``, where Inter-d is equal then anyway.
        validation_scores: for ``downstream`` only: the downstream score of every front point on
            the *validation* split, in front order; never the test split.
        pool: when given, the front must be of these scores.

    Raises:
        InputError: unknown rule or bad argument, an empty front, a front of another pool,
            or missing validation scores.
    """
    name, colon, argument = rule.partition(":")
    if name not in _RULES:
        raise InputError(unknown_name("selection rule", name, _RULES))
    row = _RULES[name]
    if bool(colon) != row.takes_argument:
        hint = f"write {name}:K" if row.takes_argument else f"write {name} alone"
        raise InputError(f"selection rule '{rule}': {hint}")
    if len(front) == 0:
        raise InputError("the front is empty: there is nothing to select from")
    if pool is not None:
        check_pool(front, pool)
    scores = None if validation_scores is None else np.asarray(validation_scores, np.float64)
    merit = row.merit(_Question(front, argument, scores))
    # Rounding must not decide: equal to 12 digits is equal, then the larger Intra-d wins.
    intra = objective_values(front)[:, 0]
    order = np.lexsort((-intra, -np.round(merit, 12)))
    order = order[merit[order] > -np.inf]
    chosen = front.points[int(order[0])]
    alternatives = tuple(front.points[int(i)] for i in order[1 : 1 + _ALTERNATIVES])
    return Selection(rule, chosen, _reason(rule, row, front, chosen, alternatives), alternatives)


def check_pool(front: Front, scores: PoolScores) -> None:
    """Refuse a front that is not of these scores.

    Raises:
        InputError: the front's pool key differs, or it names members the pool lacks.
    """
    key = pool_key(scores)
    if front.pool and front.pool != key:
        raise InputError(
            f"the front is of another pool ({front.pool}) than the scores ({key}): "
            "search these scores again"
        )
    strangers = {name for point in front for name in point.members} - set(scores.names)
    if strangers:
        raise InputError(f"the front names members the scores lack: {', '.join(sorted(strangers))}")


def _reason(
    rule: str, row: _RuleRow, front: Front, chosen: FrontPoint, alternatives: Sequence[FrontPoint]
) -> str:
    others = "; ".join(_brief(point) for point in alternatives)
    return f"{rule}: {_brief(chosen)} — {row.because}, of {len(front)} points" + (
        f"; nearest alternatives: {others}" if others else "; it has no alternative"
    )


def _brief(point: FrontPoint) -> str:
    return f"Intra-d {point.intra_d:.3f}, Inter-d {point.inter_d:.3f}, {len(point.members)} members"
