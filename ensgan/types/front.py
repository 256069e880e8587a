"""Pareto fronts and the point chosen from one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ensgan.errors import DataError
from ensgan.files import read_json, write_json
from ensgan.types.objectives import Objective, measure_name, read_objective


@dataclass(frozen=True)
class FrontPoint:
    """One Pareto-optimal ensemble: its members (pool order) and exact objective values.

    ``intra_d`` and ``inter_d`` are the first two objectives, whatever the front's form is.
    ``weights`` are the members' shares (sum 1) or None for uniform; ``measures`` are further
    named values: a third objective, or the Fréchet distances behind the first two.
    """

    members: tuple[str, ...]
    intra_d: float
    inter_d: float
    density: float
    coverage: float
    weights: tuple[float, ...] | None = None
    measures: tuple[tuple[str, float], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The point as ``front.json`` holds it."""
        values: dict[str, Any] = {
            "members": list(self.members),
            "intra_d": self.intra_d,
            "inter_d": self.inter_d,
            "density": self.density,
            "coverage": self.coverage,
        }
        if self.weights is not None:
            values["weights"] = list(self.weights)
        if self.measures:
            values["measures"] = dict(self.measures)
        return values


@dataclass(frozen=True)
class Front:
    """A Pareto front and how it was found; points by descending Intra-d.

    Attributes:
        objectives: names of the objectives, e.g. ``("intra_d:max", "inter_d:min:symmetric")``;
            a third one is minimised, and its values are among the points' ``measures``.
        sampler, seed: what searched; ``trials`` evaluations, of them ``distinct`` subsets.
        seconds: wall time of the search.
        hypervolume: area dominated up to ``reference``; with a third objective a volume, whose
            third side is measured in parts of the reference (the whole pool's value).
        pool: content key of the scores the front belongs to, empty when unknown.
        history: (seconds, evaluations, hypervolume) over the search.
        reference: the reference point, one value an objective that the hypervolume counts.
    """

    objectives: tuple[str, ...]
    sampler: str
    seed: int
    trials: int
    distinct: int
    seconds: float
    hypervolume: float
    points: tuple[FrontPoint, ...]
    pool: str = ""
    history: tuple[tuple[float, int, float], ...] = ()
    reference: tuple[float, ...] = (0.0, 1.0)

    def __iter__(self) -> Iterator[FrontPoint]:
        return iter(self.points)

    def __len__(self) -> int:
        return len(self.points)

    @property
    def axes(self) -> tuple[Objective, ...]:
        """The two or three objectives as people read them."""
        texts = self.objectives or ("intra_d:max", "inter_d:min")
        return tuple(read_objective(text, maximise=i == 0) for i, text in enumerate(texts))

    @property
    def third(self) -> str | None:
        """Key of the third objective, None for two."""
        return self.axes[2].key if len(self.axes) > 2 else None

    def values(self, point: FrontPoint) -> tuple[float, ...]:
        """A point's objectives, one a value of ``axes``.

        Raises:
            DataError: the point lacks the third objective.
        """
        if self.third is None:
            return point.intra_d, point.inter_d
        measures = dict(point.measures)
        if self.third not in measures:
            raise DataError(
                f"the front's third objective is {self.third}, but the point of "
                f"{', '.join(point.members)} does not tell it: search again"
            )
        return point.intra_d, point.inter_d, measures[self.third]

    def cells(self, point: FrontPoint) -> dict[str, str]:
        """Everything that is known about a point, as text by column heading, objectives first."""
        first, second, *more = self.values(point)
        numbers = {self.axes[0].name: first, self.axes[1].name: second}
        measures = {key: value for key, value in point.measures if key != self.third}
        if "precision" not in measures:  # else density and coverage hold precision and recall
            numbers |= {"density": point.density, "coverage": point.coverage}
        numbers |= {measure_name(key): value for key, value in measures.items()}
        third = {axis.name: f"{v:.6g}" for axis, v in zip(self.axes[2:], more, strict=True)}
        return {name: f"{value:.4f}" for name, value in numbers.items()} | third

    def to_json(self) -> dict[str, Any]:
        """The content of ``front.json``."""
        return {
            "objectives": list(self.objectives),
            "sampler": self.sampler,
            "seed": self.seed,
            "trials": self.trials,
            "distinct": self.distinct,
            "seconds": self.seconds,
            "hypervolume": self.hypervolume,
            "reference": list(self.reference),
            "pool": self.pool,
            "history": [list(entry) for entry in self.history],
            "points": [point.to_json() for point in self.points],
        }

    @classmethod
    def from_json(cls, value: Any, source: str = "front") -> Front:
        """Read the content of ``front.json``.

        Raises:
            DataError: a field is missing or has the wrong form.
        """
        try:
            points = tuple(_front_point(point) for point in value["points"])
            return cls(
                tuple(value["objectives"]),
                str(value["sampler"]),
                int(value["seed"]),
                int(value["trials"]),
                int(value["distinct"]),
                float(value["seconds"]),
                float(value["hypervolume"]),
                points,
                str(value.get("pool", "")),
                tuple((float(s), int(n), float(h)) for s, n, h in value.get("history", ())),
                tuple(float(each) for each in value.get("reference", (0.0, 1.0))),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{source} is not a front file: {error!r}") from error

    def save(self, path: Path) -> None:
        """Write ``front.json`` atomically."""
        write_json(path, self.to_json())

    @classmethod
    def load(cls, path: Path) -> Front:
        """Read ``front.json``.

        Raises:
            DataError: the file is missing or is no front.
        """
        return cls.from_json(read_json(path), str(path))


def _front_point(value: Any) -> FrontPoint:
    weights = value.get("weights")
    return FrontPoint(
        tuple(str(name) for name in value["members"]),
        float(value["intra_d"]),
        float(value["inter_d"]),
        float(value["density"]),
        float(value["coverage"]),
        None if weights is None else tuple(float(weight) for weight in weights),
        tuple((str(name), float(number)) for name, number in value.get("measures", {}).items()),
    )


@dataclass(frozen=True)
class Selection:
    """G*: the chosen point of a front, by which rule, and why in one sentence."""

    rule: str
    point: FrontPoint
    reason: str
    alternatives: Sequence[FrontPoint] = ()
