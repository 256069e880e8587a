"""The forms a strategy may be written in, and names of strategies to their members."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ensgan.downstream.strategy import (
    Check,
    Kind,
    Resolve,
    Strategy,
    StrategyContext,
    StrategyForm,
    snapshots,
    spread_points,
    weighted_by_intra_d,
)
from ensgan.errors import InputError, unknown_name
from ensgan.registry import Registry
from ensgan.types import Front, PoolScores, Selection

RANDOM_DRAWS = 3


def _whole(letter: str) -> Check:
    """Behind the colon stands a whole number, or nothing where it may be left out."""

    def check(name: str, argument: str, _: Sequence[str]) -> None:
        if argument and not re.fullmatch(r"0*[1-9]\d*", argument):
            head = name.partition(":")[0]
            raise InputError(
                f"strategy '{name}': write {head}:{letter} with a whole number, 1 or more, e.g. "
                f"{head}:5"
            )

    return check


def _is_member(_: str, member: str, pool: Sequence[str]) -> None:
    if member not in pool:
        raise InputError(unknown_name("member", member, pool))


def _is_gan(_: str, gan: str, pool: Sequence[str]) -> None:
    if gan not in snapshots(pool):
        raise InputError(unknown_name("GAN", gan, snapshots(pool)))


def _size_and_draws(name: str, argument: str, pool: Sequence[str]) -> tuple[int, int]:
    """``5`` → (5, 3), ``5x10`` → (5, 10)."""
    head = name.partition(":")[0]
    match = re.fullmatch(r"0*([1-9]\d*)(?:x0*([1-9]\d*))?", argument)
    if match is None:
        raise InputError(
            f"strategy '{name}': write {head}:K with a number of members, e.g. {head}:5, or "
            f"{head}:5x10 for ten draws"
        )
    size, draws = int(match[1]), int(match[2] or RANDOM_DRAWS)
    if size > len(pool):
        raise InputError(f"strategy '{name}' asks for {size} members, but the pool has {len(pool)}")
    return size, draws


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


def _is_group(name: str, which: str, _: Sequence[str]) -> None:
    if which not in ("", "selected", "all"):
        raise InputError(f"strategy '{name}': after the colon stands 'all' or 'selected'")


def _real(kind: Kind) -> Resolve:
    """Real images, or them and changed copies; N times as many steps, or copies."""
    return lambda name, times, _: [Strategy(name, kind=kind, n_times=int(times or 1))]


def _best_single(name: str, _: str, context: StrategyContext) -> list[Strategy]:
    """The member with the largest Intra-d, in the form of the front."""
    scores, is_capped = context.scores, context.front.form == "capped"
    best = int(np.argmax(scores.capped_intra_d if is_capped else scores.intra_d))
    return [Strategy(name, (context.scores.names[best],))]


def _single(name: str, member: str, _: StrategyContext) -> list[Strategy]:
    return [Strategy(name, (member,))]


def _all(name: str, _: str, context: StrategyContext) -> list[Strategy]:
    return [Strategy(name, context.scores.names)]


def _last(name: str, _: str, context: StrategyContext) -> list[Strategy]:
    """Every GAN at its last snapshot."""
    last = {steps[-1] for steps in snapshots(context.scores.names).values()}
    return [Strategy(name, tuple(member for member in context.scores.names if member in last))]


def _steps(name: str, gan: str, context: StrategyContext) -> list[Strategy]:
    """One GAN, all its snapshots."""
    return [Strategy(name, tuple(snapshots(context.scores.names)[gan]))]


def _random(name: str, argument: str, context: StrategyContext) -> list[Strategy]:
    """K random members in several draws, each a strategy of its own."""
    pool = context.scores.names
    size, draws = _size_and_draws(name, argument, pool)
    strategies = []
    for draw in range(draws):
        # Of the size and the draw alone: random:5 and real+random:5 draw the same members.
        rng = np.random.default_rng([context.seed, size, draw])
        chosen = np.sort(rng.choice(len(pool), size, replace=False))
        strategies.append(Strategy(f"{name}#{draw}", tuple(pool[index] for index in chosen)))
    return strategies


def _selected(name: str, rule: str, context: StrategyContext) -> list[Strategy]:
    """G* with its weights, or another rule's choice from the same front."""
    point = context.selection.point
    if rule and rule != context.selection.rule:
        from ensgan.search import select

        point = select(context.front, rule).point
    return [Strategy(name, point.members, point.weights)]


