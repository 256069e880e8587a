"""``ensgan prdc``: the four measures of one generated set."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from ensgan import metrics
from ensgan.cli.output import JsonOption, emit, warn
from ensgan.cli.score import BackendOption
from ensgan.metrics.files import load_array


def prdc(
    real: Annotated[Path, typer.Argument(help="Real features [N,D], .npy.", show_default=False)],
    fake: Annotated[
        Path, typer.Argument(help="Generated features [M,D], .npy.", show_default=False)
    ],
    k: Annotated[int, typer.Option("-k", help="Neighbour that sets the radius.")] = 5,
    backend: BackendOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Precision, recall, density and coverage of generated features.

    Example: ensgan prdc real.npy fake.npy -k 5 --json
    """
    result = metrics.prdc(load_array(real), load_array(fake), k, backend=backend, on_warning=warn)
    emit(asdict(result), as_json=as_json, table=lambda: _table(result))


def _table(result: metrics.PRDC) -> Table:
    table = Table("measure", "value", title=f"k = {result.k}, {result.backend}")
    for name in ("precision", "recall", "density", "coverage"):
        table.add_row(name, f"{getattr(result, name):.4f}")
    table.add_row("points", f"{result.n_real} real, {result.n_fake} generated")
    return table
