"""The options of ``ensgan search``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

FrontOption: TypeAlias = Annotated[Path, typer.Option("--output", "-o", help="front file to write")]
SamplerOption: TypeAlias = Annotated[
    str,
    typer.Option(help="pareto-local, exhaustive, ensemble, nsga2, nsga3, tpe, gp, random or pymoo"),
]
TrialsOption: TypeAlias = Annotated[int | None, typer.Option(help="budget in evaluations")]
SecondsOption: TypeAlias = Annotated[float | None, typer.Option(help="budget in wall time")]
SeedOption: TypeAlias = Annotated[int, typer.Option(help="random seed")]
FormOption: TypeAlias = Annotated[str, typer.Option(help="Inter-d: symmetric or directed")]
MinSizeOption: TypeAlias = Annotated[int, typer.Option(help="fewest members")]
MaxSizeOption: TypeAlias = Annotated[int | None, typer.Option(help="most members")]
IncludeOption: TypeAlias = Annotated[
    list[str] | None, typer.Option(help="member or glob that must be in; repeat for more")
]
ExcludeOption: TypeAlias = Annotated[
    list[str] | None, typer.Option(help="member or glob to leave out; repeat for more")
]
MaxPerGanOption: TypeAlias = Annotated[int | None, typer.Option(help="most snapshots of one GAN")]
BudgetOption: TypeAlias = Annotated[
    float | None, typer.Option(help="largest summed cost of the members (needs --costs)")
]
CostsOption: TypeAlias = Annotated[
    Path | None, typer.Option(help="JSON file: cost of every member by name")
]
WarmStartOption: TypeAlias = Annotated[
    bool, typer.Option("--warm-start", help="enqueue pareto-local's solutions first")
]
ResumeOption: TypeAlias = Annotated[
    Path | None, typer.Option(help="front file to go on from (same pool)")
]
StorageOption: TypeAlias = Annotated[
    str | None, typer.Option(help="Optuna storage: sqlite:///FILE, or a journal file")
]
RecordOption: TypeAlias = Annotated[
    Path | None, typer.Option(help="write the trials to this CSV file")
]
ObjectivesOption: TypeAlias = Annotated[
    str, typer.Option(help="density-coverage, precision-recall or frechet")
]
FeaturesOption: TypeAlias = Annotated[
    Path | None, typer.Option(help="features that were scored, for the other objectives")
]
ComponentsOption: TypeAlias = Annotated[
    int, typer.Option(help="frechet: principal directions of the real features")
]
ThirdOption: TypeAlias = Annotated[
    str | None,
    typer.Option(help="third objective: members; or cost, parameters or seconds (sums of --costs)"),
]
PlotOption: TypeAlias = Annotated[
    list[Path] | None, typer.Option(help="draw the front: FILE.html or .png; repeat for both")
]
HeatMapOption: TypeAlias = Annotated[
    Path | None, typer.Option(help="draw which members are on the front: FILE.png")
]
