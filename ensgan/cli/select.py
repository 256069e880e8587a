"""``ensgan select``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ensgan.cli.front_files import check_pictures, write_pictures
from ensgan.cli.output import JsonOption, emit, note, progress
from ensgan.cli.select_options import (
    BesideOption,
    BootstrapOption,
    ChoicePlotOption,
    MembershipCostsOption,
    MembershipOption,
    OtherOption,
    PoolOption,
    RuleOption,
    WeightsOption,
)
from ensgan.cli.select_table import selection_table

if TYPE_CHECKING:
    from ensgan.types import Front, FrontPoint, PoolScores, Selection


def select(
    front: Annotated[Path, typer.Argument(help="front.json, as 'ensgan search' writes it")],
    rule: RuleOption = "knee",
    scores: PoolOption = None,
    bootstrap: BootstrapOption = None,
    other: OtherOption = None,
    membership: MembershipOption = None,
    costs: MembershipCostsOption = None,
    beside: BesideOption = None,
    weights: WeightsOption = None,
    plot: ChoicePlotOption = None,
    as_json: JsonOption = False,
) -> None:
    """Choose one ensemble from a front and say why.

    Example: ensgan select front.json --rule knee
    """
    from ensgan.search import select as choose
    from ensgan.types import Front, PoolScores

    check_pictures(plot or (), None)
    pool = None if scores is None else PoolScores.load(scores)
    whole = Front.load(front)
    selection = choose(whole, rule, pool=pool)
    value: dict[str, Any] = {
        "rule": selection.rule,
        "reason": selection.reason,
        **selection.point.to_json(),
        "alternatives": [point.to_json() for point in selection.alternatives],
        **_in_pool(whole, selection, pool, bootstrap, membership, costs, weights),
    }
    if other is not None:
        value["other_scores"] = _under(whole, selection.point, pool, other).to_json()
    if beside:
        value["side_by_side"] = _side_by_side(whole, str(front), beside)
    write_pictures(whole, plot or (), None, selection.point)
    emit(value, as_json=as_json, table=lambda: selection_table(whole, selection, value))


def _in_pool(
    front: Front,
    selection: Selection,
    pool: PoolScores | None,
    rounds: int | None,
    searches: int | None,
    costs: Path | None,
    floor: float | None,
) -> dict[str, Any]:
    """What the scores of the front's own pool tell beyond the front, as far as it was asked for."""
    from ensgan.errors import InputError
    from ensgan.search import Evaluator, inter_form, optimise_weights

    if costs is not None and (searches is None or front.third in (None, "members")):
        raise InputError(
            "--costs goes with --membership of a front whose third objective sums costs: leave it "
            "out"
        )
    if pool is None:
        if any(each is not None for each in (rounds, searches, floor)):
            raise InputError(
                "--bootstrap, --membership and --weights need the scores: add --scores scores.npz"
            )
        return {}
    found: dict[str, Any] = {}
    if rounds is not None:
        found["bootstrap"] = _bootstrap(front, selection, pool, rounds)
    if searches is not None:
        found["membership"] = _membership(front, pool, searches, costs)
    if floor is not None:
        evaluator = Evaluator(pool, inter=inter_form(front))
        found["weighted"] = optimise_weights(evaluator, selection.point, floor).to_json()
    return found


def _bootstrap(front: Front, selection: Selection, pool: PoolScores, rounds: int) -> dict[str, Any]:
    """Intervals of the chosen point, and of every point in front order."""
    from ensgan.search import bootstrap

    confidence = bootstrap(front, pool, rounds=rounds)
    if confidence.inter_d is None:
        note(
            "these scores hold no resamples of the images: only the real points were drawn again; "
            "'ensgan score --resamples 200' gives intervals of both objectives"
        )
    place = front.points.index(selection.point)
    bounds = {
        name: [[each.low, each.high] for each in intervals]
        for name, intervals in (
            ("intra_d", confidence.intra_d),
            ("inter_d", confidence.inter_d),
            ("coverage", confidence.coverage),
        )
        if intervals is not None
    }
    return {
        "rounds": confidence.rounds,
        "level": confidence.level,
        "covers": list(confidence.covers),
        **{name: each[place] for name, each in bounds.items()},
        "points": bounds,
    }


def _membership(
    front: Front, pool: PoolScores, searches: int, costs: Path | None
) -> dict[str, float]:
    """Share of the resamples with each member on the front, the most frequent first."""
    from ensgan.cli.search_inputs import read_costs
    from ensgan.errors import InputError
    from ensgan.search import bootstrap

    if searches < 1:
        raise InputError(f"--membership {searches}: at least 1 resample")
    prices = read_costs(costs)
    if prices is None and front.third not in (None, "members"):
        raise InputError(
            f"--membership searches again, and the front's third objective is {front.third}: add "
            "the cost of every member with --costs costs.json"
        )
    with progress("searching resamples") as report:
        found = bootstrap(
            front, pool, rounds=1, searches=searches, costs=prices, on_progress=report
        ).membership
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def _under(front: Front, point: FrontPoint, pool: PoolScores | None, other: Path) -> FrontPoint:
    """The chosen ensemble under other scores."""
    from ensgan.search import check_comparable, rescore
    from ensgan.types import PoolScores

    elsewhere = PoolScores.load(other)
    if pool is not None:
        check_comparable([pool, elsewhere], besides=("n_real", "extractor"))
    return rescore(replace(front, points=(point,)), elsewhere)[0]


def _side_by_side(front: Front, name: str, others: Sequence[Path]) -> dict[str, Any]:
    """Every front's share of points that hold each member."""
    from ensgan.search import shared_members
    from ensgan.types import Front

    fronts = [front, *(Front.load(path) for path in others)]
    return {
        "fronts": [name, *map(str, others)],
        "points": [len(each) for each in fronts],
        "hypervolume": [each.hypervolume for each in fronts],
        "members": {member: list(row) for member, row in shared_members(fronts).items()},
    }
