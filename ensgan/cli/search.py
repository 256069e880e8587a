"""``ensgan search``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from ensgan.cli.output import (
    FittingTable,
    ForceOption,
    JsonOption,
    check_outputs,
    emit,
    note,
    progress,
    warn,
)
from ensgan.errors import EnsganError, InputError
from ensgan.files import first_bytes, read_json, write_bytes
from ensgan.metrics.features import load_pool
from ensgan.search import SearchInterrupted, api
from ensgan.search import search as search_pool
from ensgan.search.forms import COMPONENTS
from ensgan.search.forms.density_coverage import INTER
from ensgan.sweep.planning.sweep_file import name_of_variant
from ensgan.sweep.search_stage import objective_tables
from ensgan.text import counted
from ensgan.types import DEFAULT_FORM, Front, FrontPoint, PoolScores

_INTERRUPTED = 130
_RECORD = b"number,members,"
_PLOTS = (".html", ".png")
_OBJECTIVES_HELP = "; ".join(f"{form.name}: {form.help}" for form in api.FORMS)
_OBJECTIVES_HELP += "; or FILE.py:NAME of your own"
_WITH_FEATURES = " or ".join(form.name for form in api.FORMS if form.needs_features)


def search(
    scores: Annotated[Path, typer.Argument(help="scores.npz, as 'ensgan score' writes it")],
    output: Annotated[Path, typer.Option("--output", "-o", help="front file to write")] = Path(
        "front.json"
    ),
    sampler: Annotated[
        str, typer.Option(help=f"one of {', '.join(api.SAMPLERS.names())}")
    ] = "pareto-local",
    trials: Annotated[int | None, typer.Option(help="budget in evaluations")] = None,
    seconds: Annotated[float | None, typer.Option(help="budget in wall time")] = None,
    seed: Annotated[int, typer.Option(help="random seed")] = 0,
    inter: Annotated[str, typer.Option(help=f"Inter-d: {' or '.join(INTER)}")] = "symmetric",
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
    objectives: Annotated[str, typer.Option(help=_OBJECTIVES_HELP)] = DEFAULT_FORM,
    features: Annotated[
        Path | None, typer.Option(help=f"features that were scored, for {_WITH_FEATURES}")
    ] = None,
    components: Annotated[
        int, typer.Option(help="frechet: principal directions of the real features")
    ] = COMPONENTS,
    third: Annotated[
        str | None,
        typer.Option(
            help=f"third objective: {api.THIRDS[0]} or {', '.join(api.THIRDS[1:])} (sum of --costs)"
        ),
    ] = None,
    plot: Annotated[
        list[Path] | None, typer.Option(help="draw the front: FILE.html or .png; repeat for both")
    ] = None,
    heat_map: Annotated[
        Path | None, typer.Option(help="draw which members are on the front: FILE.png")
    ] = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Search the Pareto front of a scored pool. Ctrl-C ends it and keeps the front found so far.

    Example: ensgan search scores.npz --sampler pareto-local --seconds 2 --seed 0 -o front.json
    """
    journal = None if storage is None or "://" in storage else Path(storage)
    results = [(output, _is_front), (record, _is_record)]
    read = (scores, costs, features, journal)
    claim(*results, plots=plot or (), heat_map=heat_map, inputs=read, force=force)
    pool, prices = PoolScores.load(scores), read_costs(costs)
    limit = _make_budget(budget, prices, third)
    tables = _make_tables(objectives, inter, pool, features, components)
    interrupted = False
    with progress(sampler) as report:
        try:
            front = search_pool(
                pool,
                sampler=sampler,
                trials=trials,
                seconds=seconds,
                seed=seed,
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
                resume=resume,
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
        _told(front, pool, output)
    if interrupted:
        warn(f"interrupted after {front.trials} trials; found: {counted(len(front), 'point')}")
        raise typer.Exit(_INTERRUPTED)


def _told(front: Front, pool: PoolScores, output: Path) -> None:
    note(f"front written to {output}")
    if left := api.estimates_on(front, pool):
        warn(
            f"{left} overlaps of the front's ensembles are estimates (--approximate-inter): "
            "score the pool exactly, or in a sweep whose search section says what is asked here"
        )


def claim(
    *results: tuple[Path | None, Callable[[Path], bool]],
    plots: Sequence[Path],
    heat_map: Path | None = None,
    inputs: Sequence[Path | None],
    force: bool,
) -> None:
    """Refuse, before any work, outputs that would destroy something or cannot be made."""
    from ensgan.report.figures import is_figure

    for path in plots:
        if path.suffix.lower() not in _PLOTS:
            raise InputError(f"--plot {path}: name a .html (interactive) or a .png file")
    if heat_map is not None and heat_map.suffix.lower() != ".png":
        raise InputError(f"--heat-map {heat_map}: name a .png file")
    figures = [(path, is_figure) for path in (*plots, heat_map)]
    check_outputs(*results, *figures, inputs=inputs, force=force)


def _is_front(path: Path) -> bool:
    """Whether a file is one that this command wrote."""
    try:
        Front.load(path)
    except EnsganError:
        return False
    return True


def _is_record(path: Path) -> bool:
    """Whether a file is a table of trials."""
    return first_bytes(path, len(_RECORD)) == _RECORD


def read_costs(path: Path | None) -> Mapping[str, float] | None:
    """The cost of every member by name, from a JSON object."""
    if path is None:
        return None
    table = read_json(path)
    if not isinstance(table, dict) or not all(
        isinstance(cost, int | float) and not isinstance(cost, bool) and 0 <= cost < 1e300
        for cost in table.values()
    ):
        raise InputError(f"{path} must be one JSON object of numbers from 0 on by member name")
    return {str(name): float(cost) for name, cost in table.items()}


def _make_budget(
    limit: float | None, costs: Mapping[str, float] | None, third: str | None
) -> api.Budget | None:
    """The budget, if there is one; costs alone make sense with a third objective only."""
    if limit is None:
        if costs is not None and third in (None, "members"):
            raise InputError("--costs goes with --budget or with --third cost: add one of them")
        return None
    if costs is None:
        raise InputError("--budget needs the cost of every member: add --costs costs.json")
    return api.Budget(costs, limit, "cost")


def _make_tables(
    name: str, inter: str, scores: PoolScores, features: Path | None, components: int
) -> api.ObjectiveTables:
    """The tables of a form of the objectives; features only where it needs them."""
    form = api.find_form(name_of_variant(name, api.FORMS))
    if not form.needs_features:
        if features is not None:
            raise InputError(f"--features goes with --objectives {_WITH_FEATURES}")
        return form.tables(api.FormInputs(scores, inter))
    if features is None:
        raise InputError(
            f"--objectives {name} needs the features that were scored: add --features features.npz"
        )
    pool = load_pool(features)
    if tuple(pool.names) != scores.names:
        raise InputError(
            f"{features} holds other members than the scores ({len(pool.names)} and "
            f"{len(scores)}, or another order): use the features that were scored"
        )
    with progress(form.name, "pairs") as report:
        return objective_tables(
            form.name,
            scores,
            pool.real,
            pool.fakes,
            inter=inter,
            components=components,
            on_progress=report,
        )


def _front_table(front: Front) -> FittingTable:
    # A front without points is never shown.
    columns = list(front.cells(front.points[0]))
    table = FittingTable(
        *columns,
        "members",
        title=f"{counted(len(front), 'point')}, hypervolume {front.hypervolume:.5f}, "
        f"{front.trials} evaluations of {front.distinct} subsets in {front.seconds:.2f} s",
        spare=columns[:1:-1],
        wraps=("members",),
    )
    for point in front:
        table.add_row(*front.cells(point).values(), ", ".join(point.members))
    return table


def write_pictures(
    front: Front,
    plots: Sequence[Path],
    heat_map: Path | None,
    selected: FrontPoint | None = None,
) -> None:
    """Write the front as plots and the members on it as a heat map."""
    from ensgan.report.figures import front_png, membership_figure, png
    from ensgan.report.page import front_html

    contents = {
        path: front_html(front, selected).encode()
        if path.suffix.lower() == ".html"
        else front_png(front, selected)
        for path in plots
    }
    if heat_map is not None:
        contents[heat_map] = png(membership_figure(front))
    for path, content in contents.items():
        write_bytes(path, content)
        note(f"wrote {path}")
