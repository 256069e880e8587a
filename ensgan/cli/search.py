"""``ensgan search`` and ``ensgan select``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ensgan.cli.output import JsonOption, emit, note, progress, warn

if TYPE_CHECKING:
    from rich.table import Table

    from ensgan.types import Front, Selection

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
    as_json: JsonOption = False,
) -> None:
    """Choose one ensemble from a front and say why.

    Example: ensgan select front.json --rule knee
    """
    from ensgan.search import select as choose
    from ensgan.types import Front, PoolScores

    pool = None if scores is None else PoolScores.load(scores)
    selection = choose(Front.load(front), rule, pool=pool)
    value = {
        "rule": selection.rule,
        "reason": selection.reason,
        **selection.point.to_json(),
        "alternatives": [point.to_json() for point in selection.alternatives],
    }
    emit(value, as_json=as_json, table=lambda: _selection_table(selection))


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


def _selection_table(selection: Selection) -> Table:
    from rich.table import Table

    table = Table(title=selection.reason, title_justify="left")
    for column in ("", "Intra-d", "Inter-d", "members"):
        table.add_column(column)
    rows = [("chosen", selection.point), *(("alternative", p) for p in selection.alternatives)]
    for label, point in rows:
        table.add_row(
            label, f"{point.intra_d:.4f}", f"{point.inter_d:.4f}", ", ".join(point.members)
        )
    return table
