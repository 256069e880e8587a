"""The sections of a sweep, each a model that validates itself.

Names are checked against the validation context (registry kind → known names), so that this module
stays below the registries.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from ensgan.config.external import ExternalSpec
from ensgan.config.vary import GanOverrides, PrecisionName, Strict, check_vary
from ensgan.errors import unknown_name
from ensgan.types import DEFAULT_FORM, form_name

Scalar: TypeAlias = bool | int | float | str | None


def known_name(kind: str, name: str, info: ValidationInfo) -> str:
    """The name, if the context knows it among those of its kind, or knows none."""
    known = (info.context or {}).get(kind)
    if known is not None and name not in known:
        raise ValueError(unknown_name(kind, name, known))
    return name


def registered(kind: str, part: Callable[[str], str] = str) -> AfterValidator:
    """Checks a text whose ``part`` must be a known name of that kind."""

    def check(value: str, info: ValidationInfo) -> str:
        known_name(kind, part(value), info)
        return value

    return AfterValidator(check)


def head(value: str) -> str:
    """What stands before the parameter: ``random`` of ``random:5``."""
    return value.partition(":")[0]


def repeated(names: list[str]) -> list[str]:
    """Names that occur more than once."""
    return sorted({name for name in names if names.count(name) > 1})


_OF_OVERLAPS = ("capped", "paper")
"""Forms of the objectives whose second is the overlap that is scored."""

GanName: TypeAlias = Annotated[str, registered("GAN")]
StrategyName: TypeAlias = Annotated[str, registered("strategy", head)]


class DatasetSpec(Strict):
    """Which real images, at which size."""

    name: str
    image_size: int = Field(32, ge=8, le=1024)
    data_dir: str | None = None
    options: dict[str, Scalar] = Field({})

    @field_validator("name")
    @classmethod
    def _name(cls, value: str, info: ValidationInfo) -> str:
        if value.casefold().endswith("mnist3d"):
            raise ValueError(f"'{value}' is a set of volumes, but 2-D images are needed")
        # A path to the user's own data is checked when it is opened.
        return value if "/" in value else known_name("dataset", value, info)


class TrainSpec(Strict):
    """Which GANs, how long, how wide.

    ``batch``, ``d_updates`` and ``ema_*`` of None mean the row's own defaults (gan_zoo);
    ``width`` multiplies every channel count, ``learning_rate`` both learning rates. ``precision``
    bfloat16 is automatic mixed precision, tf32 lets NVIDIA cards round the inputs of convolutions,
    auto is bfloat16 where a device computes faster in it, else float32. ``compile`` runs the
    networks through torch.compile, auto where a GPU is faster with it. ``ema`` "fitted" lets an
    average warm up in short trainings, "row" does not; None is "fitted", and whatever it was in a
    training that goes on. ``vary`` trains every GAN in variations (:mod:`ensgan.config.vary`).
    """

    gans: list[str] | Literal["all"] = "all"
    plugins: list[str] = Field([])
    steps: int = Field(100_000, ge=1, le=10**9)
    snapshots: int = Field(5, ge=1, le=10_000)
    width: float = Field(1.0, gt=0, le=4)
    batch: int | None = Field(None, ge=2, le=10**6)
    d_updates: int | None = Field(None, ge=1, le=1000)
    learning_rate: float = Field(1.0, gt=0, le=1000)
    ema_start: int | None = Field(None, ge=0, le=10**9)
    ema_decay: float | None = Field(None, ge=0, lt=1)
    resume_every: int | None = Field(None, ge=1, le=10**9)
    weights: Literal["ema", "raw"] = "ema"
    fake_labels: Literal["uniform", "training"] = "uniform"
    precision: PrecisionName = "float32"
    ema: Literal["fitted", "row"] | None = None
    compile: Literal[True, False, "auto"] = False
    overrides: dict[GanName, GanOverrides] = Field({})
    vary: dict[str, Any] | list[dict[str, Any]] | None = None

    @field_validator("vary", mode="before")
    @classmethod
    def _vary(cls, value: Any, info: ValidationInfo) -> Any:
        if value is not None:
            check_vary(value, (info.context or {}).get("field of a part"))
        return value

    @field_validator("gans")
    @classmethod
    def _gans(cls, value: list[str] | str, info: ValidationInfo) -> list[str] | str:
        if isinstance(value, str):
            return value
        known = (info.context or {}).get("GAN", value)
        problems = [unknown_name("GAN", name, known) for name in value if name not in known]
        if twice := repeated(value):
            problems.append(f"repeated GANs: {', '.join(twice)}")
        if problems:
            raise ValueError("; ".join(problems))
        return value

    @field_validator("snapshots")
    @classmethod
    def _divides(cls, value: int, info: ValidationInfo) -> int:
        steps = info.data.get("steps")
        if steps is not None and steps % value:
            near = max(value, steps // value * value)
            raise ValueError(
                f"{value} snapshots do not divide {steps} steps: use {near} or {near + value} steps"
            )
        return value


class SampleSpec(Strict):
    """How many images each member generates (None: as many as the training split has)."""

    count: int | None = Field(None, ge=2, le=10**7)
    labels: Literal["training", "uniform"] = "training"


class EmbedSpec(Strict):
    """Which extractor turns images into vectors."""

    extractor: Annotated[str, registered("extractor")] = "random"
    weights: str | None = None


class ScoreSpec(Strict):
    """Density and coverage.

    ``classes`` ``per-class`` scores within each class only: an image of the wrong class is then
    near to nothing. Data of one class are scored ``joint``. ``resamples`` random parts of the
    points and images are scored too, for intervals of both objectives (``ensgan select
    --bootstrap``). ``consistency_floor``: a classifier of real images must find the class asked for
    in this share of a member's images, or the rule ``validated`` leaves the member out.
    ``approximate_inter`` is the share of each member's balls from which overlaps are estimated;
    those on which the front depends are scored exactly.
    """

    k: int = Field(5, ge=1, le=10**6)
    backend: Literal["auto", "faiss", "torch"] = "auto"
    memory_gb: float = Field(2.0, gt=0, le=10**6)
    resamples: int = Field(0, ge=0, le=10**6)
    classes: Literal["joint", "per-class"] = "joint"
    consistency_floor: float | None = Field(None, ge=0, le=1)
    approximate_inter: float | None = Field(None, gt=0, lt=1)

    @field_validator("classes", "approximate_inter")
    @classmethod
    def _resampled(cls, value: Any, info: ValidationInfo) -> Any:
        if value not in ("joint", None) and info.data.get("resamples"):
            raise ValueError(f"{value} has no resamples: set score.resamples to 0")
        return value


class SearchSpec(Strict):
    """The ensemble search.

    ``objectives`` is the form of the two objectives (``inter`` belongs to density and coverage,
    ``components`` to ``frechet``); ``third`` adds one to keep small: the number of members, the
    numbers in their weight files, or the seconds that their images took.
    """

    sampler: Annotated[str, registered("sampler")] = "ensemble"
    trials: int = Field(1000, ge=1, le=10**9)
    inter: Literal["symmetric", "directed"] = "symmetric"
    min_size: int = Field(2, ge=2, le=10**6)
    max_size: int | None = Field(None, ge=2, le=10**6)
    objectives: Annotated[str, AfterValidator(form_name), registered("form of the objectives")] = (
        DEFAULT_FORM
    )
    components: int = Field(32, ge=1, le=10**6)
    third: Literal["members", "parameters", "seconds"] | None = None

    @field_validator("max_size")
    @classmethod
    def _sizes(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and value < info.data.get("min_size", 2):
            raise ValueError(f"max_size {value} is below min_size {info.data['min_size']}")
        return value


class SelectSpec(Strict):
    """The rule that picks G*: ``validated`` from a shortlist, the others from the front.

    ``candidates`` is the most that the shortlist holds. ``points`` and ``repeats`` are for the rule
    ``downstream``: how many front points (evenly spread) are tried, with how many classifiers each.
    """

    rule: Annotated[str, registered("rule", head)] = "validated"
    candidates: int = Field(60, ge=2, le=10_000)
    points: int = Field(20, ge=1, le=10**6)
    repeats: int = Field(3, ge=1, le=10_000)


class EvaluateSpec(Strict):
    """The downstream proof; ``ensgan evaluate`` makes an option of every field."""

    strategies: list[StrategyName] = Field(
        ["real", "best-single", "all", "random:5", "selected"], description="What to train on."
    )
    repeats: int = Field(20, ge=1, le=10_000, description="Classifiers per strategy.")
    epochs: int = Field(100, ge=1, le=10**6, description="Epochs at most.")
    batch: int = Field(64, ge=2, le=10**6, description="Images per step.")
    width: int = Field(64, ge=4, le=256, description="Channels of the first stage (64: ResNet-18).")
    images_per_epoch: int | None = Field(
        None, ge=2, le=10**9, description="Images per epoch; as many as the training split has."
    )
    labels: Literal["training", "uniform"] = Field(
        "training", description="Classes of synthetic images: as in the training split, or uniform."
    )
    n_times: int = Field(1, ge=1, le=1000, description="Factor on the number of synthetic images.")
    weights: Literal["own", "uniform", "by-intra", "learned"] = Field(
        "own", description="Member weights; own: as each strategy says."
    )
    sampling: Literal["fresh", "bank"] | None = Field(
        None,
        description="Members' images: fresh in every epoch, or of their bank; by worth and cost.",
    )
    memory_mb: int = Field(
        2048, ge=1, le=10**9, description="Most memory for a classifier's images, MiB."
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description="cpu, cuda, cuda:N, or auto: a GPU where there is one.",
    )
    precision: PrecisionName = Field(
        "auto", description="Number format; auto: bfloat16 where the device is faster in it."
    )


class TrackSpec(Strict):
    """Where results are recorded; uri None means MLFLOW_TRACKING_URI or SQLite in the storage.

    ``show_real`` puts a row of real training images above the recorded image grids.
    """

    uri: str | None = None
    experiment: str = "ensgan"
    show_real: bool = False


class ClusterSpec(Strict):
    """How trials are scheduled.

    Trials start by ``priority`` (GAN → rank, higher first, others 0), then the longest first, at
    most ``max_concurrent`` at once. ``gpus_per_trial`` may be a fraction, or ``auto``: each GAN
    gets the part of a GPU that its memory needs, more when that was not enough. One process trains
    at most ``gans_per_process`` that share one (docs/cluster.md). ``retries`` counts losses
    of a trial's process without progress between them; losses of a node are not counted.
    ``autoscaling`` says that nodes may join later. ``scheduler`` ``asha`` is Tune's: it stops GANs
    whose Intra-d is in the worse half at a snapshot; ``fifo`` trains every GAN to its end.
    """

    cpus_per_trial: float = Field(1.0, gt=0, le=10**6)
    gpus_per_trial: float | Literal["auto"] = 0.0
    gans_per_process: Annotated[int, Field(ge=1, le=1000)] | Literal["auto"] = "auto"
    max_concurrent: int | None = Field(None, ge=1, le=10**6)
    priority: dict[GanName, int] = Field({})
    retries: int = Field(2, ge=0, le=1000)
    autoscaling: bool = False
    scheduler: Literal["fifo", "asha"] = "fifo"

    @field_validator("gpus_per_trial")
    @classmethod
    def _gpus(cls, value: float | str) -> float | str:
        if isinstance(value, str):
            return value
        if not 0 <= value <= 10**6 or (value > 1 and value != int(value)):
            raise ValueError(f"{value:g} GPUs: use auto, a part of one (0.25), or a whole number")
        return value


class SweepSpec(Strict):
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

    @field_validator("search")
    @classmethod
    def _of_estimates(cls, value: SearchSpec, info: ValidationInfo) -> SearchSpec:
        score = info.data.get("score")
        if score is not None and score.approximate_inter and value.objectives not in _OF_OVERLAPS:
            raise ValueError(
                f"objectives {value.objectives} know no estimated overlaps: use "
                f"{' or '.join(_OF_OVERLAPS)}, or leave score.approximate_inter out"
            )
        return value

    @field_validator("members")
    @classmethod
    def _pool(cls, value: list[ExternalSpec], info: ValidationInfo) -> list[ExternalSpec]:
        train = info.data.get("train")
        names = [member.name for member in value if member.name]
        problems = []
        if twice := repeated(names):
            problems.append(f"repeated names: {', '.join(twice)}")
        known = (info.context or {}).get("GAN", ())
        problems += [f"'{name}' is the name of a GAN of the zoo" for name in names if name in known]
        if train is not None and not train.gans and not value:
            problems.append("none, and train.gans names no GAN: list some, or write 'all'")
        if problems:
            raise ValueError("; ".join(problems))
        return value
