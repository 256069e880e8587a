"""Parts of a GAN row: frozen values that can be written as JSON and read back, never code."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

from ensgan.errors import InputError, unknown_name

PartClass = TypeVar("PartClass", bound="type[Part]")

_CLASSES: dict[str, type[Part]] = {}


class Part:
    """Base of every part: a frozen dataclass of numbers, strings, tuples and other parts."""

    def to_json(self) -> dict[str, Any]:
        """The part as a mapping: ``{"part": class name, field: value …}``."""
        values: dict[str, Any] = {"part": type(self).__name__}
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            values[field.name] = _encode(getattr(self, field.name))
        return values


def too_low(part: Part, **lowest: float) -> list[str]:
    """A sentence for each named field of a part that is no number or below its lowest value."""
    found = []
    for name, low in lowest.items():
        value = getattr(part, name)
        if not (isinstance(value, (int, float)) and value >= low):
            found.append(f"{type(part).__name__}: {name} must be at least {low:g}, not {value!r}")
    return found


def not_positive(part: Part, *names: str) -> list[str]:
    """A sentence for each named field of a part that is no number above 0."""
    return [
        f"{type(part).__name__}: {name} must be above 0, not {value!r}"
        for name in names
        if not (isinstance(value := getattr(part, name), (int, float)) and value > 0)
    ]


def register_part(part_class: PartClass) -> PartClass:
    """Class decorator: makes a part readable from JSON under its class name.

    Raises:
        InputError: another class already has that name.
    """
    name = part_class.__name__
    if name in _CLASSES:
        raise InputError(f"there is already a GAN part named '{name}': choose another class name")
    _CLASSES[name] = part_class
    return part_class


def part_from_json(value: Any, kind: type[Part] = Part) -> Any:
    """Read what :meth:`Part.to_json` wrote; the result is a ``kind``.

    Raises:
        InputError: unknown part, unknown or missing field, or a part of another kind.
    """
    if not isinstance(value, dict) or not isinstance(value.get("part"), str):
        raise InputError(f"a GAN part is a mapping with a 'part' name, not {value!r}")
    name = value["part"]
    if name not in _CLASSES:
        raise InputError(unknown_name("GAN part", name, _CLASSES))
    part_class = _CLASSES[name]
    if not issubclass(part_class, kind):
        raise InputError(f"'{name}' is not a {kind.__name__}")
    known = {field.name for field in dataclasses.fields(part_class)}  # type: ignore[arg-type]
    fields = {key: _decode(entry) for key, entry in value.items() if key != "part"}
    for key in fields:
        if key not in known:
            raise InputError(unknown_name(f"field of {name}", key, known))
    try:
        return part_class(**fields)
    except TypeError as error:
        raise InputError(f"{name} cannot be read: {error}") from error


def _encode(value: Any) -> Any:
    if isinstance(value, Part):
        return value.to_json()
    if isinstance(value, (tuple, list)):
        return [_encode(entry) for entry in value]
    return value


def _decode(value: Any) -> Any:
    if isinstance(value, dict):
        return part_from_json(value)
    if isinstance(value, list):
        return tuple(_decode(entry) for entry in value)
    return value
