"""``ensgan search`` and ``ensgan select``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ensgan.cli.front_files import check_pictures, write_pictures
from ensgan.cli.output import JsonOption, emit, note, progress, warn

if TYPE_CHECKING:
    from rich.table import Table

    from ensgan.types import Front, PoolScores, Selection

_INTERRUPTED = 130


def search(
    scores: Annotated[Path, typer.Argument(help="scores.npz, as 'ensgan score' writes it")],
    output: Annotated[Path, typer.Option("--output", "-o", help="front file to write")] = Path(
        "front.json"
    ),
    sampler: Annotated[
        str,
        typer.Option(
            help="pareto-local, exhaustive, ensemble, nsga2, nsga3, tpe, gp, random or pymoo"
        ),
    ] = "pareto-local",
    trials: Annotated[int | None, typer.Option(help="budget in evaluations")] = None,
    seconds: Annotated[float | None, typer.Option(help="budget in wall time")] = None,
    seed: Annotated[int, typer.Option(help="random seed")] = 0,
    inter: Annotated[str, typer.Option(help="Inter-d: symmetric or directed")] = "symmetric",
    min_size: Annotated[int, typer.Option(help="fewest members")] = 2,
    max_size: Annotated[int | None, typer.Option(help="most members")] = None,
    include: Annotated[
        list[str] | None, typer.Option(help="member or glob that must be in; repeat for more")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="member or glob to leave out; repeat for more")
    ] = None,
    max_per_gan: Annotated[int | None, typer.Option(help="most snapshots of one GAN")] = None,
    budget: Annotated[
        float | None, typer.Option(help="largest summed cost of the members (needs --costs)")
    ] = None,
    costs: Annotated[
        Path | None, typer.Option(help="JSON file: cost of every member by name")
    ] = None,
    warm_start: Annotated[
        bool, typer.Option("--warm-start", help="enqueue pareto-local's solutions first")
    ] = False,
    resume: Annotated[
        Path | None, typer.Option(help="front file to go on from (same pool)")
    ] = None,
    storage: Annotated[
        str | None, typer.Option(help="Optuna storage: sqlite:///FILE, or a journal file")
    ] = None,
    record: Annotated[Path | None, typer.Option(help="write the trials to this CSV file")] = None,
    objectives: Annotated[
        str, typer.Option(help="density-coverage, precision-recall or frechet")
    ] = "density-coverage",
    features: Annotated[
        Path | None, typer.Option(help="features that were scored, for the other objectives")
    ] = None,
    components: Annotated[
        int, typer.Option(help="frechet: principal directions of the real features")
    ] = 32,
    third: Annotated[
        str | None, typer.Option(help="third objective: members, or cost (needs --costs)")
    ] = None,
    plot: Annotated[
        list[Path] | None, typer.Option(help="draw the front: FILE.html or .png; repeat for both")
    ] = None,
    heat_map: Annotated[
        Path | None, typer.Option(help="draw which members are on the front: FILE.png")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Search the Pareto front of a scored pool. Ctrl-C ends it and keeps the front found so far.

    Example: ensgan search scores.npz --sampler pareto-local --seconds 2 --seed 0 -o front.json
    """
    from ensgan.cli.search_inputs import make_budget, make_objectives, read_costs
    from ensgan.search import SearchInterrupted
    from ensgan.search import search as run_search
    from ensgan.types import Front, PoolScores

    check_pictures(plot or (), heat_map)
    pool = PoolScores.load(scores)
    prices = read_costs(costs)
    limit = make_budget(budget, prices, third)
    tables = make_objectives(objectives, pool, features, components)
    earlier = None if resume is None else Front.load(resume)
    interrupted = False
    try:
        with progress(sampler) as report:
            front = run_search(
                pool,
                sampler=sampler,
                trials=trials,
                seconds=seconds,
                seed=seed,
                inter=inter,
                objectives=tables,
                third=third,
                costs=prices,
                min_size=min_size,
                max_size=max_size,
                include=include or (),
                exclude=exclude or (),
                max_per_gan=max_per_gan,
                budget=limit,
                warm_start=warm_start,
                resume=earlier,
                study_storage=storage,
                record=record,
                on_progress=report,
            )
    except SearchInterrupted as stopped:
        front, interrupted = stopped.front, True
    if len(front):
        front.save(output)
        write_pictures(front, plot or (), heat_map)
        emit(front.to_json(), as_json=as_json, table=lambda: _front_table(front))
        note(f"front written to {output}")
    if interrupted:
        warn(f"interrupted after {front.trials} trials: {len(front)} points found so far")
        raise typer.Exit(_INTERRUPTED)


