"""Pareto fronts and the point chosen from one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ensgan.errors import DataError
from ensgan.files import read_json, write_json


@dataclass(frozen=True)
class FrontPoint:
    """One Pareto-optimal ensemble: its members (pool order) and exact objective values.

    ``weights`` are the members' shares (sum 1) or None for uniform; ``measures`` are further
    named values, e.g. the Fréchet distances behind the objectives.
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
        objectives: names of the objectives, e.g. ``("intra_d:max", "inter_d:min:symmetric")``.
        sampler, seed: what searched; ``trials`` evaluations, of them ``distinct`` subsets.
        seconds: wall time of the search.
        hypervolume: area dominated, reference point Intra-d 0, Inter-d 1.
        pool: content key of the scores the front belongs to, empty when unknown.
        history: (seconds, evaluations, hypervolume) over the search.
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

    def __iter__(self) -> Iterator[FrontPoint]:
        return iter(self.points)

    def __len__(self) -> int:
        return len(self.points)

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
