"""The ``ensgan`` command: its sub-commands, and how errors become exit codes.

Each command lives in the module of its name; heavy packages are imported inside the functions so
that ``ensgan --help`` answers at once.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ensgan import __version__
from ensgan.cli import (
    bank,
    bundle,
    data,
    evaluate,
    init,
    prdc,
    report,
    runs,
    sample,
    score,
    search,
    select,
    serve,
    status,
    study,
    sweep,
    zoo,
)
from ensgan.errors import EnsganError

app = typer.Typer(
    name="ensgan",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Pareto-optimal ensembles of GANs for faithful and diverse synthetic medical images.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ensgan {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and stop."
        ),
    ] = False,
) -> None:
    del version  # handled by its callback


# Commands, one line each.
app.command("zoo")(zoo.zoo)
app.command("sweep")(sweep.sweep)
app.command("train")(sweep.train)
app.command("sync")(sweep.sync)
app.command("status")(status.status)
app.add_typer(data.app, name="data")
app.command("init")(init.init)
app.command("search")(search.search)
app.command("select")(select.select)
app.command("bank")(bank.bank)
app.command("bundle")(bundle.bundle)
app.command("prdc")(prdc.prdc)
app.command("score")(score.score)
app.command("evaluate")(evaluate.evaluate)
app.command("study")(study.study)
app.command("runs")(runs.runs)
app.command("show")(runs.show)
app.command("pull")(runs.pull)
app.command("sample")(sample.sample)
app.command("verify")(runs.verify)
app.command("compare")(runs.compare)
app.command("report")(report.report)
app.command("promote")(runs.promote)
app.command("serve")(serve.serve)
app.command("ui")(runs.ui)


def main() -> None:
    """Entry point of the console script.

    Exit codes: 0 ok, 1 failure in the run, 2 wrong usage or input.
    """
    try:
        app()
    except EnsganError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)
