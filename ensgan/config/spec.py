"""A sweep's spec, and its sections from scoring on, each a model that validates itself."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from ensgan.config.pool_sections import (
    DatasetSpec,
    ExternalSpec,
    GanName,
    SampleSpec,
    Section,
    TrainSpec,
    head,
    registered,
    repeated_names,
)
from ensgan.types import DEFAULT_FORM, form_name

StrategyName: TypeAlias = Annotated[str, registered("strategy", head)]


class EmbedSpec(Section):
    """Which extractor turns images into vectors."""

    extractor: Annotated[str, registered("extractor")] = "random"
    weights: str | None = None


class ScoreSpec(Section):
    """Density and coverage.

    ``classes`` ``per-class`` scores within each class only: an image of the wrong class is then
    near to nothing. Data of one class are scored ``joint``. ``resamples`` random parts of the
    points and images are scored too, for intervals of both
    objectives (``ensgan select --bootstrap``).
    """

    k: int = Field(5, ge=1)
    backend: Literal["auto", "faiss", "torch"] = "auto"
    memory_gb: float = Field(2.0, gt=0)
    resamples: int = Field(0, ge=0)
    classes: Literal["joint", "per-class"] = "joint"

    @field_validator("classes")
    @classmethod
    def _resampled(cls, value: str, info: ValidationInfo) -> str:
        if value == "per-class" and info.data.get("resamples"):
            raise ValueError("per-class has no resamples: set score.resamples to 0")
        return value


class SearchSpec(Section):
    """The ensemble search.

    ``objectives`` is the form of the two objectives (``inter`` belongs to density and coverage,
    ``components`` to ``frechet``); ``third`` adds one to keep small: the number of members, the
    numbers in their weight files, or the seconds that their images took.
    """

    sampler: Annotated[str, registered("sampler")] = "ensemble"
    trials: int = Field(1000, ge=1)
    inter: Literal["symmetric", "directed"] = "symmetric"
    min_size: int = Field(2, ge=2)
    max_size: int | None = Field(None, ge=2)
    objectives: Annotated[str, AfterValidator(form_name), registered("form of the objectives")] = (
        DEFAULT_FORM
    )
    components: int = Field(32, ge=1)
    third: Literal["members", "parameters", "seconds"] | None = None

    @field_validator("max_size")
    @classmethod
    def _sizes(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and value < info.data.get("min_size", 2):
            raise ValueError(f"max_size {value} is below min_size {info.data['min_size']}")
        return value


class SelectSpec(Section):
    """The rule that picks G*: ``validated`` from a shortlist, the others from the front.

    ``candidates`` is the most that the shortlist holds; ``epochs``, ``images_per_epoch`` and
    ``width`` are of the small classifiers that judge it on the validation split: None is 8, 1,200
    and 8, or what ``evaluate`` has where that is less. ``points`` and ``repeats`` are for the rule
    ``downstream``: how many front points (evenly spread) are tried, and with how many classifiers
    each.
    """

    rule: Annotated[str, registered("rule", head)] = "validated"
    candidates: int = Field(24, ge=2)
    epochs: int | None = Field(None, ge=1)
    images_per_epoch: int | None = Field(None, ge=2)
    width: int | None = Field(None, ge=4, le=256)
    points: int = Field(20, ge=1)
    repeats: int = Field(3, ge=1)


class EvaluateSpec(Section):
    """The downstream proof; ``ensgan evaluate`` makes an option of every field."""

    strategies: list[StrategyName] = Field(
        ["real", "best-single", "all", "random:5", "selected"], description="What to train on."
    )
    repeats: int = Field(20, ge=1, description="Classifiers per strategy.")
    epochs: int = Field(100, ge=1, description="Most epochs.")
    batch: int = Field(64, ge=2, description="Images per step.")
    width: int = Field(64, ge=4, le=256, description="Channels of the first stage (64: ResNet-18).")
    images_per_epoch: int | None = Field(
        None, ge=2, description="Training images per epoch; as many as the training split has."
    )
    labels: Literal["training", "uniform"] = Field(
        "training", description="Classes of synthetic images: as in the training split, or uniform."
    )
    n_times: int = Field(1, ge=1, description="Factor on the number of synthetic images.")
    weights: Literal["own", "uniform", "by-intra", "learned"] = Field(
        "own", description="Member weights; own: as each strategy says."
    )
    sampling: Literal["fresh", "bank"] | None = Field(
        None,
        description="Members' images: fresh in every epoch, or of their bank; by worth and cost.",
    )
    memory_mb: int = Field(2048, ge=1, description="Most memory for a classifier's images, MiB.")
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description="cpu, cuda, cuda:N, or auto: a GPU where there is one.",
    )


class TrackSpec(Section):
    """Where results are recorded; uri None means MLFLOW_TRACKING_URI or SQLite in the storage.

    ``show_real`` puts a row of real training images above the recorded image grids.
    """

    uri: str | None = None
    experiment: str = "ensgan"
    show_real: bool = False


class ClusterSpec(Section):
    """How trials are scheduled.

    Trials start by ``priority`` (GAN → rank, higher first, others 0), then the longest first, at
    most ``max_concurrent`` at once. ``gpus_per_trial`` may be a fraction, or ``auto``: each GAN
    gets the part of a GPU that its memory needs, more when that was not enough. ``retries`` counts
    losses of a trial's process without progress between them; losses of a node are not counted.
    ``autoscaling`` says that nodes may join later. ``scheduler`` ``asha`` is Tune's: it stops GANs
    whose Intra-d is in the worse half at a snapshot; ``fifo`` trains every GAN to its end.
    """

    cpus_per_trial: float = Field(1.0, gt=0, allow_inf_nan=False)
    gpus_per_trial: float | Literal["auto"] = 0.0
    max_concurrent: int | None = Field(None, ge=1)
    priority: dict[GanName, int] = Field({})
    retries: int = Field(2, ge=0)
    autoscaling: bool = False
    scheduler: Literal["fifo", "asha"] = "fifo"

    @field_validator("gpus_per_trial")
    @classmethod
    def _gpus(cls, value: float | str) -> float | str:
        if isinstance(value, str):
            return value
        if not 0 <= value < float("inf") or (value > 1 and value != int(value)):
            raise ValueError(f"{value:g} GPUs: use auto, a part of one (0.25), or a whole number")
        return value


class SweepSpec(Section):
    """A whole sweep, as ``sweeps/*.yaml`` writes it."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=80)
    seed: int = Field(0, ge=0, lt=2**31)
    dataset: DatasetSpec
    train: TrainSpec = TrainSpec()
    members: list[ExternalSpec] = Field([], validate_default=True)
    sample: SampleSpec = SampleSpec()
    embed: EmbedSpec = EmbedSpec()
    score: ScoreSpec = ScoreSpec()
    search: SearchSpec = SearchSpec()
    select: SelectSpec = SelectSpec()
    evaluate: EvaluateSpec = EvaluateSpec()
    track: TrackSpec = TrackSpec()
    cluster: ClusterSpec = ClusterSpec()

    @field_validator("members")
    @classmethod
    def _pool(cls, value: list[ExternalSpec], info: ValidationInfo) -> list[ExternalSpec]:
        train = info.data.get("train")
        names = [member.name for member in value]
        problems = []
        if repeated := repeated_names(names):
            problems.append(f"repeated names: {', '.join(repeated)}")
        known = (info.context or {}).get("GAN", ())
        problems += [f"'{name}' is the name of a GAN of the zoo" for name in names if name in known]
        if train is not None and not train.gans and not value:
            problems.append("none, and train.gans names no GAN: list some, or write 'all'")
        if problems:
            raise ValueError("; ".join(problems))
        return value
