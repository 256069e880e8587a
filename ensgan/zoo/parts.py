"""Parts of a GAN row: frozen values that can be written as JSON and read back, never code.

The parts that are numbers alone stand here too: how a row is optimised, and how its generator's
weights are averaged.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, TypeAlias, TypeVar

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from typing_extensions import dataclass_transform

from ensgan.errors import InputError, unknown_name
from ensgan.inputs import field_problems

PartType = TypeVar("PartType", bound="Part")
PartClass = TypeVar("PartClass", bound="type[Part]")
Setting: TypeAlias = bool | int | float | str | tuple[float, ...]
"""Value of a field that can be varied."""
_CLASSES: dict[str, type[Part]] = {}


class Part:
    """Base of every part: a frozen dataclass of numbers, strings, tuples and other parts.

    The annotations of its fields are pydantic's types, which bound its numbers whatever the data.
    """

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    def broken_rules(self) -> list[str]:
        """Bounds that fields of this part, or of parts in it, exceed: one sentence per field."""
        return [
            f"{type(part).__name__}: {problem}"
            for part in self.parts()
            for problem in field_problems(part)
        ]

    def parts(self) -> Iterator[Part]:
        """This part, and all those in it."""
        yield self
        for _, entry in self._fields():
            for part in entry if isinstance(entry, tuple) else (entry,):
                if isinstance(part, Part):
                    yield from part.parts()

    def settings(self) -> dict[str, Any]:
        """Numbers, choices and tuples of numbers of the parts in this one, as ``ADA.target``.

        Of a part that occurs twice (both players' Adam), those of the first.
        """
        settings: dict[str, Any] = {}
        for part in self.parts():
            if part is not self:
                for name, value in part._fields():
                    if _is_setting(value):
                        settings.setdefault(f"{type(part).__name__}.{name}", value)
        return settings

    def changed(self: PartType, key: str, value: Any) -> PartType:
        """This part with a field, ``ADA.target``, of every such part in it replaced.

        Raises:
            InputError: a part refuses the value.
        """
        new = {name: _changed(entry, key, value) for name, entry in self._fields()}
        part, _, field = key.partition(".")
        if type(self).__name__ == part:
            new[field] = value
        return dataclasses.replace(self, **new)

    def converted(self, key: str, value: Any) -> Setting:
        """A value as the field ``ADA.target`` has it, ``[1, 2]`` as a tuple of two floats.

        Raises:
            InputError: it is of another type, or a part refuses it.
        """
        current = self.settings()[key]
        converted = _like(current, value)
        if converted is None:
            raise InputError(f"{key} is {_type_of(current)} like {current!r}, not {value!r}")
        broken = self.changed(key, converted).broken_rules()
        if broken:
            raise InputError(broken[0])
        return converted

    def to_json(self) -> dict[str, Any]:
        """The part as a mapping: ``{"part": class name, field: value …}``."""
        fields = {name: _encode(value) for name, value in self._fields()}
        return {"part": type(self).__name__, **fields}

    def _fields(self) -> Iterator[tuple[str, Any]]:
        for field in dataclasses.fields(self):
            yield field.name, getattr(self, field.name)


def _is_setting(value: Any) -> bool:
    numbers = value if isinstance(value, tuple) and value else (value,)
    return isinstance(value, (bool, str)) or all(isinstance(n, (int, float)) for n in numbers)


def _changed(entry: Any, key: str, value: Any) -> Any:
    if isinstance(entry, tuple):
        return tuple(_changed(each, key, value) for each in entry)
    return entry.changed(key, value) if isinstance(entry, Part) else entry


def _like(like: Any, value: Any) -> Setting | None:
    """``value`` as the type of ``like``; None where it is of another."""
    if isinstance(like, tuple):
        numbers = isinstance(value, (list, tuple)) and len(value) == len(like)
        return tuple(float(number) for number in value) if numbers else None
    if isinstance(like, (bool, str)) or isinstance(value, (bool, str, list)):
        return value if type(value) is type(like) else None
    if isinstance(like, int):
        return int(value) if value == int(value) else None
    return float(value)


def _type_of(value: Any) -> str:
    if isinstance(value, tuple):
        return f"a list of {len(value)} numbers"
    kinds = {bool: "true or false", int: "a whole number", float: "a number"}
    return kinds.get(type(value), "a text")


@dataclass_transform(frozen_default=True)
def register_part(part_class: PartClass) -> PartClass:
    """Class decorator: makes a frozen dataclass, readable from JSON under its class name.

    Raises:
        InputError: another class already has that name.
    """
    name = part_class.__name__
    if name in _CLASSES:
        raise InputError(f"there is already a GAN part named '{name}': choose another class name")
    if "__dataclass_fields__" not in vars(part_class):
        dataclass(frozen=True)(part_class)  # changes the class itself
    _CLASSES[name] = part_class
    return part_class


def part_from_json(value: Any, kind: type[PartType]) -> PartType:
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
    known = {field.name for field in dataclasses.fields(part_class)}
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
        return part_from_json(value, Part)
    if isinstance(value, list):
        return tuple(_decode(entry) for entry in value)
    return value


Decay: TypeAlias = Annotated[float, Field(ge=0, lt=1)]


@register_part
class Adam(Part):
    """Adam without weight decay."""

    learning_rate: PositiveFloat = 2e-4
    betas: tuple[Decay, Decay] = (0.5, 0.999)
    eps: PositiveFloat = 1e-6


@register_part
class Optimiser(Part):
    """Rates, batch and order of updates.

    Attributes:
        generator, discriminator: their Adam.
        batch: images per update.
        d_updates_per_step: discriminator updates for one generator update.
        d_first: whether the discriminator's phase comes first in a step.
    """

    generator: Adam = Adam()
    discriminator: Adam = Adam()
    batch: Annotated[int, Field(ge=2)] = 64  # batch statistics and pairs of images need two
    d_updates_per_step: PositiveInt = 5
    d_first: bool = True


class WeightAverage(Part, ABC):
    """Exponential moving average of the generator: e ← d·e + (1 − d)·w after each step."""

    averages_buffers: bool = False

    @abstractmethod
    def decay(self, step: int, batch: int) -> float:
        """d at the zero-based step; 0 copies the weights."""


@register_part
class NoAverage(WeightAverage):
    """The weights themselves."""

    def decay(self, step: int, batch: int) -> float:
        """Always 0."""
        return 0.0


@register_part
class FixedAverage(WeightAverage):
    """A fixed decay from ``start`` on, over parameters and buffers (Brock et al. 2019)."""

    decay_rate: Decay = 0.9999
    start: NonNegativeInt = 1000

    averages_buffers = True

    def decay(self, step: int, batch: int) -> float:
        """0 before ``start``."""
        return self.decay_rate if step >= self.start else 0.0


@register_part
class WarmedAverage(WeightAverage):
    """A decay that grows to ``decay_rate``: min(decay_rate, (1 + t)/(10 + t)) at step t.

    A fixed decay of .9999 from step 1,000 is after 5,000 steps still two thirds the generator of
    step 1,000; this one always spans about the last ninth of the training.
    """

    decay_rate: Decay = 0.9999

    averages_buffers = True

    def decay(self, step: int, batch: int) -> float:
        """See the class."""
        return min(self.decay_rate, (1 + step) / (10 + step))


@register_part
class HalfLifeAverage(WeightAverage):
    """A half-life in images that grows with training; buffers are copied (Karras et al. 2020).

    d = 0.5^(B / max(min(half_life, ramp_up·B·step), 1e-8)).
    """

    half_life_images: PositiveFloat = 500_000.0
    ramp_up: PositiveFloat = 0.05

    def decay(self, step: int, batch: int) -> float:
        """See the class."""
        half_life = min(self.half_life_images, self.ramp_up * batch * step)
        return float(0.5 ** (batch / max(half_life, 1e-8)))
