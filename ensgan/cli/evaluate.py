"""``ensgan evaluate``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ensgan.cli import evaluations as given
from ensgan.cli.evaluations import classifiers, shown
from ensgan.cli.output import JsonOption, emit, warn
from ensgan.cli.sweep import AddressOption, OpenClusterOption

if TYPE_CHECKING:
    from ensgan.evaluation.evaluate import Evaluation, EvaluationOptions
    from ensgan.launch.evaluate import RealData, View


def evaluate(
    sweep: Annotated[
        str,
        typer.Argument(
            metavar="RUN|DIR",
            help="Run ID, name or folder of a finished sweep; with --dataset: an ensemble.",
        ),
    ],
    strategies: given.StrategiesOption = ("real,best-single,all,last,random:5,selected,dynamic"),
    repeats: given.RepeatsOption = 20,
    rule: given.RuleOption = None,
    rule_points: given.RulePointsOption = 20,
    rule_repeats: given.RuleRepeatsOption = 3,
    weights: given.MemberWeightsOption = "own",
    n_times: given.TimesOption = 1,
    labels: given.LabelsOption = "training",
    width: given.WidthOption = 64,
    epochs: given.EpochsOption = 100,
    batch: given.BatchOption = 64,
    images_per_epoch: given.ImagesOption = None,
    memory_mb: given.MemoryOption = 2048,
    device: given.DeviceOption = "auto",
    seed: given.SeedOption = None,
    extractor: given.ExtractorOption = None,
    extractor_weights: given.ExtractorWeightsOption = None,
    score_images: given.ScoreImagesOption = None,
    dataset: given.DatasetOption = None,
    data_dir: given.DataDirOption = None,
    address: AddressOption = "local",
    allow_open_cluster: OpenClusterOption = False,
    storage: given.StorageOption = None,
    uri: given.UriOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train classifiers on what strategies provide, test them on real data, and compare with G*.

    Finished classifiers are kept: the same command goes on where it was stopped.

    Example: ensgan evaluate quickstart --strategies real,all,selected --repeats 5 --width 8
    """
    from ensgan.launch import evaluate as launch

    options = given.evaluation_options(
        strategies,
        repeats,
        classifier={
            "epochs": epochs,
            "batch": batch,
            "width": width,
            "images_per_epoch": images_per_epoch,
            "labels": labels,
            "memory_mb": memory_mb,
            "device": device,
        },
        rule=rule,
        rule_points=rule_points,
        rule_repeats=rule_repeats,
        weights=weights,
        n_times=n_times,
        seed=seed,
    )
    view = launch.View(extractor, extractor_weights, score_images)
    data = None if dataset is None else launch.RealData(dataset, data_dir)
    with classifiers() as on_progress:
        evaluation = _evaluation(
            sweep,
            options,
            view,
            data,
            place=launch.Place(storage, uri, address, allow_open_cluster),
            listener=launch.Listener(on_progress=on_progress, on_warning=warn),
        )
    value = {**evaluation.to_json(), "table": str(evaluation.path), "seconds": evaluation.seconds}
    emit(value, as_json=as_json, table=lambda: shown(value))


def _evaluation(
    source: str, options: EvaluationOptions, view: View, data: RealData | None, **where: Any
) -> Evaluation:
    """Of a sweep, or of a handed-over ensemble on real data of one's own."""
    from ensgan.launch import evaluate as launch

    if data is None:
        return launch.evaluate(source, options, view=view, **where)
    return launch.evaluate_ensemble(source, data, options, **where)
