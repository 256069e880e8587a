"""``ensgan search``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ensgan.cli.front_files import check_pictures, write_pictures
from ensgan.cli.output import JsonOption, check_output, emit, note, progress, warn
from ensgan.cli.search_options import (
    BudgetOption,
    ComponentsOption,
    CostsOption,
    ExcludeOption,
    FeaturesOption,
    FormOption,
    FrontOption,
    HeatMapOption,
    IncludeOption,
    MaxPerGanOption,
    MaxSizeOption,
    MinSizeOption,
    ObjectivesOption,
    PlotOption,
    RecordOption,
    ResumeOption,
    SamplerOption,
    SecondsOption,
    SeedOption,
    StorageOption,
    ThirdOption,
    TrialsOption,
    WarmStartOption,
)

if TYPE_CHECKING:
    from rich.table import Table

    from ensgan.types import Front, PoolScores

_INTERRUPTED = 130


def search(
    scores: Annotated[Path, typer.Argument(help="scores.npz, as 'ensgan score' writes it")],
    output: FrontOption = Path("front.json"),
    sampler: SamplerOption = "pareto-local",
    trials: TrialsOption = None,
    seconds: SecondsOption = None,
    seed: SeedOption = 0,
    inter: FormOption = "symmetric",
    min_size: MinSizeOption = 2,
    max_size: MaxSizeOption = None,
    include: IncludeOption = None,
    exclude: ExcludeOption = None,
    max_per_gan: MaxPerGanOption = None,
    budget: BudgetOption = None,
    costs: CostsOption = None,
    warm_start: WarmStartOption = False,
    resume: ResumeOption = None,
    storage: StorageOption = None,
    record: RecordOption = None,
    objectives: ObjectivesOption = "density-coverage",
    features: FeaturesOption = None,
    components: ComponentsOption = 32,
    third: ThirdOption = None,
    plot: PlotOption = None,
    heat_map: HeatMapOption = None,
    as_json: JsonOption = False,
) -> None:
    """Search the Pareto front of a scored pool. Ctrl-C ends it and keeps the front found so far.

    Example: ensgan search scores.npz --sampler pareto-local --seconds 2 --seed 0 -o front.json
    """
    from ensgan.cli.search_inputs import make_budget, make_objectives, read_costs
    from ensgan.types import Front, PoolScores

    check_pictures(plot or (), heat_map)
    check_output(output, record)
    pool, prices = PoolScores.load(scores), read_costs(costs)
    options: dict[str, Any] = {"sampler": sampler, "trials": trials, "seconds": seconds}
    options |= {"seed": seed, "inter": inter, "min_size": min_size, "max_size": max_size}
    options |= {"include": include or (), "exclude": exclude or (), "max_per_gan": max_per_gan}
    options |= {"budget": make_budget(budget, prices, third), "third": third, "costs": prices}
    options |= {"objectives": make_objectives(objectives, pool, features, components)}
    options |= {"resume": None if resume is None else Front.load(resume), "record": record}
    options |= {"warm_start": warm_start, "study_storage": storage}
    front, interrupted = _found(pool, options)
    if len(front):
        front.save(output)
        write_pictures(front, plot or (), heat_map)
        emit(front.to_json(), as_json=as_json, table=lambda: _front_table(front))
        note(f"front written to {output}")
    if interrupted:
        warn(f"interrupted after {front.trials} trials: {len(front)} points found so far")
        raise typer.Exit(_INTERRUPTED)


def _found(pool: PoolScores, options: dict[str, Any]) -> tuple[Front, bool]:
    """The front, and whether Ctrl-C ended the search."""
    from ensgan.search import SearchInterrupted, search

    try:
        with progress(options["sampler"]) as report:
            return search(pool, **options, on_progress=report), False
    except SearchInterrupted as stopped:
        return stopped.front, True


def _front_table(front: Front) -> Table:
    from rich.table import Table

    table = Table(
        title=f"{len(front)} points, hypervolume {front.hypervolume:.5f}, "
        f"{front.trials} evaluations of {front.distinct} subsets in {front.seconds:.2f} s"
    )
    # A front without points is never shown.
    for column in (*front.cells(front.points[0]), "members"):
        table.add_column(column)
    for point in front:
        table.add_row(*front.cells(point).values(), ", ".join(point.members))
    return table
