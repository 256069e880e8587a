"""What a sweep is: a YAML file read strictly into a validated tree.

Names (GANs, data sets, extractors, samplers …) are checked against the registries that the caller
passes as *known names*, so that this module stays below them and one reading reports every
problem of a file at once.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from ensgan.errors import ConfigError, unknown_name

KnownNames: TypeAlias = Mapping[str, Collection[str]]
"""Registry kind (``"GAN"``, ``"dataset"``, ``"extractor"``, ``"sampler"``, ``"rule"``) → names."""

Scalar: TypeAlias = bool | int | float | str | None


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _known(kind: str, name: str, info: ValidationInfo) -> str:
    known = (info.context or {}).get(kind)
    if known is not None and name not in known:
        raise ValueError(unknown_name(kind, name, known))
    return name


class DatasetSpec(_Strict):
    """Which real images, at which size."""

    name: str
    image_size: int = Field(32, ge=8, le=1024)
    data_dir: str | None = None
    options: dict[str, Scalar] = {}

    @field_validator("name")
    @classmethod
    def _name(cls, value: str, info: ValidationInfo) -> str:
        # A path to the user's own data is checked when it is opened.
        return value if "/" in value else _known("dataset", value, info)


class GanOverrides(_Strict):
    """Settings of training that a row may take for itself; None keeps the sweep's value."""

    width: float | None = Field(None, gt=0, le=4)
    steps: int | None = Field(None, ge=1)
    batch: int | None = Field(None, ge=2)
    d_updates: int | None = Field(None, ge=1)
    learning_rate: float | None = Field(None, gt=0)
    ema_start: int | None = Field(None, ge=0)
    ema_decay: float | None = Field(None, ge=0, lt=1)


class TrainSpec(_Strict):
    """Which GANs, how long, how wide.

    ``batch``, ``d_updates`` and ``ema_*`` of None mean the row's own defaults (gan_zoo);
    ``width`` multiplies every channel count, ``learning_rate`` both learning rates.
    """

    gans: list[str] | Literal["all"] = "all"
    plugins: list[str] = []
    steps: int = Field(100_000, ge=1)
    snapshots: int = Field(5, ge=1)
    width: float = Field(1.0, gt=0, le=4)
    batch: int | None = Field(None, ge=2)
    d_updates: int | None = Field(None, ge=1)
    learning_rate: float = Field(1.0, gt=0)
    ema_start: int | None = Field(None, ge=0)
    ema_decay: float | None = Field(None, ge=0, lt=1)
    resume_every: int | None = Field(None, ge=1)
    weights: Literal["ema", "raw"] = "ema"
    overrides: dict[str, GanOverrides] = {}

    @field_validator("gans")
    @classmethod
    def _gans(cls, value: list[str] | str, info: ValidationInfo) -> list[str] | str:
        if isinstance(value, str):
            return value
        problems = []
        known = (info.context or {}).get("GAN")
        if known is not None:
            problems = [unknown_name("GAN", name, known) for name in value if name not in known]
        repeated = sorted({name for name in value if value.count(name) > 1})
        if repeated:
            problems.append(f"repeated GANs: {', '.join(repeated)}")
        if not value:
            problems.append("names no GAN: list some, or write 'all'")
        if problems:
            raise ValueError("; ".join(problems))
        return value

    @field_validator("overrides")
    @classmethod
    def _overrides(
        cls, value: dict[str, GanOverrides], info: ValidationInfo
    ) -> dict[str, GanOverrides]:
        for name in value:
            _known("GAN", name, info)
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


class SampleSpec(_Strict):
    """How many images each member generates (None: as many as the training split has)."""

    count: int | None = Field(None, ge=2)
    labels: Literal["training", "uniform"] = "training"


class EmbedSpec(_Strict):
    """Which extractor turns images into vectors."""

    extractor: str = "random"
    weights: str | None = None

    @field_validator("extractor")
    @classmethod
    def _extractor(cls, value: str, info: ValidationInfo) -> str:
        return _known("extractor", value, info)


class ScoreSpec(_Strict):
    """Density and coverage."""

    k: int = Field(5, ge=1)
    backend: Literal["auto", "faiss", "torch"] = "auto"
    memory_gb: float = Field(2.0, gt=0)


