"""The options of ``ensgan select``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

RuleOption: TypeAlias = Annotated[
    str, typer.Option(help="knee, ratio, utopia, max-intra, min-inter or max-size:K")
]
PoolOption: TypeAlias = Annotated[
    Path | None, typer.Option(help="scores.npz the front must be of; refuses another pool's")
]
BootstrapOption: TypeAlias = Annotated[
    int | None,
    typer.Option(
        help="resamples for intervals (needs --scores; both objectives where the scores hold "
        "resamples, else the real points alone)"
    ),
]
OtherOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(help="scores.npz of held-out real data or another embedding: score again"),
]
MembershipOption: TypeAlias = Annotated[
    int | None,
    typer.Option(help="resamples to search again: how often is each member on the front?"),
]
MembershipCostsOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--costs", help="with --membership: costs.json of a third objective that sums costs"
    ),
]
BesideOption: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option(help="another front (of another embedding, say) to compare; repeat for more"),
]
WeightsOption: TypeAlias = Annotated[
    float | None,
    typer.Option(help="optimise member weights, none below this part of 1/n (needs --scores)"),
]
ChoicePlotOption: TypeAlias = Annotated[
    list[Path] | None, typer.Option(help="draw the front with the choice: FILE.html or .png")
]
