"""``ensgan evaluate``, and the options that ``ensgan study`` has in common with it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer
from rich.console import Group, RenderableType

from ensgan.cli import output as out
from ensgan.cli.catalogue import DataDirOption
from ensgan.cli.output import FittingTable, whole
from ensgan.cli.runs import StorageOption
from ensgan.config import EvaluateSpec
from ensgan.downstream import STRATEGIES
from ensgan.downstream.statistics import RANKED
from ensgan.search import rules

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from ensgan.evaluation.evaluate import EvaluationOptions, OnProgress, Progress
    from ensgan.launch.evaluate import Place


_OF_AN_ENSEMBLE = ["real", "best-single", "all", "random:5", "selected"]
"""Default strategies for an ensemble, which brings no sweep with its own."""
SHOWN = ("auc", "accuracy", "g_mean")


@contextmanager
def classifiers() -> Iterator[OnProgress]:
    """Progress of an evaluation on stderr: a bar on a terminal, else a line each."""
    if not out.PlainConsole(stderr=True).is_terminal:
        yield lambda step: typer.echo(sentence(step), err=True)
        return
    with out.progress("classifiers") as bar:
        yield lambda step: bar(step.done, step.total)


def sentence(step: Progress) -> str:
    """One classifier as one line."""
    if step.metrics is None:
        done = f"{step.done}/{step.total} {step.strategy}"
        return done if step.strategy else f"{step.total} classifiers"
    accuracy, auc = step.metrics["accuracy"], step.metrics["auc"]
    left = "" if step.left is None else f", {step.left:.0f} s left"
    return (
        f"{step.done}/{step.total} {step.strategy} (repeat {step.repeat}): "
        f"accuracy {accuracy:.3f}, AUC {auc:.3f}{left}"
    )


def comparison_table(value: Mapping[str, Any]) -> FittingTable:
    """Strategies, the best first: mean ± sd, interval, p against G*, part of the gap closed."""
    reference = value["reference"]
    against = f", p against {reference}" if reference else ""
    table = FittingTable(
        *("strategy", "n", "AUC", "95 % of AUC", "test images", "p", "gap", "accuracy", "g-mean"),
        title=f"Downstream test by AUC: mean±sd{against}, and part of the gap real − all closed",
        spare=("g-mean", "accuracy", "test images", "gap", "n", "p", "95 % of AUC"),
    )
    for row in sorted(value["strategies"], key=lambda row: -row["metrics"][RANKED]["mean"]):
        ranked = row["metrics"][RANKED]
        closed = row["gap_closed"][RANKED]
        intervals = ((ranked["low"], ranked["high"]), row.get("test_images") or (None, None))
        first, *others = (mean_sd(row["metrics"][name]) for name in SHOWN)
        table.add_row(
            row["strategy"],
            str(len(row["members"]) or "–"),
            first,
            *("–" if low is None else f"{low:.3f}–{high:.3f}" for low, high in intervals),
            "–" if ranked["p"] is None else f"{ranked['p']:.2g}",
            _share(closed),
            *others,
        )
    return table


def _share(closed: float | None) -> str:
    """Part of a gap; beyond ±100 % the gap itself is too small for a meaningful number."""
    if closed is None:
        return "–"
    return f"{closed:.0%}" if abs(closed) <= 1 else "<-100%" if closed < 0 else ">100%"


def remarks(value: Mapping[str, Any]) -> list[str]:
    """Sentences to print below a comparison."""
    parts = [value.get("verdict"), value.get("sampling"), *value.get("cautions", ())]
    return [f"{part}." for part in parts if part]


def mean_sd(metric: Mapping[str, Any]) -> str:
    """``0.912±0.010``."""
    spread = "" if metric["sd"] is None else f"±{metric['sd']:.3f}"
    return f"{metric['mean']:.3f}{spread}"


@dataclass(frozen=True)
class Asked:
    """The options that both commands have.

    Attributes:
        given: values for a sweep's ``evaluate`` section; None for those not named.
    """

    given: Mapping[str, Any]
    rule: Annotated[
        str | None,
        typer.Option(
            help=f"How G* is chosen: {', '.join(rules())}; max-size is written max-size:K.  "
            "[default: as the sweep did]"
        ),
    ] = None
    rule_points: Annotated[
        int, typer.Option(min=1, max=10_000, help="Front points that the rule downstream tries.")
    ] = 20
    rule_repeats: Annotated[
        int,
        typer.Option(
            min=1, max=10_000, help="Classifiers per front point for the rule downstream."
        ),
    ] = 3
    seed: Annotated[
        int | None, typer.Option(min=0, help="Random seed.  [default: the sweep's]")
    ] = None
    score_images: Annotated[
        int | None,
        typer.Option(
            min=2, max=out.MOST_IMAGES, help="Images of each member to score with the extractor."
        ),
    ] = None
    address: out.AddressOption = "local"
    allow_open_cluster: out.OpenClusterOption = False
    storage: StorageOption = None
    uri: Annotated[str | None, typer.Option(help="MLflow address.  [default: the sweep's own]")] = (
        None
    )
    as_json: out.JsonOption = False

    @property
    def place(self) -> Place:
        """Where sweeps lie and work runs."""
        from ensgan.launch.evaluate import Place

        return Place(self.storage, self.uri, self.address, self.allow_open_cluster)

    def options(self, section: EvaluateSpec) -> EvaluationOptions:
        """What to evaluate, and how: the section, overridden by what was named."""
        from ensgan.downstream import ClassifierSettings
        from ensgan.evaluation.evaluate import EvaluationOptions

        settings = section.model_dump() | {k: v for k, v in self.given.items() if v is not None}
        of_all = {
            name: settings.pop(name) for name in ("repeats", "weights", "n_times", "sampling")
        }
        return EvaluationOptions(
            strategies=tuple(settings.pop("strategies")),
            classifier=ClassifierSettings(**settings),
            rule=self.rule,
            rule_points=self.rule_points,
            rule_repeats=self.rule_repeats,
            seed=self.seed,
            **of_all,
        )


def with_evaluation_options(otherwise: str) -> Callable[[Callable[..., None]], Any]:
    """Decorate a command: it gets the shared options, and is called with ``asked``.

    Args:
        otherwise: where settings that are not named come from, for the help.
    """
    shared = dict(inspect.signature(Asked, eval_str=True).parameters)
    del shared["given"]
    fields = EvaluateSpec.model_fields
    settings = [_setting(name, field, otherwise) for name, field in fields.items()]

    def decorate(command: Callable[..., None]) -> Any:
        parameters = dict(inspect.signature(command, eval_str=True).parameters)
        del parameters["asked"]

        @wraps(command)
        def run(**given: Any) -> None:
            named = {name: given.pop(name) for name in fields}
            if named["strategies"] is not None:
                names = named["strategies"].split(",")
                named["strategies"] = [name.strip() for name in names if name.strip()]
            common = {name: given.pop(name) for name in shared}
            command(**given, asked=Asked(named, **common))

        options = [each.replace(kind=each.KEYWORD_ONLY) for each in (*settings, *shared.values())]
        run.__signature__ = inspect.Signature([*parameters.values(), *options])  # type: ignore[attr-defined]
        run.__annotations__ = {}  # typer reads the signature
        return run

    return decorate


def _setting(name: str, field: FieldInfo, otherwise: str) -> inspect.Parameter:
    """A field of a sweep's ``evaluate`` section as an option with the same limits."""
    limits = {
        option: getattr(limit, bound)
        for option, bound in (("min", "ge"), ("max", "le"))
        for limit in field.metadata
        if hasattr(limit, bound)
    }
    words, kind = str(field.description), field.annotation
    if name == "strategies":
        forms = ", ".join(form.written for form in STRATEGIES)
        words = f"{words} Separated by commas (docs/downstream.md says what each is): {forms}."
    if choices := [choice for choice in get_args(kind) if isinstance(choice, str)]:
        words = f"{words} ({', '.join(choices)})"
    # Names are checked where they are resolved: the message names the nearest.
    kind = int | None if kind in (int, int | None) else str | None
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind, typer.Option(help=f"{words}  [default: {otherwise}]", **limits)],
    )


