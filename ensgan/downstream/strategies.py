"""Names of strategies to their members."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ensgan.downstream.strategy import Strategy
from ensgan.downstream.weighting import intra_d_weights
from ensgan.errors import InputError, unknown_name
from ensgan.types import Front, FrontPoint, PoolScores, Selection, gan_of, step_of

RANDOM_DRAWS = 3


@dataclass(frozen=True)
class _Context:
    """What a name is resolved against."""

    scores: PoolScores
    front: Front
    selection: Selection
    seed: int

    @property
    def best_single(self) -> str:
        return self.scores.names[int(np.argmax(self.scores.intra_d))]


@dataclass(frozen=True)
class _Form:
    """One way of writing a strategy: ``head`` or ``head:argument``."""

    written: str
    build: Callable[[str, str, _Context], list[Strategy]]
    argument: str = "none"

    @property
    def head(self) -> str:
        return self.written.partition(":")[0].partition("[")[0]


def strategy_names() -> tuple[str, ...]:
    """The forms a strategy may be written in: its head, a colon and an argument where it has one.

    ``single:NAME``, ``steps:GAN``, ``random:K``, ``front:K``, ``selected:RULE``,
    ``real+synthetic:N``, ``dynamic:all``, ``by-intra:all``; see :func:`build_strategies`.
    """
    return tuple(dict.fromkeys(form.written for form in _FORMS.values()))


def build_strategies(
    names: Sequence[str],
    *,
    scores: PoolScores,
    front: Front,
    selection: Selection,
    seed: int,
) -> tuple[Strategy, ...]:
    """Resolve names to strategies.

    ==================  ===========================================================
    ``real``            the real training split (upper bound)
    ``best-single``     the member with the largest Intra-d
    ``single:NAME``     one member, ``GAN@STEP``
    ``all``             the whole pool
    ``last``            every GAN at its last snapshot
    ``steps:GAN``       one GAN, all its snapshots
    ``random:K``        K members drawn without replacement; three draws, ``random:KxD`` D draws
    ``selected``        G*, with its weights
    ``selected:RULE``   the choice of another selection rule
    ``front:K``         K points spread evenly along the front, each a strategy ``front:K/1``, …
    ``by-intra``        G* with weights by Intra-d; ``by-intra:all`` the whole pool
    ``real+synthetic``  the real split plus as many images of G*; ``:N`` N times as many
    ``dynamic``         G* with weights that adapt in training; ``dynamic:all`` the whole pool
    ==================  ===========================================================

    Args:
        names: the strategies wanted, in the order of the table.
        scores: the pool.
        front: the front G* was chosen from.
        selection: G*.
        seed: of the random draws.

    Raises:
        InputError: an unknown strategy, member or GAN, a bad argument, more members asked for
            than exist, or a repeated name.
    """
    repeated = sorted({name for name in names if list(names).count(name) > 1})
    if repeated:
        raise InputError(f"strategies named twice: {', '.join(repeated)}")
    context = _Context(scores, front, selection, seed)
    strategies: list[Strategy] = []
    for name in names:
        head, colon, argument = name.partition(":")
        if head not in _FORMS:
            raise InputError(unknown_name("strategy", name, strategy_names()))
        form = _FORMS[head]
        if (form.argument == "none" and colon) or (form.argument == "required" and not argument):
            raise InputError(f"strategy '{name}' is not of a known form: write {form.written}")
        strategies += form.build(name, argument, context)
    return tuple(strategies)


def check_strategies(names: Sequence[str], pool: Sequence[str]) -> None:
    """Refuse strategies that a pool with members of these names could never resolve.

    For use before anything is trained: which members will be best is not known yet, which names
    and how many there are is.

    Raises:
        InputError: as :func:`build_strategies`.
    """
    m = len(pool)
    density, square = np.ones(m), np.ones((m, m))
    scores = PoolScores(
        tuple(pool),
        density,
        density,
        np.full((m, 1), 255, np.uint8),
        square,
        square,
        k=1,
        n_real=8,
        counts=np.ones(m, np.int64),
    )
    point = FrontPoint(tuple(pool[:2]), 1.0, 1.0, 1.0, 1.0)
    front = Front((), "", 0, 1, 1, 0.0, 0.0, (point,))
    selection = Selection("", point, "")
    # A rule's own arguments (max-size:K) depend on the front that is found.
    fixed = [name for name in names if not name.startswith("selected:max-size")]
    build_strategies(fixed, scores=scores, front=front, selection=selection, seed=0)


def _real(name: str, _: str, __: _Context) -> list[Strategy]:
    return [Strategy(name, kind="real")]


def _best_single(name: str, _: str, context: _Context) -> list[Strategy]:
    return [Strategy(name, (context.best_single,))]


def _single(name: str, member: str, context: _Context) -> list[Strategy]:
    if member not in context.scores.names:
        raise InputError(unknown_name("member", member, context.scores.names))
    return [Strategy(name, (member,))]


def _all(name: str, _: str, context: _Context) -> list[Strategy]:
    return [Strategy(name, context.scores.names)]


def _snapshots(context: _Context) -> dict[str, list[str]]:
    """Members by GAN, in step order."""
    gans: dict[str, list[str]] = {}
    for member in sorted(context.scores.names, key=step_of):
        gans.setdefault(gan_of(member), []).append(member)
    return gans


def _last(name: str, _: str, context: _Context) -> list[Strategy]:
    last = {steps[-1] for steps in _snapshots(context).values()}
    return [Strategy(name, tuple(member for member in context.scores.names if member in last))]


def _steps(name: str, gan: str, context: _Context) -> list[Strategy]:
    gans = _snapshots(context)
    if gan not in gans:
        raise InputError(unknown_name("GAN", gan, gans))
    return [Strategy(name, tuple(gans[gan]))]


def _random(name: str, argument: str, context: _Context) -> list[Strategy]:
    text, times, draws_text = argument.partition("x")
    drawn = not times or (draws_text.isdecimal() and int(draws_text) >= 1)
    if not text.isdecimal() or int(text) < 1 or not drawn:
        raise InputError(
            f"strategy '{name}': write random:K with a number of members, e.g. random:5, or "
            "random:5x10 for ten draws"
        )
    size, draws = int(text), int(draws_text) if times else RANDOM_DRAWS
    pool = context.scores.names
    if size > len(pool):
        raise InputError(f"strategy '{name}' asks for {size} members, but the pool has {len(pool)}")
    strategies = []
    for draw in range(draws):
        rng = np.random.default_rng([context.seed, size, draw])
        chosen = np.sort(rng.choice(len(pool), size, replace=False))
        strategies.append(Strategy(f"{name}#{draw}", tuple(pool[index] for index in chosen)))
    return strategies


def _selected(name: str, rule: str, context: _Context) -> list[Strategy]:
    point = context.selection.point
    if rule and rule != context.selection.rule:
        # Late: only this form needs the search package.
        from ensgan.search import select

        if rule == "downstream":
            raise InputError(
                f"strategy '{name}': the rule 'downstream' needs the validation scores of this "
                "very evaluation; select with it first, then evaluate 'selected'"
            )
        point = select(context.front, rule).point
    return [Strategy(name, point.members, point.weights)]


def _front(name: str, count: str, context: _Context) -> list[Strategy]:
    if not count.isdecimal() or int(count) < 1:
        raise InputError(f"strategy '{name}': write front:K with a number of points, e.g. front:8")
    points = spread_points(context.front, int(count))
    return [
        Strategy(f"{name}/{index + 1}", point.members, point.weights)
        for index, point in enumerate(points)
    ]


def spread_points(front: Front, most: int) -> tuple[FrontPoint, ...]:
    """At most ``most`` points of a front, evenly spread by their order, both ends among them."""
    if most >= len(front):
        return front.points
    chosen = np.unique(np.linspace(0, len(front) - 1, most).round().astype(int))
    return tuple(front.points[index] for index in chosen)


def _members(name: str, which: str, context: _Context) -> FrontPoint | tuple[str, ...]:
    if which in ("", "selected"):
        return context.selection.point
    if which == "all":
        return context.scores.names
    raise InputError(f"strategy '{name}': after the colon stands 'all' or 'selected'")


def _by_intra(name: str, which: str, context: _Context) -> list[Strategy]:
    found = _members(name, which, context)
    members = found.members if isinstance(found, FrontPoint) else found
    return [Strategy(name, members, intra_d_weights(name, members, context.scores))]


def _dynamic(name: str, which: str, context: _Context) -> list[Strategy]:
    found = _members(name, which, context)
    if isinstance(found, FrontPoint):
        return [Strategy(name, found.members, found.weights, kind="dynamic")]
    return [Strategy(name, found, kind="dynamic")]


def _augmented(name: str, times: str, context: _Context) -> list[Strategy]:
    if times and (not times.isdecimal() or int(times) < 1):
        raise InputError(f"strategy '{name}': after the colon stands a whole number, 1 or more")
    point = context.selection.point
    return [
        Strategy(name, point.members, point.weights, kind="real+synthetic", n_times=int(times or 1))
    ]


def _table(*forms: _Form) -> dict[str, _Form]:
    table = {form.head: form for form in forms}
    if len(table) != len(forms):
        raise InputError("two strategies have the same head")
    return table


_FORMS = _table(
    _Form("real", _real),
    _Form("best-single", _best_single),
    _Form("single:NAME", _single, "required"),
    _Form("all", _all),
    _Form("last", _last),
    _Form("steps:GAN", _steps, "required"),
    _Form("random:K", _random, "required"),
    _Form("selected", _selected, "optional"),
    _Form("front:K", _front, "required"),
    _Form("by-intra", _by_intra, "optional"),
    _Form("real+synthetic", _augmented, "optional"),
    _Form("dynamic", _dynamic, "optional"),
)
