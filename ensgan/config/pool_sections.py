"""The sections of a sweep that make its pool: data, training, generators from elsewhere.

Names are checked against the validation context (registry kind → known names), so that this module
stays below the registries.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from ensgan.errors import unknown_name

Scalar: TypeAlias = bool | int | float | str | None


class Section(BaseModel):
    """A section of a spec: frozen, and nothing more than its fields."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def _known(kind: str, name: str, info: ValidationInfo) -> str:
    known = (info.context or {}).get(kind)
    if known is not None and name not in known:
        raise ValueError(unknown_name(kind, name, known))
    return name


def registered(kind: str, part: Callable[[str], str] = str) -> AfterValidator:
    """Checks a text whose ``part`` must be a known name of that kind."""

    def check(value: str, info: ValidationInfo) -> str:
        _known(kind, part(value), info)
        return value

    return AfterValidator(check)


def head(value: str) -> str:
    """What stands before the parameter: ``random`` of ``random:5``."""
    return value.partition(":")[0]


def repeated_names(names: list[str]) -> list[str]:
    """Names that occur more than once."""
    return sorted({name for name in names if names.count(name) > 1})


GanName: TypeAlias = Annotated[str, registered("GAN")]


class DatasetSpec(Section):
    """Which real images, at which size."""

    name: str
    image_size: int = Field(32, ge=8, le=1024)
    data_dir: str | None = None
    options: dict[str, Scalar] = {}

    @field_validator("name")
    @classmethod
    def _name(cls, value: str, info: ValidationInfo) -> str:
        if value.casefold().endswith("mnist3d"):
            raise ValueError(f"'{value}' is a set of volumes, but 2-D images are needed")
        # A path to the user's own data is checked when it is opened.
        return value if "/" in value else _known("dataset", value, info)


class GanOverrides(Section):
    """Settings of training that a row may take for itself; None keeps the sweep's value."""

    width: float | None = Field(None, gt=0, le=4)
    steps: int | None = Field(None, ge=1)
    batch: int | None = Field(None, ge=2)
    d_updates: int | None = Field(None, ge=1)
    learning_rate: float | None = Field(None, gt=0)
    ema_start: int | None = Field(None, ge=0)
    ema_decay: float | None = Field(None, ge=0, lt=1)


class TrainSpec(Section):
    """Which GANs, how long, how wide.

    ``batch``, ``d_updates`` and ``ema_*`` of None mean the row's own defaults (gan_zoo);
    ``width`` multiplies every channel count, ``learning_rate`` both learning rates. ``precision``
    bfloat16 is automatic mixed precision, tf32 lets NVIDIA cards round the inputs of convolutions,
    auto is bfloat16 where a device computes faster in it, else float32. ``compile`` runs the
    networks through torch.compile. ``ema`` "fitted" lets an average warm up in a training shorter
    than the published one, "row" does not; None is "fitted", and whatever it was in a training
    that goes on.
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
    fake_labels: Literal["uniform", "training"] = "uniform"
    precision: Literal["auto", "float32", "tf32", "bfloat16"] = "float32"
    ema: Literal["fitted", "row"] | None = None
    compile: bool = False
    overrides: dict[GanName, GanOverrides] = {}

    @field_validator("gans")
    @classmethod
    def _gans(cls, value: list[str] | str, info: ValidationInfo) -> list[str] | str:
        if isinstance(value, str):
            return value
        known = (info.context or {}).get("GAN", value)
        problems = [unknown_name("GAN", name, known) for name in value if name not in known]
        if repeated := repeated_names(value):
            problems.append(f"repeated GANs: {', '.join(repeated)}")
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


class ExternalSpec(Section):
    """A generator trained elsewhere that joins the pool.

    Either ``images`` (a folder, ``.npz`` or ``.npy``) or a ``generator`` that makes them:
    ``FILE.py:NAME``, ``package.module:NAME``, a TorchScript or a ``torch.export`` file, whose code
    is run. ``seed``, ``batch`` and ``range`` are of the generator; ``licence`` and ``source`` go
    onto the ensemble's card.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$", max_length=80)
    images: str | None = None
    generator: str | None = Field(None, validate_default=True)
    seed: int = Field(0, ge=0, lt=2**31)
    batch: int = Field(64, ge=1)
    range: Literal["auto", "unit", "signed"] = "auto"
    licence: str | None = None
    source: str | None = None

    @field_validator("generator")
    @classmethod
    def _one_of_two(cls, value: str | None, info: ValidationInfo) -> str | None:
        images = info.data.get("images")
        if (value is None) == (images is None):
            name = info.data.get("name", "")
            raise ValueError(
                f"member '{name}' needs either images (a folder or file) or a generator that "
                "makes them"
            )
        return value


class SampleSpec(Section):
    """How many images each member generates (None: as many as the training split has)."""

    count: int | None = Field(None, ge=2)
    labels: Literal["training", "uniform"] = "training"
