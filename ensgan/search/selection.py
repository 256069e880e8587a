"""Choosing one ensemble G* from a front, with the reason in words and what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from ensgan.errors import EnsganError, InputError, last_line
from ensgan.registry import Registry
from ensgan.search.forms import Ratio, find_form
from ensgan.search.pareto import objective_values
from ensgan.search.pools import check_pool
from ensgan.search.rescoring import check_values
from ensgan.text import counted
from ensgan.types import Float64Array, Front, FrontPoint, PoolScores, Selection, measure_name

_ALTERNATIVES = 3
NOTHING_REACHED = 5e-4
"""Intra-d below it reads 0.000."""
BEHIND = 0.9
"""Share of the best member's Intra-d below which an ensemble, a mean of members, gets a caution."""


@dataclass(frozen=True)
class Question:
    """Input of a rule: the front, the rule's argument, and downstream scores if there are any."""

    front: Front
    argument: str
    validation_scores: Float64Array | None

    @property
    def better(self) -> Float64Array:
        """The objectives, all turned so that larger is better: [points, 2] or [points, 3]."""
        return objective_values(self.front) * [
            1.0 if axis.maximise else -1.0 for axis in self.front.axes
        ]

    @property
    def scaled(self) -> Float64Array:
        """All objectives scaled to [0,1] over the front, 1 the better; 1 where they do not vary."""
        # Scaled over the front itself: objectives have no common unit.
        low, high = self.better.min(axis=0), self.better.max(axis=0)
        span = high - low
        return np.where(span > 0, (self.better - low) / np.where(span > 0, span, 1.0), 1.0)


Merit: TypeAlias = Callable[[Question], Float64Array]
"""Merit of every front point, the largest wins; -inf excludes."""


def _knee(question: Question) -> Float64Array:
    """Signed distance from the chord between the two ends, positive towards the ideal corner.

    After scaling, the ends are (1, 0) and (0, 1), the chord is x + y = 1; with three objectives
    the plane x + y + z = 1 through the corners where a single one is at its best takes its place
    (the front's own ends may coincide: a pair is often both the smallest and the least alike).
    Source: Das 1999, normal-boundary knee.
    """
    scaled = question.scaled
    return np.asarray((scaled.sum(axis=1) - 1.0) / np.sqrt(scaled.shape[1]))


def _ratio(question: Question) -> Float64Array:
    """The first objective over the second, or what the form divides instead."""
    ratio = _ratio_of(question.front)
    parts = [
        {"first": point.first, "second": point.second, **dict(point.measures)}
        for point in question.front
    ]
    try:
        above, below = (
            np.array([part[name] for part in parts]) for name in (ratio.above, ratio.below)
        )
    except KeyError:
        raise InputError(
            f"rule 'ratio' needs the {measure_name(ratio.above)} and "
            f"{measure_name(ratio.below)} of every front point, and this front file lacks them: "
            "search again, or use knee"
        ) from None
    positive = below > 0
    return np.where(positive, above / np.where(positive, below, 1.0), np.inf)


def _ratio_of(front: Front) -> Ratio:
    ratio = find_form(front.form).ratio
    if ratio is None:
        raise InputError(f"rule 'ratio' means nothing for objectives '{front.form}': use knee")
    return ratio


def _unvalidated(question: Question) -> Float64Array:
    """Place by the first objective, of equal ones by the fewest members."""
    sizes = np.array([len(point.members) for point in question.front])
    order = np.lexsort((sizes, -np.round(question.better[:, 0], 12)))
    return -np.argsort(order).astype(np.float64)


def _max_size(question: Question) -> Float64Array:
    text = question.argument
    if not text.isdigit() or int(text) < 2:
        raise InputError(f"max-size:{text} needs a number of members ≥ 2, e.g. max-size:5")
    sizes = np.array([len(point.members) for point in question.front])
    if not (sizes <= int(text)).any():
        raise InputError(
            f"no point of the front has at most {text} members: the smallest has {sizes.min()}"
        )
    return np.where(sizes <= int(text), _knee(question), -np.inf)


