"""The options that ``ensgan evaluate`` and ``ensgan study`` share, and what they stand for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

if TYPE_CHECKING:
    from ensgan.evaluation.evaluate import EvaluationOptions

StorageOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(help="Folder of sweeps and results.  [default: $ENSGAN_STORAGE or ensgan-runs]"),
]
UriOption: TypeAlias = Annotated[
    str | None, typer.Option(help="MLflow address.  [default: the sweep's own]")
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
StrategiesOption: TypeAlias = Annotated[
    str, typer.Option(help="What to train on, separated by commas; see docs/downstream.md.")
]
RuleOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="How G* is chosen: knee, ratio, utopia, max-intra, min-inter, max-size:K or "
        "downstream.  [default: as the sweep did]"
    ),
]
RulePointsOption: TypeAlias = Annotated[
    int, typer.Option(min=1, help="Front points that the rule downstream tries.")
]
RuleRepeatsOption: TypeAlias = Annotated[
    int, typer.Option(min=1, help="Classifiers a front point for the rule downstream.")
]
MemberWeightsOption: TypeAlias = Annotated[
    str, typer.Option(help="Member weights: own (each strategy's), uniform, by-intra, learned.")
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
        repeats: classifiers a strategy.
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