def _front(name: str, count: str, context: StrategyContext) -> list[Strategy]:
    """K ensembles spread evenly along the front."""
    points = spread_points(context.front, int(count))
    return [
        Strategy(f"{name}/{index + 1}", point.members, point.weights)
        for index, point in enumerate(points)
    ]


def _by_intra(name: str, which: str, context: StrategyContext) -> list[Strategy]:
    (group,) = (_all if which == "all" else _selected)(name, "", context)
    return [weighted_by_intra_d(group, context.scores)]


def _real_and_selected(name: str, times: str, context: StrategyContext) -> list[Strategy]:
    (chosen,) = _beside_real(_selected)(name, "", context)
    return [replace(chosen, n_times=int(times or 1))]


def _beside_real(resolve: Resolve) -> Resolve:
    """The same members as another form, their images beside the real ones."""
    return lambda name, argument, context: [
        replace(alone, kind="real+synthetic") for alone in resolve(name, argument, context)
    ]


FORMS = (
    StrategyForm("real[:N]", _real("real"), _whole("N")),
    StrategyForm("best-single", _best_single),
    StrategyForm("single:NAME", _single, _is_member),
    StrategyForm("all", _all),
    StrategyForm("last", _last),
    StrategyForm("steps:GAN", _steps, _is_gan),
    StrategyForm("random:K", _random, _size_and_draws),
    StrategyForm("selected[:RULE]", _selected, _is_rule),
    StrategyForm("front:K", _front, _whole("K")),
    StrategyForm("by-intra[:all]", _by_intra, _is_group),
    # Controls of one another: twice as many images as `real` has, half of them from elsewhere.
    StrategyForm("real+synthetic[:N]", _real_and_selected, _whole("N")),
    StrategyForm("real+all", _beside_real(_all)),
    StrategyForm("real+best-single", _beside_real(_best_single)),
    StrategyForm("real+random:K", _beside_real(_random), _size_and_draws),
    StrategyForm("real+augment[:N]", _real("real+augment"), _whole("N")),
)
"""The forms that ensgan brings, in the order help texts list them; docs/downstream.md has more."""
STRATEGIES = Registry(
    "strategy", "ensgan.strategies", StrategyForm, FORMS, name_of=lambda form: form.head
)
"""The forms of strategies; packages add some through entry points of ``ensgan.strategies``."""


def check_strategies(names: Sequence[str], pool: Sequence[str]) -> None:
    """Refuse strategies that a pool with members of these names could never resolve.

    Raises:
        InputError: an unknown strategy, member, GAN or rule, a bad argument, more members asked
            for than exist, or a repeated name.
    """
    repeated = sorted(name for name, times in Counter(names).items() if times > 1)
    if repeated:
        raise InputError(f"strategies named twice: {', '.join(repeated)}")
    for name in names:
        head, colon, argument = name.partition(":")
        form = STRATEGIES.get(head)
        unwanted = bool(argument) and form.argument == "none"
        missing = not argument and (bool(colon) or form.argument == "required")
        if unwanted or missing:
            raise InputError(f"strategy '{name}' is not of a known form: write {form.written}")
        form.check(name, argument, pool)


def fits_pool(name: str, pool: Sequence[str]) -> bool:
    """Whether a pool with members of these names can resolve a strategy."""
    try:
        check_strategies([name], pool)
    except InputError:
        return False
    return True


def build_strategies(
    names: Sequence[str], *, scores: PoolScores, front: Front, selection: Selection, seed: int
) -> tuple[Strategy, ...]:
    """Resolve names to strategies; ``STRATEGIES`` holds the forms and what each means.

    Args:
        names: the strategies wanted, in the order of the table.
        scores: the pool.
        front: the front G* was chosen from.
        selection: G*.
        seed: of the random draws.

    Raises:
        InputError: as :func:`check_strategies`, or a rule that the front cannot answer.
    """
    check_strategies(names, scores.names)
    context = StrategyContext(scores, front, selection, seed)
    strategies: list[Strategy] = []
    for name in names:
        head, _, argument = name.partition(":")
        strategies += STRATEGIES.get(head).resolve(name, argument, context)
    return tuple(strategies)