def _downstream(question: Question) -> Float64Array:
    scores = question.validation_scores
    if scores is None:
        raise InputError(
            "rule 'downstream' needs the validation score of every front point: "
            "pass validation_scores"
        )
    if scores.shape != (len(question.front),) or not np.isfinite(scores).all():
        raise InputError(
            f"validation_scores must be {len(question.front)} finite numbers, one per front point"
        )
    return scores


def _why_knee(front: Front) -> str:
    if front.third is None:
        return "farthest from the chord between the front's ends"
    return "farthest from the plane through the corners where one of the three objectives is best"


def _why_ratio(front: Front) -> str:
    first, second = front.axes[:2]
    why = f"largest {_ratio_of(front).words or f'{first.name} / {second.name}'}"
    return why + ("" if front.third is None else f" ({front.axes[2].name} left aside)")


@dataclass(frozen=True)
class SelectionRule:
    """A rule that picks one point of a front.

    Attributes:
        name: as options have it, before the colon.
        merit: of every front point, the largest wins; -inf excludes.
        because: the reason in a few words.
        takes_argument: whether it is written ``NAME:K``.
        needs_validation: whether it needs downstream scores, which only an evaluation has.
    """

    name: str
    merit: Merit
    because: Callable[[Front], str]
    takes_argument: bool = False
    needs_validation: bool = False

    @property
    def written(self) -> str:
        """How a user writes it."""
        return f"{self.name}:K" if self.takes_argument else self.name


RULES = Registry(
    "selection rule",
    "ensgan.rules",
    SelectionRule,
    (
        SelectionRule("knee", _knee, _why_knee),
        SelectionRule("ratio", _ratio, _why_ratio),
        SelectionRule(
            "utopia",
            lambda question: -np.linalg.norm(1.0 - question.scaled, axis=1),
            lambda front: "nearest to the ideal corner",
        ),
        SelectionRule(
            "max-intra",
            lambda question: question.better[:, 0],
            lambda front: f"largest {front.axes[0].name}",
        ),
        SelectionRule(
            "min-inter",
            lambda question: question.better[:, 1],
            lambda front: f"smallest {front.axes[1].name}",
        ),
        SelectionRule(
            "max-size",
            _max_size,
            lambda front: "the knee among small ensembles",
            takes_argument=True,
        ),
        SelectionRule(
            "validated",
            _unvalidated,
            lambda front: (
                f"largest {front.axes[0].name}, then fewest members; a front alone has no images "
                "to validate with"
            ),
        ),
        SelectionRule(
            "downstream",
            _downstream,
            lambda front: "best downstream validation score",
            needs_validation=True,
        ),
    ),
)