class SearchSpec(_Strict):
    """The ensemble search."""

    sampler: str = "ensemble"
    trials: int = Field(1000, ge=1)
    inter: Literal["symmetric", "directed"] = "symmetric"
    min_size: int = Field(2, ge=2)
    max_size: int | None = Field(None, ge=2)

    @field_validator("sampler")
    @classmethod
    def _sampler(cls, value: str, info: ValidationInfo) -> str:
        return _known("sampler", value, info)

    @field_validator("max_size")
    @classmethod
    def _sizes(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and value < info.data.get("min_size", 2):
            raise ValueError(f"max_size {value} is below min_size {info.data['min_size']}")
        return value


class SelectSpec(_Strict):
    """The rule that picks G* from the front."""

    rule: str = "knee"

    @field_validator("rule")
    @classmethod
    def _rule(cls, value: str, info: ValidationInfo) -> str:
        _known("rule", value.partition(":")[0], info)
        return value


class EvaluateSpec(_Strict):
    """The downstream proof."""

    strategies: list[str] = ["real", "best-single", "all", "random:5", "selected"]
    repeats: int = Field(20, ge=1)
    epochs: int = Field(100, ge=1)
    batch: int = Field(64, ge=2)
    width: int = Field(64, ge=4, le=256)
    images_per_epoch: int | None = Field(None, ge=2)

    @field_validator("strategies")
    @classmethod
    def _strategies(cls, value: list[str], info: ValidationInfo) -> list[str]:
        problems = []
        for name in value:
            try:
                _known("strategy", name.partition(":")[0], info)
            except ValueError as error:
                problems.append(str(error))
        if problems:
            raise ValueError("; ".join(problems))
        return value


class TrackSpec(_Strict):
    """Where results are recorded; uri None means MLFLOW_TRACKING_URI or SQLite in the storage."""

    uri: str | None = None
    experiment: str = "ensgan"


class ClusterSpec(_Strict):
    """How trials are scheduled.

    ``cpus_per_trial`` × concurrent trials never exceeds the cluster; ``gpus_per_trial`` may be a
    fraction.
    """

    cpus_per_trial: float = Field(1.0, gt=0)
    gpus_per_trial: float = Field(0.0, ge=0)
    max_concurrent: int | None = Field(None, ge=1)
    retries: int = Field(2, ge=0)


class SweepSpec(_Strict):
    """A whole sweep, as ``sweeps/*.yaml`` writes it."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=80)
    seed: int = Field(0, ge=0, lt=2**31)
    dataset: DatasetSpec
    train: TrainSpec = TrainSpec()
    sample: SampleSpec = SampleSpec()
    embed: EmbedSpec = EmbedSpec()
    score: ScoreSpec = ScoreSpec()
    search: SearchSpec = SearchSpec()
    select: SelectSpec = SelectSpec()
    evaluate: EvaluateSpec = EvaluateSpec()
    track: TrackSpec = TrackSpec()
    cluster: ClusterSpec = ClusterSpec()


def load_spec(
    path: Path, *, settings: Sequence[str] = (), known: KnownNames | None = None
) -> SweepSpec:
    """Read a sweep file and apply ``a.b=value`` settings on top.

    Args:
        path: the YAML file.
        settings: overrides, each ``dotted.key=value`` with a YAML value.
        known: names to check against; None checks the form only.

    Raises:
        ConfigError: with every problem of the file and the settings.
    """
    tree = read_tree(path)
    problems = [problem for text in settings if (problem := _apply(tree, text))]
    return parse_spec(tree, source=str(path), known=known, problems=problems)


def read_tree(path: Path) -> dict[str, Any]:
    """The mapping a YAML file holds, unvalidated.

    Raises:
        ConfigError: the file is missing, not YAML, or not a mapping.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(str(path), ["no such file"]) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), [f"cannot be read: {error}"]) from error
    except yaml.YAMLError as error:
        raise ConfigError(str(path), [f"is not YAML: {' '.join(str(error).split())}"]) from error
    if not isinstance(tree, dict):
        raise ConfigError(str(path), [f"must be a mapping, not {type(tree).__name__}"])
    return tree


def parse_spec(
    tree: Mapping[str, Any],
    *,
    source: str = "sweep",
    known: KnownNames | None = None,
    problems: Sequence[str] = (),
) -> SweepSpec:
    """Validate a mapping.

    Raises:
        ConfigError: with ``problems`` (found before) and all found here.
    """
    try:
        spec = SweepSpec.model_validate(tree, context=dict(known or {}))
    except ValidationError as error:
        found = [_sentence(dict(item)) for item in error.errors(include_url=False)]
        raise ConfigError(source, [*problems, *found]) from error
    if problems:
        raise ConfigError(source, problems)
    return spec


def _apply(tree: dict[str, Any], text: str) -> str | None:
    """Set one dotted key; the problem as a sentence, or None."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        return f"--set '{text}': write it as dotted.key=value"
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError:
        return f"--set '{text}': the value is not YAML"
    *parents, last = key.split(".")
    node = tree
    for parent in parents:
        child = node.setdefault(parent, {})
        if not isinstance(child, dict):
            return f"--set '{text}': '{parent}' is a value, not a section"
        node = child
    node[last] = parsed
    return None


def _sentence(item: dict[str, Any]) -> str:
    """One pydantic error as one sentence: the key, what is wrong, the offending value."""
    location = [str(part) for part in item["loc"]]
    # Branches of a union show up as extra location parts; users know only their own keys.
    location = [part for part in location if not part.startswith(("list[", "literal["))]
    key = ".".join(location)
    if item["type"] == "extra_forbidden":
        near = difflib.get_close_matches(location[-1], _keys(location[:-1]), n=1, cutoff=0.5)
        hint = f": did you mean '{near[0]}'?" if near else ""
        return f"{key}: unknown key{hint}"
    if item["type"] == "missing":
        return f"{key}: is required"
    message = str(item["msg"]).removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if item["type"] == "value_error":
        return f"{key}: {message}"
    return f"{key}: {message}, not {item['input']!r}"


def _keys(location: Sequence[str]) -> list[str]:
    """The keys the section at ``location`` knows."""
    model: type[BaseModel] = SweepSpec
    for part in location:
        if model is TrainSpec and part == "overrides":
            model = GanOverrides
        elif part in model.model_fields:
            annotation = model.model_fields[part].annotation
            if isinstance(annotation, type) and issubclass(annotation, BaseModel):
                model = annotation
    return list(model.model_fields)
