"""``ensgan search`` and ``ensgan select``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ensgan.cli.output import JsonOption, emit, note, progress, warn

if TYPE_CHECKING:
    from rich.table import Table

    from ensgan.search import Budget
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
    as_json: JsonOption = False,
) -> None:
    """Search the Pareto front of a scored pool. Ctrl-C ends it and keeps the front found so far.

    Example: ensgan search scores.npz --sampler pareto-local --seconds 2 --seed 0 -o front.json
    """
    from ensgan.search import SearchInterrupted
    from ensgan.search import search as run_search
    from ensgan.types import Front, PoolScores

    pool = PoolScores.load(scores)
    limit = _budget(budget, costs)
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
    weights: Annotated[
        float | None,
        typer.Option(help="optimise member weights, none below this part of 1/n (needs --scores)"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Choose one ensemble from a front and say why.

    Example: ensgan select front.json --rule knee
    """
    from ensgan.errors import InputError
    from ensgan.search import select as choose
    from ensgan.types import Front, PoolScores

    pool = None if scores is None else PoolScores.load(scores)
    selection = choose(Front.load(front), rule, pool=pool)
    value: dict[str, Any] = {
        "rule": selection.rule,
        "reason": selection.reason,
        **selection.point.to_json(),
        "alternatives": [point.to_json() for point in selection.alternatives],
    }
    if pool is None and (bootstrap is not None or weights is not None):
        raise InputError("--bootstrap and --weights need the scores: add --scores scores.npz")
    chosen = replace(Front.load(front), points=(selection.point,))
    if pool is not None and bootstrap is not None:
        value["bootstrap"] = _bootstrap(chosen, pool, bootstrap)
    if pool is not None and weights is not None:
        from ensgan.search import Evaluator, optimise_weights

        weighted = optimise_weights(Evaluator(pool), selection.point, weights)
        value["weighted"] = weighted.to_json()
    if other is not None:
        from ensgan.search import rescore

        value["other_scores"] = rescore(chosen, PoolScores.load(other))[0].to_json()
    emit(value, as_json=as_json, table=lambda: _selection_table(selection, value))


def _budget(limit: float | None, costs: Path | None) -> Budget | None:
    from ensgan.errors import InputError
    from ensgan.files import read_json
    from ensgan.search import Budget

    if limit is None and costs is None:
        return None
    if limit is None or costs is None:
        raise InputError("--budget and --costs go together: give both")
    table = read_json(costs)
    if not isinstance(table, dict) or not all(
        isinstance(cost, int | float) and not isinstance(cost, bool) for cost in table.values()
    ):
        raise InputError(f"{costs} must be one JSON object of numbers by member name")
    return Budget({str(name): float(cost) for name, cost in table.items()}, limit, "cost")


def _bootstrap(chosen: Front, pool: PoolScores, rounds: int) -> dict[str, Any]:
    from ensgan.search import bootstrap

    confidence = bootstrap(chosen, pool, rounds=rounds)
    return {
        "rounds": rounds,
        "level": confidence.level,
        "intra_d": [confidence.intra_d[0].low, confidence.intra_d[0].high],
        "coverage": [confidence.coverage[0].low, confidence.coverage[0].high],
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
    return table
