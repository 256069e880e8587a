"""Names of strategies to their members."""

from __future__ import annotations

from collections.abc import Sequence

from ensgan.downstream.strategy import Strategy
from ensgan.downstream.strategy_forms import FORMS, StrategyContext, StrategyForm
from ensgan.errors import InputError
from ensgan.registry import Registry
from ensgan.types import Front, PoolScores, Selection

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
    repeated = sorted({name for name in names if list(names).count(name) > 1})
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


def build_strategies(
    names: Sequence[str],
    *,
    scores: PoolScores,
    front: Front,
    selection: Selection,
    seed: int,
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
