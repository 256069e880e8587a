"""``ensgan select``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from ensgan.cli.output import FittingTable, ForceOption, JsonOption, emit, note, progress, warn
from ensgan.cli.search import claim, read_costs, write_pictures
from ensgan.errors import InputError
from ensgan.search import api
from ensgan.sweep.planning.sweep_file import name_of_variant
from ensgan.types import Front, FrontPoint, PoolScores, Selection

RULE_HELP = " or ".join(rule.written for rule in api.RULES if not rule.needs_validation)
RULE_HELP += ", or FILE.py:NAME of your own"


def select(
    front: Annotated[Path, typer.Argument(help="front.json, as 'ensgan search' writes it")],
    rule: Annotated[
        str,
        typer.Option(help=RULE_HELP),
    ] = "knee",
    scores: Annotated[
        Path | None, typer.Option(help="scores.npz the front must be of; refuses another pool's")
    ] = None,
    rounds: Annotated[
        int | None,
        typer.Option(
            "--bootstrap",
            help="resamples for intervals (needs --scores; both objectives where the scores hold "
            "resamples, else the real points alone)",
        ),
    ] = None,
    other: Annotated[
        Path | None,
        typer.Option(help="scores.npz of held-out real data or another embedding: score again"),
    ] = None,
    membership: Annotated[
        int | None,
        typer.Option(
            min=1, help="resamples to search again: how often is each member on the front?"
        ),
    ] = None,
    costs: Annotated[
        Path | None,
        typer.Option(help="with --membership: costs.json of a third objective that sums costs"),
    ] = None,
    beside: Annotated[
        list[Path] | None,
        typer.Option(help="another front (of another embedding, say) to compare; repeat for more"),
    ] = None,
    weights: Annotated[
        float | None,
        typer.Option(help="optimise member weights, none below this part of 1/n (needs --scores)"),
    ] = None,
    plot: Annotated[
        list[Path] | None, typer.Option(help="draw the front with the choice: FILE.html or .png")
    ] = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Choose one ensemble from a front and say why.

    Example: ensgan select front.json --rule knee
    """
    claim(plots=plot or (), inputs=(front, scores, other, costs, *(beside or ())), force=force)
    pool = None if scores is None else PoolScores.load(scores)
    whole = Front.load(front)
    selection = api.select(whole, name_of_variant(rule, api.RULES), pool=pool)
    value: dict[str, Any] = {
        "rule": selection.rule,
        "reason": selection.reason,
        **selection.point.to_json(),
        "alternatives": [point.to_json() for point in selection.alternatives],
        **_in_pool(whole, selection, pool, rounds, membership, costs, weights),
    }
    if pool is not None:
        value["cautions"] = list(api.cautions(selection.point, api.member_intra_d(pool)))
    for caution in value.get("cautions", ()):
        warn(caution)
    if other is not None:
        value["other_scores"] = _under(whole, selection.point, pool, other).to_json()
    if beside:
        value["side_by_side"] = _side_by_side(whole, str(front), beside)
    write_pictures(whole, plot or (), None, selection.point)
    emit(value, as_json=as_json, table=lambda: _selection_table(whole, selection, value))


def _in_pool(
    front: Front,
    selection: Selection,
    pool: PoolScores | None,
    rounds: int | None,
    searches: int | None,
    costs: Path | None,
    floor: float | None,
) -> dict[str, Any]:
    """Results that need the scores of the front's pool, as far as they were asked for."""
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
    told: dict[str, Any] = {}
    if rounds is not None:
        told["bootstrap"] = _bootstrap(front, selection, pool, rounds)
    if searches is not None:
        told["membership"] = _membership(front, pool, searches, costs)
    if floor is not None:
        evaluator = api.evaluator_of(front, pool)
        told["weighted"] = api.optimise_weights(evaluator, selection.point, floor).to_json()
    return told


def _bootstrap(front: Front, selection: Selection, pool: PoolScores, rounds: int) -> dict[str, Any]:
    """Intervals of the chosen point, and of every point in front order."""
    confidence = api.bootstrap(front, pool, rounds=rounds)
    if confidence.second is None:
        note(
            "these scores hold no resamples of the images: only the real points were drawn again; "
            "'ensgan score --resamples 200' gives intervals of both objectives"
        )
    place = front.points.index(selection.point)
    first, second = selection.point.value_keys
    bounds = {
        name: [[each.low, each.high] for each in intervals]
        for name, intervals in (
            (first, confidence.first),
            (second, confidence.second),
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
    prices = read_costs(costs)
    if prices is None and front.third not in (None, "members"):
        raise InputError(
            f"--membership searches again, and the front's third objective is {front.third}: add "
            "the cost of every member with --costs costs.json"
        )
    with progress("searching resamples") as report:
        shares = api.bootstrap(
            front, pool, rounds=1, searches=searches, costs=prices, on_progress=report
        ).membership
    return dict(sorted(shares.items(), key=lambda item: (-item[1], item[0])))


def _under(front: Front, point: FrontPoint, pool: PoolScores | None, other: Path) -> FrontPoint:
    """The chosen ensemble under other scores."""
    elsewhere = PoolScores.load(other)
    if pool is not None:
        api.check_comparable(pool, elsewhere)
    return api.rescore(replace(front, points=(point,)), elsewhere)[0]


def _side_by_side(front: Front, name: str, others: Sequence[Path]) -> dict[str, Any]:
    """Every front's share of points that hold each member."""
    fronts = [front, *(Front.load(path) for path in others)]
    return {
        "fronts": [name, *map(str, others)],
        "points": [len(each) for each in fronts],
        "hypervolume": [each.hypervolume for each in fronts],
        "members": {member: list(row) for member, row in api.shared_members(fronts).items()},
    }


def _selection_table(front: Front, selection: Selection, value: Mapping[str, Any]) -> FittingTable:
    """The choice, its alternatives and whatever else was asked for."""
    axes, keys = [axis.name for axis in front.axes], selection.point.value_keys
    title, spare = selection.reason, axes[:1:-1]
    table = FittingTable("", *axes, "members", title=title, spare=spare, wraps=("", "members"))

    def add(label: str, first: str, second: str, text: str) -> None:
        table.add_row(label, first, second, *[""] * (len(axes) - 2), text)

    rows = [("chosen", selection.point), *(("alternative", p) for p in selection.alternatives)]
    for label, point in rows:
        cells = front.cells(point)
        table.add_row(label, *(cells[name] for name in axes), ", ".join(point.members))
    if "bootstrap" in value:
        intervals = value["bootstrap"]
        first, second = (_interval(intervals.get(name)) for name in keys)
        drawn = " and ".join(intervals["covers"])
        add(f"{intervals['level']:.0%} of resamples", first, second, f"{drawn} resampled")
    for label, key in (("weighted", "weighted"), ("other scores", "other_scores")):
        if key in value:
            point = value[key]
            shares = ", ".join(f"{weight:.3f}" for weight in point.get("weights", ()))
            first, second = (f"{point[key]:.4f}" for key in keys)
            add(label, first, second, shares)
    if "membership" in value:
        for name in selection.point.members:
            share = value["membership"][name]
            add("membership", f"{share:.0%}", "", f"{name}: resamples with it on a front")
    for name, shares in value.get("side_by_side", {}).get("members", {}).items():
        numbers = ", ".join(f"{share:.0%}" for share in shares)
        add("side by side", "", "", f"{name}: on {numbers} of each front's points")
    return table


def _interval(bounds: Sequence[float] | None) -> str:
    return "" if bounds is None else f"{bounds[0]:.4f}–{bounds[1]:.4f}"
