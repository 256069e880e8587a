"""The forms a strategy may be written in, each with what it means and how it becomes members."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ensgan.downstream.strategy import Strategy, intra_d_weights
from ensgan.errors import InputError, unknown_name
from ensgan.types import Front, FrontPoint, PoolScores, Selection, gan_of, step_of

RANDOM_DRAWS = 3


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

    @property
    def best_single(self) -> str:
        """The member with the largest Intra-d."""
        return self.scores.names[int(np.argmax(self.scores.intra_d))]


Resolve = Callable[[str, str, StrategyContext], Sequence[Strategy]]
"""The whole name, what stands behind the colon, and the pool → strategies."""
Check = Callable[[str, str, Sequence[str]], object]
"""The whole name, what stands behind the colon, and the pool's member names; raises InputError."""


def _anything(_: str, __: str, ___: Sequence[str]) -> None:
    """No argument of this form depends on the pool."""


@dataclass(frozen=True)
class StrategyForm:
    """One way of writing a strategy: ``head`` or ``head:argument``.

    Attributes:
        written: as help texts show it, e.g. ``random:K``; in brackets what may be left out.
        meaning: what the classifier is trained on.
        resolve: makes the strategies; the name has been checked.
        check: refuses what no pool with these member names could resolve, before anything is
            trained: which members will be best is not known then, which names there are is.
    """

    written: str
    meaning: str
    resolve: Resolve
    check: Check = _anything

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


def _whole(letter: str) -> Check:
    """Behind the colon stands a whole number, or nothing where it may be left out."""

    def check(name: str, argument: str, _: Sequence[str]) -> None:
        if argument and (not argument.isdecimal() or int(argument) < 1):
            head = name.partition(":")[0]
            raise InputError(
                f"strategy '{name}': write {head}:{letter} with a whole number, 1 or more, e.g. "
                f"{head}:5"
            )

    return check


def _real(name: str, times: str, _: StrategyContext) -> list[Strategy]:
    return [Strategy(name, kind="real", n_times=int(times or 1))]


def _real_augmented(name: str, times: str, _: StrategyContext) -> list[Strategy]:
    return [Strategy(name, kind="real+augment", n_times=int(times or 1))]


def _best_single(name: str, _: str, context: StrategyContext) -> list[Strategy]:
    return [Strategy(name, (context.best_single,))]


def _is_member(_: str, member: str, pool: Sequence[str]) -> None:
    if member not in pool:
        raise InputError(unknown_name("member", member, pool))


def _single(name: str, member: str, _: StrategyContext) -> list[Strategy]:
    return [Strategy(name, (member,))]


def _all(name: str, _: str, context: StrategyContext) -> list[Strategy]:
    return [Strategy(name, context.scores.names)]


def _snapshots(pool: Sequence[str]) -> dict[str, list[str]]:
    """Members by GAN, in step order."""
    gans: dict[str, list[str]] = {}
    for member in sorted(pool, key=step_of):
        gans.setdefault(gan_of(member), []).append(member)
    return gans


def _last(name: str, _: str, context: StrategyContext) -> list[Strategy]:
    last = {steps[-1] for steps in _snapshots(context.scores.names).values()}
    return [Strategy(name, tuple(member for member in context.scores.names if member in last))]


def _is_gan(_: str, gan: str, pool: Sequence[str]) -> None:
    gans = _snapshots(pool)
    if gan not in gans:
        raise InputError(unknown_name("GAN", gan, gans))


def _steps(name: str, gan: str, context: StrategyContext) -> list[Strategy]:
    return [Strategy(name, tuple(_snapshots(context.scores.names)[gan]))]


def _size_and_draws(name: str, argument: str, pool: Sequence[str]) -> tuple[int, int]:
    """``5`` → (5, 3), ``5x10`` → (5, 10)."""
    head = name.partition(":")[0]
    text, times, draws = argument.partition("x")
    drawn = not times or (draws.isdecimal() and int(draws) >= 1)
    if not text.isdecimal() or int(text) < 1 or not drawn:
        raise InputError(
            f"strategy '{name}': write {head}:K with a number of members, e.g. {head}:5, or "
            f"{head}:5x10 for ten draws"
        )
    if int(text) > len(pool):
        raise InputError(f"strategy '{name}' asks for {text} members, but the pool has {len(pool)}")
    return int(text), int(draws) if times else RANDOM_DRAWS


