"""Names of registries, as sections of a spec check them against the validation context."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import AfterValidator, ValidationInfo

from ensgan.errors import unknown_name


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
