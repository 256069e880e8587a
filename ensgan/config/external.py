"""Members of a pool that its sweep does not train: section ``members`` of a sweep file."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from ensgan.config.vary import Strict


class ExternalSpec(Strict):
    """A generator trained elsewhere that joins the pool, or the members of another sweep.

    Either ``images`` (a folder, ``.npz`` or ``.npy``), a ``generator`` that makes them:
    ``FILE.py:NAME``, ``package.module:NAME``, a TorchScript or a ``torch.export`` file, whose code
    is run, or a finished ``sweep`` (its name in the storage, or its folder) on the same data. Its
    members are called ``SWEEP+MEMBER``, or ``PREFIX+MEMBER``; without a ``name`` all of them join.
    ``seed``, ``batch`` and ``range`` are of the generator; ``licence`` and ``source`` go onto the
    ensemble's card.
    """

    sweep: str | None = None
    prefix: str | None = Field(None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=80)
    name: str = Field("", pattern=r"^[A-Za-z0-9._+@~-]*$", max_length=120, validate_default=True)
    images: str | None = None
    generator: str | None = Field(None, validate_default=True)
    seed: int = Field(0, ge=0, lt=2**31)
    batch: int = Field(64, ge=1, le=10**7)
    range: Literal["auto", "unit", "signed"] = "auto"
    licence: str | None = None
    source: str | None = None

    @field_validator("name")
    @classmethod
    def _named(cls, value: str, info: ValidationInfo) -> str:
        of_sweep = info.data.get("sweep") is not None
        if not value and not of_sweep:
            raise ValueError("is required")
        if of_sweep and value and "+" not in value:
            raise ValueError(f"'{value}': members of a sweep are called SWEEP+MEMBER")
        if not of_sweep and not re.match(r"^[A-Za-z0-9][^@~]{,79}$", value):
            raise ValueError(
                f"'{value}' must begin with a letter or digit and have neither @ nor ~, which "
                "stand for snapshots and variations, and at most 80 signs"
            )
        return value

    @field_validator("generator")
    @classmethod
    def _one_of_three(cls, value: str | None, info: ValidationInfo) -> str | None:
        given = [value, info.data.get("images"), info.data.get("sweep")]
        if sum(one is not None for one in given) != 1:
            name = info.data.get("name", "")
            raise ValueError(
                f"member '{name}' needs either images (a folder or file) or a generator that "
                "makes them, or a sweep"
            )
        return value