@with_evaluation_options("the sweep's own evaluate section")
def evaluate(
    sweep: Annotated[
        str,
        typer.Argument(
            metavar="RUN|DIR",
            help="Run ID, name or folder of a finished sweep; with --dataset: an ensemble.",
        ),
    ],
    extractor: Annotated[
        str | None, typer.Option(help="Score and search the pool with another extractor first.")
    ] = None,
    extractor_weights: Annotated[
        str | None, typer.Option(help="Weight file of that extractor.")
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(help="Evaluate an ensemble (folder or run) on these real data instead."),
    ] = None,
    data_dir: DataDirOption = None,
    *,
    asked: Asked,
) -> None:
    """Train classifiers on what strategies provide, test them on real data, and compare with G*.

    What is not named is as in the sweep's own ``evaluate`` section, so that its table compares.
    Finished classifiers are kept: the same command goes on where it was stopped.

    Example: ensgan evaluate quickstart --strategies real,all,selected --repeats 5
    """
    from ensgan.launch import evaluate as launch

    view = launch.View(extractor, extractor_weights, asked.score_images)
    with classifiers() as on_progress:
        listener = launch.Listener(on_progress, on_warning=out.warn)
        where: dict[str, Any] = {"place": asked.place, "listener": listener}
        if dataset is None:
            options = asked.options(launch.section_of(sweep, asked.place))
            (evaluation,) = launch.evaluate_sweeps([sweep], [view], options, **where)
        else:
            options = asked.options(EvaluateSpec(strategies=_OF_AN_ENSEMBLE))
            evaluation = launch.evaluate_ensemble(
                sweep, dataset, options, data_dir=data_dir, **where
            )
    value = {**evaluation.to_json(), "table": str(evaluation.path), "seconds": evaluation.seconds}
    out.emit(value, as_json=asked.as_json, table=lambda: _shown(value))


def _shown(value: Mapping[str, Any]) -> RenderableType:
    """The comparison with G*, its reason, and where every run is."""
    chosen = value["selected"]
    lines = [
        *remarks(value),
        f"G*: {', '.join(chosen['members'])}",
        chosen["reason"],
        f"p: {value['test']}; the table with every run is in {value['table']}",
    ]
    return Group(comparison_table(value), *(whole(line) for line in lines))
