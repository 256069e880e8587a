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

    @property
    def better(self) -> Float64Array:
        """The objectives, all turned so that larger is better."""
        return self.values * _signs(self.front)

    @property
    def scaled(self) -> Float64Array:
        """All objectives scaled to [0,1] over the front, 1 the better; 1 where they do not vary."""
        low, high = self.better.min(axis=0), self.better.max(axis=0)
        span = high - low
        scaled: Float64Array = np.where(
            span > 0, (self.better - low) / np.where(span > 0, span, 1.0), 1.0
        )
        return scaled


Rule: TypeAlias = Callable[[_Question], Float64Array]
"""Merit of every front point, the largest wins; -inf excludes."""


def _signs(front: Front) -> Float64Array:
    return np.array([1.0 if axis.maximise else -1.0 for axis in front.axes])


def _knee(question: _Question) -> Float64Array:
    """Signed distance from the chord between the two ends, positive towards the ideal corner.

    After scaling, the ends are (1, 0) and (0, 1), the chord is x + y = 1; with three objectives
    the plane x + y + z = 1 through the corners where a single one is at its best takes its place
    (the front's own ends may coincide: a pair is often both the smallest and the least alike).
    Source: Das 1999, normal-boundary knee.
    """
    scaled = question.scaled
    distance: Float64Array = (scaled.sum(axis=1) - 1.0) / np.sqrt(scaled.shape[1])
    return distance


def _ratio(question: _Question) -> Float64Array:
    """The first objective over the second; Fréchet distances themselves where there are any.

    The values of the Fréchet form are distances from scales of no meaning: their ratio has none.
    """
    above, below = question.values[:, 0], question.values[:, 1]
    if question.front.axes[0].key == "frechet":
        try:
            measures = [dict(point.measures) for point in question.front]
            above = np.array([each["frechet_between"] for each in measures])
            below = np.array([each["frechet"] for each in measures])
        except KeyError:
            raise InputError(
                "rule 'ratio' needs the Fréchet distances of every front point, and this front "
                "file lacks them: search again, or use knee"
            ) from None
    positive = below > 0
    return np.where(positive, above / np.where(positive, below, 1.0), np.inf)


def _utopia(question: _Question) -> Float64Array:
    distance: Float64Array = -np.linalg.norm(1.0 - question.scaled, axis=1)
    return distance


def _max_intra(question: _Question) -> Float64Array:
    return question.better[:, 0]


def _min_inter(question: _Question) -> Float64Array:
    return question.better[:, 1]


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


def _why_knee(front: Front) -> str:
    if front.third is None:
        return "farthest from the chord between the front's ends"
    return "farthest from the plane through the corners where one of the three objectives is best"


def _why_ratio(front: Front) -> str:
    first, second = front.axes[:2]
    why = f"largest {first.name} / {second.name}"
    if first.key == "frechet":
        why = "largest distance between members / distance to the real images"
    return why + ("" if front.third is None else f" ({front.axes[2].name} left aside)")


@dataclass(frozen=True)
class _RuleRow:
    merit: Rule
    because: Callable[[Front], str]
    takes_argument: bool = False


_RULES: dict[str, _RuleRow] = {
    "knee": _RuleRow(_knee, _why_knee),
    "ratio": _RuleRow(_ratio, _why_ratio),
    "utopia": _RuleRow(_utopia, lambda front: "nearest to the ideal corner"),
    "max-intra": _RuleRow(_max_intra, lambda front: f"largest {front.axes[0].name}"),
    "min-inter": _RuleRow(_min_inter, lambda front: f"smallest {front.axes[1].name}"),
    "max-size": _RuleRow(
        _max_size, lambda front: "the knee among small ensembles", takes_argument=True
    ),
    "downstream": _RuleRow(_downstream, lambda front: "best downstream validation score"),
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

    ``knee`` and ``utopia`` weigh a third objective like the other two; ``ratio``, ``max-intra`` and
    ``min-inter`` are of the first two alone, whatever the form of the objectives calls them.

    Args:
        front: the front to choose from.
        rule: ``knee``, ``ratio``, ``utopia``, ``max-intra``, ``min-inter``, ``max-size:K`` or
            ``downstream``. Of equally good points the one with the larger Intra-d wins, then
            the smaller Inter-d, then the smaller third value.
        validation_scores: for ``downstream`` only: the downstream score of every front point on
            the *validation* split, in front order; never the test split.
        pool: when given, the front must be of these scores, and the reason tells their number.

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
    question = _Question(front, argument, scores)
    merit = row.merit(question)
    # Rounding must not decide: equal to 12 digits is equal, then the larger Intra-d wins.
    order = np.lexsort((*-question.better.T[::-1], -np.round(merit, 12)))
    order = order[merit[order] > -np.inf]
    chosen = front.points[int(order[0])]
    alternatives = tuple(front.points[int(i)] for i in order[1 : 1 + _ALTERNATIVES])
    brief = [_brief(front, p, 0 if pool is None else len(pool)) for p in (chosen, *alternatives)]
    reason = f"{rule}: {brief[0]} — {row.because(front)}, of {len(front)} points" + (
        f"; nearest alternatives: {'; '.join(brief[1:])}"
        if alternatives
        else "; it has no alternative"
    )
    return Selection(rule, chosen, reason, alternatives)


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


def _brief(front: Front, point: FrontPoint, pool: int) -> str:
    pairs = list(zip(front.axes, front.values(point), strict=True))
    parts = [f"{axis.name} {value:.3f}" for axis, value in pairs[:2]]
    parts += [f"{axis.name} {value:.6g}" for axis, value in pairs[2:] if axis.key != "members"]
    return ", ".join((*parts, f"{len(point.members)}{f' of {pool}' if pool else ''} members"))
