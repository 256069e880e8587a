"""Pareto fronts and the point chosen from one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

import ensgan.types.names as forms
from ensgan.errors import DataError, problem_of
from ensgan.files import MISFITS, read_json, write_json
from ensgan.text import counted
from ensgan.types.display import scatter_svg, table_html

if TYPE_CHECKING:
    import pandas

_DENSITY_AND_COVERAGE = ("intra_d", "inter_d")


@dataclass(frozen=True)
class FrontPoint:
    """One Pareto-optimal ensemble: its members (pool order) and exact objective values.

    Attributes:
        members: names.
        first, second: the first two objectives, in the front's own form.
        density, coverage: of the members' joined samples; None where the form does not know them.
        weights: the members' shares (sum 1), or None for uniform.
        measures: further named values: a third objective, or what the form reports besides.
        keys: which objectives ``first`` and ``second`` are, as the front file spells them.
    """

    members: tuple[str, ...]
    first: float
    second: float
    density: Annotated[float | None, Field(ge=0)] = None
    coverage: Annotated[float | None, Field(ge=0, le=1)] = None
    weights: tuple[Annotated[float, Field(gt=0, le=1)], ...] | None = None
    measures: tuple[tuple[str, float], ...] = ()
    keys: tuple[str, str] = _DENSITY_AND_COVERAGE

    @property
    def intra_d(self) -> float:
        """The first objective, where it is Intra-d.

        Raises:
            DataError: the front is of another form.
        """
        return self._only("intra_d", self.first)

    @property
    def inter_d(self) -> float:
        """The second objective, where it is Inter-d.

        Raises:
            DataError: the front is of another form.
        """
        return self._only("inter_d", self.second)

    def _only(self, key: str, value: float) -> float:
        if key not in self.keys:
            raise DataError(
                f"the point's objectives are {' and '.join(self.keys)}, not {key}: read its "
                "'first' and 'second'"
            )
        return value

    @property
    def value_keys(self) -> tuple[str, str]:
        """What files call the first two objectives in a point of this form."""
        return self.keys if self.keys == _DENSITY_AND_COVERAGE else ("first", "second")

    def named(self) -> dict[str, float]:
        """Every value by the name that files use: objectives, density, coverage, measures.

        Objectives are called ``intra_d`` and ``inter_d`` where they are those, else ``first`` and
        ``second``.
        """
        first, second = self.value_keys
        values = {first: self.first, second: self.second}
        for name in ("density", "coverage"):
            if (value := getattr(self, name)) is not None:
                values[name] = value
        return values | dict(self.measures)

    def to_json(self) -> dict[str, Any]:
        """The point as ``front.json`` holds it."""
        return {
            "members": list(self.members),
            **replace(self, measures=()).named(),
            **({} if self.weights is None else {"weights": list(self.weights)}),
            **({"measures": dict(self.measures)} if self.measures else {}),
        }

    @classmethod
    def from_json(cls, value: Any, keys: tuple[str, str] = _DENSITY_AND_COVERAGE) -> FrontPoint:
        """Read a point of ``front.json``; older files of any form say ``intra_d``, ``inter_d``."""
        first, second = (
            value[name if name in value else earlier]
            for name, earlier in zip(("first", "second"), _DENSITY_AND_COVERAGE, strict=True)
        )
        measures = tuple(value.get("measures", {}).items())
        named = {"first": first, "second": second, "measures": measures, "keys": keys}
        point = _POINT.validate_python({**value, **named})
        members, weights = point.members, point.weights
        if not members or len({*members}) < len(members):
            raise ValueError(f"members must be different names, not {str(members)[:80]}")
        if weights is not None and not (
            len(weights) == len(members) and abs(math.fsum(weights) - 1) < 1e-6
        ):
            raise ValueError(f"weights {str(weights)[:80]} are no shares of {len(members)} members")
        return point


_POINT = TypeAdapter(FrontPoint)


@dataclass(frozen=True)
class Front:
    """A Pareto front and how it was found; points from the best first objective to the worst.

    Attributes:
        objectives: names of the objectives, e.g. ``("intra_d:max", "inter_d:min:symmetric")``;
            a third one is minimised, and its values are among the points' ``measures``.
        sampler, seed: what searched; ``trials`` evaluations, of them ``distinct`` subsets.
        seconds: wall time of the search.
        hypervolume: area dominated up to ``reference``; with a third objective a volume, whose
            third side is measured in parts of the reference (the whole pool's value).
        pool: content key of the scores the front belongs to, empty when unknown.
        history: (seconds, evaluations, hypervolume) over the search.
        reference: the reference point, one value per objective that the hypervolume counts.
        named_form: name of the form of the first two objectives, where ``objectives`` alone do
            not tell it.
        readings: name and meaning of each objective; empty where the keys alone say them.
    """

    objectives: tuple[str, ...]
    sampler: str
    seed: int
    trials: Annotated[int, Field(ge=0)]
    distinct: Annotated[int, Field(ge=0)]
    seconds: Annotated[float, Field(ge=0)]
    hypervolume: float
    points: tuple[FrontPoint, ...]
    pool: str = ""
    history: tuple[tuple[float, int, float], ...] = ()
    reference: tuple[float, ...] = (0.0, 1.0)
    named_form: str = ""
    readings: tuple[tuple[str, str], ...] = ()

    def __iter__(self) -> Iterator[FrontPoint]:
        return iter(self.points)

    def __len__(self) -> int:
        return len(self.points)

    def __repr__(self) -> str:
        axes = ", ".join(axis.name for axis in self.axes)
        return (
            f"Front({counted(len(self), 'ensemble')}; {axes}; {self.sampler}, {self.trials} trials)"
        )

    def _repr_html_(self) -> str:
        """The first two objectives as a plot, and the points as a table."""
        first, second = (axis.name for axis in self.axes[:2])
        best = sorted(self.points, key=lambda point: point.second)
        x, y = [point.second for point in best], [point.first for point in best]
        rows = [(" + ".join(point.members), *self.values(point)) for point in self]
        names = ("members", *(axis.name for axis in self.axes))
        plot = scatter_svg(x, y, second, first)
        return plot + table_html(names, rows, repr(self))

    def to_frame(self) -> pandas.DataFrame:
        """One row per point: its members and every value that is known of it."""
        import pandas

        rows = [
            {"members": point.members, "size": len(point.members)} | point.named() for point in self
        ]
        return pandas.DataFrame(rows)

    @property
    def form(self) -> str:
        """Name of the form of the first two objectives."""
        return forms.form_name(self.named_form or forms.form_of(self.objectives))

    @property
    def axes(self) -> tuple[forms.Objective, ...]:
        """The two or three objectives as people read them."""
        texts = self.objectives or (forms.INTRA_D.text, forms.INTER_D.text)
        readings = self.readings or (None,) * len(texts)
        return tuple(
            forms.read_objective(text, maximise=i == 0, reading=reading)
            for i, (text, reading) in enumerate(zip(texts, readings, strict=True))
        )

    @property
    def third(self) -> str | None:
        """Key of the third objective, None for two."""
        return self.axes[2].key if len(self.axes) > 2 else None

    def values(self, point: FrontPoint) -> tuple[float, ...]:
        """A point's objectives, one value per axis.

        Raises:
            DataError: the point lacks the third objective.
        """
        if self.third is None:
            return point.first, point.second
        measures = dict(point.measures)
        if self.third not in measures:
            raise DataError(
                f"the front's third objective is {self.third}, but the point of "
                f"{', '.join(point.members)} does not tell it: search again"
            )
        return point.first, point.second, measures[self.third]

    def cells(self, point: FrontPoint) -> dict[str, str]:
        """Everything that is known about a point, as text by column heading, objectives first."""
        numbers = dict(zip((axis.name for axis in self.axes), self.values(point), strict=True))
        third = {axis.name: f"{numbers.pop(axis.name):.6g}" for axis in self.axes[2:]}
        rest = {k: v for k, v in point.named().items() if k not in (*point.value_keys, self.third)}
        numbers |= {forms.measure_name(key): value for key, value in rest.items()}
        return {name: f"{value:.4f}" for name, value in numbers.items()} | third

    def to_json(self) -> dict[str, Any]:
        """The content of ``front.json``."""
        value = vars(self) | {"points": [point.to_json() for point in self.points]}
        form, readings = value.pop("named_form"), value.pop("readings")
        # What the objectives' keys say already is not said again.
        texts = {name: text for name, text in (("form", form), ("readings", readings)) if text}
        return value | texts

    @classmethod
    def from_json(cls, value: Any, source: str = "front") -> Front:
        """Read the content of ``front.json``.

        Raises:
            DataError: a field is missing or has the wrong form.
        """
        try:
            keys = tuple(str(text).partition(":")[0] for text in value["objectives"][:2])
            first, second = keys if len(keys) == 2 else _DENSITY_AND_COVERAGE
            if not isinstance(value["points"], list):
                raise ValueError("points must be a list")
            points = [FrontPoint.from_json(point, (first, second)) for point in value["points"]]
            named = {"points": points, "named_form": value.get("form", "")}
            return _FRONT.validate_python({**value, **named})
        except ValidationError as error:
            reason = problem_of(error.errors()[0])
            raise DataError(f"{source} is not a front file: {reason}") from error
        except MISFITS as error:
            raise DataError(f"{source} is not a front file: {error!r}") from error

    def save(self, path: Path | str) -> None:
        """Write ``front.json`` atomically."""
        write_json(Path(path), self.to_json())

    @classmethod
    def load(cls, path: Path | str) -> Front:
        """Read ``front.json``.

        Raises:
            DataError: the file is missing or is no front.
        """
        return cls.from_json(read_json(Path(path)), str(path))


_FRONT = TypeAdapter(Front)


@dataclass(frozen=True)
class Selection:
    """G*: the chosen point of a front, by which rule, and why in one sentence."""

    rule: str
    point: FrontPoint
    reason: str
    alternatives: Sequence[FrontPoint] = ()

    def to_json(self) -> dict[str, Any]:
        """The point as front files spell it, with the rule and the reason."""
        return {**self.point.to_json(), "rule": self.rule, "reason": self.reason}