rules = RULES.names
"""Names of the selection rules; ``max-size`` is written ``max-size:K``."""


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
        rule: ``knee``, ``ratio``, ``utopia``, ``max-intra``, ``min-inter``, ``max-size:K``,
            ``validated`` (as a front alone allows it, without validation) or ``downstream``. Of
            equally good points the one with the larger Intra-d wins, then the smaller Inter-d, then
            the smaller third value.
        validation_scores: for ``downstream`` only: the downstream score of every front point on
            the *validation* split, in front order; never the test split.
        pool: when given, the front must be of these scores, and the reason tells their number.

    Raises:
        InputError: unknown rule or bad argument, an empty front, a front of another pool,
            missing validation scores, or a rule that fails (it may be the user's own).
    """
    name, colon, argument = rule.partition(":")
    row = RULES.get(name)
    if bool(colon) != row.takes_argument:
        hint = f"write {row.written}" if row.takes_argument else f"write {name} alone"
        raise InputError(f"selection rule '{rule}': {hint}")
    if len(front) == 0:
        raise InputError("the front is empty: there is nothing to select from")
    if pool is not None:
        check_pool(front, pool)
        check_values(front, pool)
    scores = None if validation_scores is None else np.asarray(validation_scores, np.float64)
    question = Question(front, argument, scores)
    merit, because = _judged(row, question)
    # Rounding must not decide: equal to 12 digits is equal, then the larger first objective wins.
    order = np.lexsort((*-question.better.T[::-1], -np.round(merit, 12)))
    order = order[merit[order] > -np.inf]
    chosen = front.points[int(order[0])]
    alternatives = tuple(front.points[int(i)] for i in order[1 : 1 + _ALTERNATIVES])
    brief = [_brief(front, p, 0 if pool is None else len(pool)) for p in (chosen, *alternatives)]
    reason = f"{rule}: {brief[0]} — {because}, of {counted(len(front), 'point')}" + (
        f"; nearest alternatives: {'; '.join(brief[1:])}"
        if alternatives
        else "; it has no alternative"
    )
    return Selection(rule, chosen, reason, alternatives)


def _judged(rule: SelectionRule, question: Question) -> tuple[Float64Array, str]:
    """The merit of every point and the reason in words; errors as :func:`select`."""
    try:
        merit = np.asarray(rule.merit(question), np.float64)
        because = str(rule.because(question.front))
    except EnsganError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {last_line(error)}"
        raise InputError(f"selection rule '{rule.name}' failed: {reason}") from error
    count = len(question.front)
    if merit.shape != (count,) or np.isnan(merit).any() or not (merit > -np.inf).any():
        raise InputError(
            f"selection rule '{rule.name}' must give each of the front's {count} points a number "
            "and not exclude all of them by -inf"
        )
    return merit, because


def _brief(front: Front, point: FrontPoint, pool: int) -> str:
    pairs = list(zip(front.axes, front.values(point), strict=True))
    parts = [f"{axis.name} {value:.3f}" for axis, value in pairs[:2]]
    parts += [f"{axis.name} {value:.6g}" for axis, value in pairs[2:] if axis.key != "members"]
    size = len(point.members)
    return ", ".join((*parts, f"{size} of {pool} members" if pool else counted(size, "member")))


def member_intra_d(scores: PoolScores) -> dict[str, float]:
    """Capped Intra-d of every member of a pool, alone."""
    return dict(zip(scores.names, map(float, scores.capped_intra_d), strict=True))


def cautions(point: FrontPoint, alone: Mapping[str, float]) -> tuple[str, ...]:
    """What is wrong with a selected ensemble; empty where nothing is.

    Args:
        point: the chosen point of a front.
        alone: Intra-d of every member of the pool, alone.

    Returns:
        sentences without a full stop: nothing in the pool reaches a real image; members that do
        not, and their share of the images; an Intra-d below 0.9 of the best single member's (only
        of fronts whose first objective is Intra-d).
    """
    best = max(alone, key=lambda name: alone[name])
    if alone[best] < NOTHING_REACHED:
        return (
            "no member of the pool reaches any real image yet (Intra-d 0.000 throughout): train "
            "longer before believing any number here",
        )
    sentences = []
    shares = point.weights or (1 / len(point.members),) * len(point.members)
    empty = {
        name: share
        for name, share in zip(point.members, shares, strict=True)
        if alone[name] < NOTHING_REACHED
    }
    if empty:
        verb = "reaches" if len(empty) == 1 else "reach"
        makes = "makes" if len(empty) == 1 else "make"
        sentences.append(
            f"{', '.join(empty)} {verb} no real image yet (Intra-d 0.000) and {makes} "
            f"{sum(empty.values()):.0%} of the images of G*"
        )
    # Members are measured in the paper's form, whatever form the front has.
    intra_d = dict(point.measures).get("intra_d_paper", point.first)
    if point.keys[0] == "intra_d" and intra_d < BEHIND * alone[best]:
        sentences.append(
            f"G* (Intra-d {intra_d:.3f}) is below the best single member, {best} "
            f"({alone[best]:.3f})"
        )
    return tuple(sentences)
