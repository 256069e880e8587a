"""``ensgan evaluate``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from ensgan.cli.output import JsonOption, emit, warn

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from ensgan.pipeline.evaluation import OnProgress, Progress

SHOWN = ("accuracy", "g_mean", "auc")

StorageOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(help="Folder of sweeps and results.  [default: $ENSGAN_STORAGE or ensgan-runs]"),
]
UriOption: TypeAlias = Annotated[
    str | None, typer.Option(help="MLflow address.  [default: the sweep's own]")
]
AddressOption: TypeAlias = Annotated[
    str, typer.Option(help="Ray: 'local', 'auto', 'ray://host:port'; 'none' uses no Ray.")
]
RepeatsOption: TypeAlias = Annotated[int, typer.Option(min=1, help="Classifiers a strategy.")]
WidthOption: TypeAlias = Annotated[
    int, typer.Option(min=4, max=256, help="Channels of the first stage; 64 is ResNet-18.")
]
EpochsOption: TypeAlias = Annotated[int, typer.Option(min=1, help="Most epochs.")]
BatchOption: TypeAlias = Annotated[int, typer.Option(min=2, help="Images a step.")]
ImagesOption: TypeAlias = Annotated[
    int | None,
    typer.Option(min=2, help="Training images an epoch.  [default: size of the training split]"),
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


def evaluate(
    sweep: Annotated[
        str,
        typer.Argument(
            metavar="RUN|DIR",
            help="Run ID, name or folder of a finished sweep; with --dataset: an ensemble.",
        ),
    ],
    strategies: Annotated[
        str, typer.Option(help="What to train on, separated by commas; see docs/downstream.md.")
    ] = "real,best-single,all,last,random:5,selected,dynamic",
    repeats: RepeatsOption = 20,
    rule: Annotated[
        str | None,
        typer.Option(
            help="How G* is chosen: knee, ratio, utopia, max-intra, min-inter, max-size:K or "
            "downstream.  [default: as the sweep did]"
        ),
    ] = None,
    rule_points: Annotated[
        int, typer.Option(min=1, help="Front points that the rule downstream tries.")
    ] = 20,
    rule_repeats: Annotated[
        int, typer.Option(min=1, help="Classifiers a front point for the rule downstream.")
    ] = 3,
    weights: Annotated[
        str, typer.Option(help="Member weights: own (each strategy's), uniform, by-intra, learned.")
    ] = "own",
    n_times: Annotated[
        int, typer.Option(min=1, help="Factor on the number of synthetic images.")
    ] = 1,
    labels: Annotated[
        str, typer.Option(help="Classes of synthetic images: as in training, or uniform.")
    ] = "training",
    width: WidthOption = 64,
    epochs: EpochsOption = 100,
    batch: BatchOption = 64,
    images_per_epoch: ImagesOption = None,
    memory_mb: MemoryOption = 2048,
    device: DeviceOption = "auto",
    seed: SeedOption = None,
    extractor: Annotated[
        str | None,
        typer.Option(help="Score and search the pool with another extractor first."),
    ] = None,
    extractor_weights: Annotated[
        str | None, typer.Option(help="Weight file of that extractor.")
    ] = None,
    score_images: Annotated[
        int | None, typer.Option(min=2, help="Images of each member to score with it.")
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(help="Evaluate an ensemble (folder or run) on these real data instead."),
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder of data sets.  [default: $ENSGAN_DATA]")
    ] = None,
    address: AddressOption = "local",
    storage: StorageOption = None,
    uri: UriOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train classifiers on what strategies provide, test them on real data, and compare with G*.

    Finished classifiers are kept: the same command goes on where it was stopped.

    Example: ensgan evaluate quickstart --strategies real,all,selected --repeats 5 --width 8
    """
    from ensgan.cluster import proof
    from ensgan.downstream import ClassifierSettings
    from ensgan.pipeline.evaluation import EvaluationOptions

    options = EvaluationOptions(
        strategies=tuple(name.strip() for name in strategies.split(",") if name.strip()),
        repeats=repeats,
        classifier=ClassifierSettings(
            epochs=epochs,
            batch=batch,
            width=width,
            images_per_epoch=images_per_epoch,
            labels=labels,  # type: ignore[arg-type]  # checked by the settings themselves
            memory_mb=memory_mb,
            device=device,
        ),
        rule=rule,
        rule_points=rule_points,
        rule_repeats=rule_repeats,
        weights=weights,
        n_times=n_times,
        seed=seed,
    )
    view = proof.View(extractor, extractor_weights, score_images)
    with classifiers() as on_progress:
        where: dict[str, Any] = {
            "storage": storage,
            "uri": uri,
            "address": None if address == "none" else address,
            "listener": proof.Listener(on_progress=on_progress, on_warning=warn),
        }
        if dataset is None:
            evaluation = proof.evaluate(sweep, options, view=view, **where)
        else:
            data = proof.RealData(dataset, data_dir)
            evaluation = proof.evaluate_ensemble(sweep, data, options, **where)
    value = {**evaluation.to_json(), "table": str(evaluation.path), "seconds": evaluation.seconds}
    emit(value, as_json=as_json, table=lambda: _shown(value))


@contextmanager
def classifiers() -> Iterator[OnProgress]:
    """Progress of an evaluation on stderr: a bar on a terminal, one line a classifier elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
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


def _shown(value: Mapping[str, Any]) -> RenderableType:
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
