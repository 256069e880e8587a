"""What ``ensgan evaluate`` and ``ensgan study`` share: options, progress, the table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from ensgan.downstream import STRATEGIES, WEIGHTINGS
from ensgan.search import rules

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from ensgan.evaluation.evaluate import EvaluationOptions, OnProgress, Progress

SHOWN = ("accuracy", "g_mean", "auc")
StorageOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(help="Folder of sweeps and results.  [default: $ENSGAN_STORAGE or ensgan-runs]"),
]
UriOption: TypeAlias = Annotated[
    str | None, typer.Option(help="MLflow address.  [default: the sweep's own]")
]
RepeatsOption: TypeAlias = Annotated[int, typer.Option(min=1, help="Classifiers per strategy.")]
WidthOption: TypeAlias = Annotated[
    int, typer.Option(min=4, max=256, help="Channels of the first stage; 64 is ResNet-18.")
]
EpochsOption: TypeAlias = Annotated[int, typer.Option(min=1, help="Most epochs.")]
BatchOption: TypeAlias = Annotated[int, typer.Option(min=2, help="Images per step.")]
ImagesOption: TypeAlias = Annotated[
    int | None,
    typer.Option(min=2, help="Training images per epoch.  [default: size of the training split]"),
]
MemoryOption: TypeAlias = Annotated[
    int, typer.Option("--memory-mb", min=1, help="Most memory for a classifier's images, MiB.")
]
DeviceOption: TypeAlias = Annotated[
    str, typer.Option(help="cpu, cuda, cuda:N, or auto: a GPU where there is one.")
]
SeedOption: TypeAlias = Annotated[
    int | None, typer.Option(min=0, help="Random seed.  [default: the sweep's]")
]
StrategiesOption: TypeAlias = Annotated[
    str,
    typer.Option(
        help="What to train on, separated by commas (docs/downstream.md says what each is): "
        + ", ".join(form.written for form in STRATEGIES)
        + "."
    ),
]
RuleOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help=f"How G* is chosen: {', '.join(rules())}; max-size is written max-size:K.  "
        "[default: as the sweep did]"
    ),
]
RulePointsOption: TypeAlias = Annotated[
    int, typer.Option(min=1, help="Front points that the rule downstream tries.")
]
RuleRepeatsOption: TypeAlias = Annotated[
    int, typer.Option(min=1, help="Classifiers per front point for the rule downstream.")
]
MemberWeightsOption: TypeAlias = Annotated[
    str, typer.Option(help=f"Member weights: {', '.join(WEIGHTINGS)}; own: each strategy's.")
]
TimesOption: TypeAlias = Annotated[
    int, typer.Option(min=1, help="Factor on the number of synthetic images.")
]
LabelsOption: TypeAlias = Annotated[
    str, typer.Option(help="Classes of synthetic images: as in training, or uniform.")
]
ExtractorOption: TypeAlias = Annotated[
    str | None, typer.Option(help="Score and search the pool with another extractor first.")
]
ExtractorWeightsOption: TypeAlias = Annotated[
    str | None, typer.Option(help="Weight file of that extractor.")
]
ScoreImagesOption: TypeAlias = Annotated[
    int | None, typer.Option(min=2, help="Images of each member to score with it.")
]
DatasetOption: TypeAlias = Annotated[
    str | None,
    typer.Option(help="Evaluate an ensemble (folder or run) on these real data instead."),
]
DataDirOption: TypeAlias = Annotated[
    Path | None, typer.Option(help="Folder of data sets.  [default: $ENSGAN_DATA]")
]


def evaluation_options(
    strategies: str, repeats: int, *, classifier: dict[str, Any], **others: Any
) -> EvaluationOptions:
    """The settings that the options say.

    Args:
        strategies: names separated by commas.
        repeats: classifiers per strategy.
        classifier: fields of the classifier's settings.
        others: other fields of :class:`EvaluationOptions`.

    Raises:
        InputError: a value out of its range.
    """
    from ensgan.downstream import ClassifierSettings
    from ensgan.evaluation.evaluate import EvaluationOptions

    names = tuple(name.strip() for name in strategies.split(",") if name.strip())
    settings = ClassifierSettings(**classifier)
    return EvaluationOptions(strategies=names, repeats=repeats, classifier=settings, **others)


@contextmanager
def classifiers() -> Iterator[OnProgress]:
    """Progress of an evaluation on stderr: a bar on a terminal, else a line each."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    from ensgan.cli.output import PlainConsole

    console = PlainConsole(stderr=True)
    if not console.is_terminal:
        yield lambda progress: typer.echo(sentence(progress), err=True)
        return
    columns = (TextColumn("classifiers"), BarColumn(), MofNCompleteColumn())
    with Bar(*columns, TextColumn("{task.description}"), console=console, transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda progress: bar.update(
            task, completed=progress.done, total=progress.total, description=_left(progress)
        )


def sentence(progress: Progress) -> str:
    """One classifier as one line."""
    if progress.metrics is None:
        return f"{progress.total} classifiers"
    accuracy, auc = progress.metrics["accuracy"], progress.metrics["auc"]
    return (
        f"{progress.done}/{progress.total} {progress.strategy} (repeat {progress.repeat}): "
        f"accuracy {accuracy:.3f}, AUC {auc:.3f}{_left(progress)}"
    )


def _left(progress: Progress) -> str:
    return "" if progress.left is None else f", {progress.left:.0f} s left"


def shown(value: Mapping[str, Any]) -> RenderableType:
    """The comparison with G*, its reason, and where every run is."""
    from rich.console import Group
    from rich.text import Text

    chosen = value["selected"]
    lines = [
        f"G*: {', '.join(chosen['members'])}",
        chosen["reason"],
        f"p: {value['test']}; the table with every run is in {value['table']}",
    ]
    return Group(comparison_table(value), *(Text(line) for line in lines))


def comparison_table(value: Mapping[str, Any]) -> Table:
    """Strategies with mean ± sd, 95 % interval, p against G* and the part of the gap closed."""
    from rich.table import Column, Table

    reference = value["reference"]
    against = f", p against {reference}" if reference else ""
    # Eighty columns hold it: numbers without blanks, no lines between.
    table = Table(
        Column("strategy", no_wrap=True),
        "n",
        "accuracy",
        "g-mean",
        "AUC",
        "95 % of AUC",
        "p",
        "gap",
        title=f"Downstream test: mean±sd{against}, and part of the gap real − all closed, by AUC",
        title_justify="left",
        caption=value.get("verdict") or None,
        caption_justify="left",
        box=None,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for row in value["strategies"]:
        auc = row["metrics"]["auc"]
        closed = row["gap_closed"]["auc"]
        interval = "–" if auc["low"] is None else f"{auc['low']:.3f}–{auc['high']:.3f}"
        table.add_row(
            row["strategy"],
            str(len(row["members"]) or "–"),
            *(mean_sd(row["metrics"][name]) for name in SHOWN),
            interval,
            "–" if auc["p"] is None else f"{auc['p']:.2g}",
            "–" if closed is None else f"{closed:.0%}",
        )
    return table


def mean_sd(metric: Mapping[str, Any]) -> str:
    """``0.912±0.010``."""
    spread = "" if metric["sd"] is None else f"±{metric['sd']:.3f}"
    return f"{metric['mean']:.3f}{spread}"