def select(
    front: Annotated[Path, typer.Argument(help="front.json, as 'ensgan search' writes it")],
    rule: Annotated[
        str, typer.Option(help="knee, ratio, utopia, max-intra, min-inter or max-size:K")
    ] = "knee",
    scores: Annotated[
        Path | None, typer.Option(help="scores.npz the front must be of; refuses another pool's")
    ] = None,
    bootstrap: Annotated[
        int | None, typer.Option(help="resamples of the real points for intervals (needs --scores)")
    ] = None,
    other: Annotated[
        Path | None,
        typer.Option(help="scores.npz of held-out real data or another embedding: score again"),
    ] = None,
    membership: Annotated[
        int | None,
        typer.Option(help="resamples to search again: how often is each member on the front?"),
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
    as_json: JsonOption = False,
) -> None:
    """Choose one ensemble from a front and say why.

    Example: ensgan select front.json --rule knee
    """
    from ensgan.errors import InputError
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
    }
    asked = (bootstrap, membership, weights)
    if pool is None and any(each is not None for each in asked):
        raise InputError(
            "--bootstrap, --membership and --weights need the scores: add --scores scores.npz"
        )
    chosen = replace(whole, points=(selection.point,))
    if pool is not None and bootstrap is not None:
        value["bootstrap"] = _bootstrap(whole, selection, pool, bootstrap)
    if pool is not None and membership is not None:
        value["membership"] = _membership(whole, pool, membership)
    if pool is not None and weights is not None:
        from ensgan.search import Evaluator, inter_form, optimise_weights

        evaluator = Evaluator(pool, inter=inter_form(whole))
        weighted = optimise_weights(evaluator, selection.point, weights)
        value["weighted"] = weighted.to_json()
    if other is not None:
        from ensgan.search import check_comparable, rescore

        elsewhere = PoolScores.load(other)
        if pool is not None:
            check_comparable([pool, elsewhere], besides=("n_real", "extractor"))
        value["other_scores"] = rescore(chosen, elsewhere)[0].to_json()
    if beside:
        value["side_by_side"] = _side_by_side(whole, str(front), beside)
    write_pictures(whole, plot or (), None, selection.point)
    emit(value, as_json=as_json, table=lambda: _selection_table(selection, value))


def _bootstrap(front: Front, selection: Selection, pool: PoolScores, rounds: int) -> dict[str, Any]:
    """Intervals of the chosen point, and of every point in front order."""
    from ensgan.search import bootstrap

    confidence = bootstrap(front, pool, rounds=rounds)
    place = front.points.index(selection.point)
    bounds = {
        "intra_d": [[each.low, each.high] for each in confidence.intra_d],
        "coverage": [[each.low, each.high] for each in confidence.coverage],
    }
    return {
        "rounds": rounds,
        "level": confidence.level,
        **{name: each[place] for name, each in bounds.items()},
        "points": bounds,
    }


def _membership(front: Front, pool: PoolScores, searches: int) -> dict[str, float]:
    """Share of the resamples with each member on the front, the most frequent first."""
    from ensgan.errors import InputError
    from ensgan.search import bootstrap

    if searches < 1:
        raise InputError(f"--membership {searches}: at least 1 resample")
    with progress("searching resamples") as report:
        found = bootstrap(front, pool, rounds=1, searches=searches, on_progress=report).membership
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


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


def _front_table(front: Front) -> Table:
    from rich.table import Table

    table = Table(
        title=f"{len(front)} points, hypervolume {front.hypervolume:.5f}, "
        f"{front.trials} evaluations of {front.distinct} subsets in {front.seconds:.2f} s"
    )
    for column in ("Intra-d", "Inter-d", "density", "coverage", "members"):
        table.add_column(column)
    for point in front:
        numbers = (point.intra_d, point.inter_d, point.density, point.coverage)
        table.add_row(*(f"{number:.4f}" for number in numbers), ", ".join(point.members))
    return table


def _selection_table(selection: Selection, value: Mapping[str, Any]) -> Table:
    from rich.table import Table

    table = Table(title=selection.reason, title_justify="left")
    for column in ("", "Intra-d", "Inter-d", "members"):
        table.add_column(column)
    rows = [("chosen", selection.point), *(("alternative", p) for p in selection.alternatives)]
    for label, point in rows:
        table.add_row(
            label, f"{point.intra_d:.4f}", f"{point.inter_d:.4f}", ", ".join(point.members)
        )
    if "bootstrap" in value:
        low, high = value["bootstrap"]["intra_d"]
        table.add_row("95 % of resamples", f"{low:.4f}–{high:.4f}", "", "real points resampled")
    for label, key in (("weighted", "weighted"), ("other scores", "other_scores")):
        if key in value:
            point = value[key]
            shares = ", ".join(f"{weight:.3f}" for weight in point.get("weights", ()))
            table.add_row(label, f"{point['intra_d']:.4f}", f"{point['inter_d']:.4f}", shares)
    if "membership" in value:
        for name in selection.point.members:
            share = value["membership"][name]
            table.add_row("membership", f"{share:.0%}", "", f"{name}: resamples with it on a front")
    for name, shares in value.get("side_by_side", {}).get("members", {}).items():
        numbers = ", ".join(f"{share:.0%}" for share in shares)
        table.add_row("side by side", "", "", f"{name}: on {numbers} of each front's points")
    return table