def _random(name: str, argument: str, context: StrategyContext) -> list[Strategy]:
    pool = context.scores.names
    size, draws = _size_and_draws(name, argument, pool)
    strategies = []
    for draw in range(draws):
        # Of the size and the draw alone: random:5 and real+random:5 draw the same members.
        rng = np.random.default_rng([context.seed, size, draw])
        chosen = np.sort(rng.choice(len(pool), size, replace=False))
        strategies.append(Strategy(f"{name}#{draw}", tuple(pool[index] for index in chosen)))
    return strategies


def _is_rule(name: str, rule: str, _: Sequence[str]) -> None:
    # Late: only this form needs the search package.
    from ensgan.search import rules

    if rule == "downstream":
        raise InputError(
            f"strategy '{name}': the rule 'downstream' needs the validation scores of this "
            "very evaluation; select with it first, then evaluate 'selected'"
        )
    if rule and rule.partition(":")[0] not in rules():
        raise InputError(unknown_name("selection rule", rule, rules()))


def _selected(name: str, rule: str, context: StrategyContext) -> list[Strategy]:
    point = context.selection.point
    if rule and rule != context.selection.rule:
        from ensgan.search import select

        point = select(context.front, rule).point
    return [Strategy(name, point.members, point.weights)]


def _front(name: str, count: str, context: StrategyContext) -> list[Strategy]:
    points = spread_points(context.front, int(count))
    return [
        Strategy(f"{name}/{index + 1}", point.members, point.weights)
        for index, point in enumerate(points)
    ]


def _is_group(name: str, which: str, _: Sequence[str]) -> None:
    if which not in ("", "selected", "all"):
        raise InputError(f"strategy '{name}': after the colon stands 'all' or 'selected'")


def _group(
    which: str, context: StrategyContext
) -> tuple[tuple[str, ...], tuple[float, ...] | None]:
    """Members and weights of G*, or of the whole pool."""
    if which == "all":
        return context.scores.names, None
    return context.selection.point.members, context.selection.point.weights


def _by_intra(name: str, which: str, context: StrategyContext) -> list[Strategy]:
    members, _ = _group(which, context)
    return [Strategy(name, members, intra_d_weights(name, members, context.scores))]


def _dynamic(name: str, which: str, context: StrategyContext) -> list[Strategy]:
    return [Strategy(name, *_group(which, context), kind="dynamic")]


def _real_and_selected(name: str, times: str, context: StrategyContext) -> list[Strategy]:
    point = context.selection.point
    n_times = int(times or 1)
    return [Strategy(name, point.members, point.weights, kind="real+synthetic", n_times=n_times)]


def _beside_real(resolve: Resolve) -> Resolve:
    """The same members as another form, their images beside the real ones."""

    def both(name: str, argument: str, context: StrategyContext) -> list[Strategy]:
        return [
            Strategy(found.name, found.members, found.weights, kind="real+synthetic")
            for found in resolve(name, argument, context)
        ]

    return both


FORMS = (
    StrategyForm("real[:N]", "the real training split (N times as many steps)", _real, _whole("N")),
    StrategyForm("best-single", "the member with the largest Intra-d", _best_single),
    StrategyForm("single:NAME", "one member, GAN@STEP", _single, _is_member),
    StrategyForm("all", "the whole pool", _all),
    StrategyForm("last", "every GAN at its last snapshot", _last),
    StrategyForm("steps:GAN", "one GAN, all its snapshots", _steps, _is_gan),
    StrategyForm(
        "random:K", "K random members, three draws (random:5x10: ten)", _random, _size_and_draws
    ),
    StrategyForm(
        "selected[:RULE]", "G* with its weights, or another rule's choice", _selected, _is_rule
    ),
    StrategyForm("front:K", "K ensembles spread evenly along the front", _front, _whole("K")),
    StrategyForm("by-intra[:all]", "G*, or the pool, weighted by Intra-d", _by_intra, _is_group),
    StrategyForm("dynamic[:all]", "G*, or the pool, with weights that adapt", _dynamic, _is_group),
    StrategyForm(
        "real+synthetic[:N]",
        "the real split and as many (N times as many) images of G*",
        _real_and_selected,
        _whole("N"),
    ),
    StrategyForm("real+all", "the real split and as many images of the pool", _beside_real(_all)),
    StrategyForm(
        "real+best-single",
        "the real split and as many images of the best single member",
        _beside_real(_best_single),
    ),
    StrategyForm(
        "real+random:K",
        "the real split and as many images of K random members",
        _beside_real(_random),
        _size_and_draws,
    ),
    StrategyForm(
        "real+augment[:N]",
        "the real split and as many (N times as many) shifted, turned and scaled copies",
        _real_augmented,
        _whole("N"),
    ),
)
"""The forms that ensgan brings, in the order help texts list them."""
