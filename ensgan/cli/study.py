"""``ensgan study``: a page on what finished sweeps' ensembles are worth."""

from __future__ import annotations

import itertools
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from ensgan.cli.evaluate import Asked, classifiers, comparison_table, with_evaluation_options
from ensgan.cli.output import ForceOption, check_outputs, emit, warn
from ensgan.errors import InputError
from ensgan.files import first_bytes, read_text, write_bytes
from ensgan.text import counted, hide_credentials, one_line

if TYPE_CHECKING:
    from ensgan.evaluation.evaluate import Evaluation, EvaluationOptions

FIGURE = "-front.png"
"""Ending of the file names of figures."""
STRATEGIES = (
    *("real", "real+synthetic", "best-single", "all", "last", "random:5", "selected"),
    *("selected:ratio", "selected:utopia", "selected:max-intra", "selected:min-inter"),
    *("by-intra", "front:6"),
)
"""The default strategies of a study."""


@with_evaluation_options("the first sweep's evaluate section, its strategies apart")
def study(
    sweep: Annotated[
        list[str], typer.Argument(metavar="RUN|DIR…", help="Finished sweeps: run ID, name, folder.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Page to write (.md); figures go beside it.")
    ],
    extractor: Annotated[
        list[str] | None,
        typer.Option(
            help="Score the pool with this extractor; repeatable.  [default: the sweep's]"
        ),
    ] = None,
    predict: Annotated[
        int,
        typer.Option(
            min=0,
            help="Also train on this many varied ensembles: which scores predict their worth?",
        ),
    ] = 0,
    title: Annotated[
        str | None, typer.Option(help="Heading.  [default: from the data set]")
    ] = None,
    notes: Annotated[
        Path | None, typer.Option(help="Markdown file whose text becomes the page's notes.")
    ] = None,
    force: ForceOption = False,
    *,
    asked: Asked,
) -> None:
    """Write a page on what finished sweeps' ensembles are worth: tables, tests, figures.

    What is not named is as in the first sweep's own ``evaluate`` section, for all sweeps; more
    strategies. Classifiers and scores are kept: the same command goes on where it was stopped.

    Example: ensgan study quickstart --extractor random --extractor medical -o study.md
    """
    from ensgan.launch.evaluate import Listener, View, evaluate_sweeps, section_of
    from ensgan.report.figures import is_figure
    from ensgan.report.study import part_json, together

    begin = time.time()
    if output.suffix != ".md":
        raise InputError(f"the page '{output}' must end in .md")
    # The extractors are known only later, so every file named like a figure must be ours.
    figures = [path for path in output.parent.glob("*.png") if _is_named(path, output)]
    claims = [(output, _is_study), *((path, is_figure) for path in figures)]
    check_outputs(*claims, inputs=[notes], force=force)
    remarks = "" if notes is None else read_text(notes)
    section = section_of(sweep[0], asked.place).model_copy(update={"strategies": [*STRATEGIES]})
    options = replace(asked.options(section), predict=predict)
    typer.echo(f"classifiers: {_in_words(options)}", err=True)
    views = [View(name, count=asked.score_images) for name in extractor or (None,)]
    with classifiers() as on_progress:
        evaluations = evaluate_sweeps(
            sweep,
            views,
            options,
            place=asked.place,
            listener=Listener(on_progress, _tell, warn),
        )
    files = _write(evaluations, output, title, remarks, time.time() - begin)
    value = {
        "page": str(output),
        "figures": [str(file) for file in files],
        "parts": [part_json(part) for part in evaluations],
        "together": {
            name: {k: v for k, v in table.to_json().items() if k != "runs"}
            for name, table in together(evaluations).items()
        },
    }
    emit(value, as_json=asked.as_json, table=lambda: _shown(value))


def _in_words(options: EvaluationOptions) -> str:
    """The classifiers of the study and where their settings come from: they decide its cost."""
    of = options.classifier
    images = "" if of.images_per_epoch is None else f" of {counted(of.images_per_epoch, 'image')}"
    return (
        f"width {of.width}, {counted(of.epochs, 'epoch')}{images} at most, "
        f"{counted(options.repeats, 'repeat')} (what no option names is the first sweep's; a "
        "full study has width 64, 100 epochs and 20 repeats)"
    )


def _is_study(path: Path) -> bool:
    """Whether a file is a page of this command: its head says how it was made."""
    return b"\n- Command: `ensgan" in first_bytes(path, 1 << 16)


def _is_named(path: Path, page: Path) -> bool:
    """Whether a file has the name of a figure of the page."""
    return path.name.startswith(f"{page.stem}-") and path.name.endswith(FIGURE)


def _tell(stage: str, done: int, total: int) -> None:
    """Progress of re-scoring: a line at the start, the end and every tenth between."""
    if done == total or done % max(1, total // 10) == 0:
        typer.echo(f"{stage} {done}/{total}", err=True)


def _write(
    parts: Sequence[Evaluation], output: Path, title: str | None, notes: str, seconds: float
) -> list[Path]:
    """Write the figures and the page; the figures' paths."""
    from ensgan.report.study import front_figure, study_page, title_of

    figures, files = {}, []
    for number, part in enumerate(parts, 1):
        extractor = part.sweep.spec.embed.extractor
        mark = extractor if len(parts) == 1 else f"{number}-{extractor}"
        files.append(output.with_name(f"{output.stem}-{mark}{FIGURE}"))
        write_bytes(files[-1], front_figure(part))
        figures[title_of(part)] = files[-1].name
    dataset = parts[0].sweep.dataset.name
    page = study_page(
        title or f"Study: {dataset}",
        parts,
        figures,
        command=_command(sys.argv),
        seconds=seconds,
        notes=notes,
    )
    write_bytes(output, page.encode())
    return files


def _command(words: list[str]) -> str:
    """The command as typed, without folders of this machine."""
    shown = ["ensgan"]
    for before, word in itertools.pairwise(words):
        if before in ("--storage", "--uri"):
            word = "FOLDER"
        elif before in ("-o", "--output", "--notes"):
            word = Path(word).name
        shown.append(shlex.quote(word))
    # Between backticks: one would end them.
    return one_line(hide_credentials(" ".join(shown))).replace("`", "'")


def _shown(value: dict[str, Any]) -> RenderableType:
    tables = [comparison_table(part) for part in value["parts"]]
    verdicts = [part["prediction"]["verdict"] for part in value["parts"] if part["prediction"]]
    texts = [Text(f"what predicts usefulness: {verdict}") for verdict in verdicts]
    texts += [Text(f"{name}, {table['verdict']}") for name, table in value["together"].items()]
    texts.append(Text(f"written: {value['page']} and {counted(len(value['figures']), 'figure')}"))
    return Group(*tables, *texts)
