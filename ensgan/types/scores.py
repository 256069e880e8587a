"""The scores of a pool of generators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ensgan.errors import DataError
from ensgan.files import read_npz, write_npz
from ensgan.inputs import explained
from ensgan.text import counted
from ensgan.types.display import table_html
from ensgan.types.images import BoolArray, Float32Array, Float64Array, Int64Array, UInt8Array
from ensgan.types.resamples import Resamples

if TYPE_CHECKING:
    import pandas

_ARRAYS = {
    "density": np.float64,
    "coverage": np.float64,
    "masks": np.uint8,
    "directed": np.float64,
}
_RESAMPLED = {
    "points": np.uint8,
    "masks": np.uint8,
    "density": np.float64,
    "directed": np.float32,
}
"""What ``scores.npz`` holds; the second ones with the prefix ``resampled_``."""


def harmonic_mean(density: npt.ArrayLike, coverage: npt.ArrayLike) -> Float64Array:
    """d = 2·density·coverage / (density + coverage), and 0 where both are 0 (elementwise)."""
    a, b = np.asarray(density, np.float64), np.asarray(coverage, np.float64)
    total = a + b
    return np.where(total > 0, 2 * a * b / np.where(total > 0, total, 1), 0.0)


@dataclass(frozen=True)
class PoolScores:
    """Everything the search needs to know about a pool of M members and N real points.

    Attributes:
        names: member names, in pool order.
        density: float64 [M], density(R, S_g); can exceed 1.
        coverage: float64 [M], coverage(R, S_g) in [0, 1].
        masks: uint8 [M, ceil(N/8)], bit i (``numpy.packbits`` order) = real point i is covered.
        directed: float64 [M,M], ``directed[g,h]`` = d(S_g, S_h) with g carrying the balls;
            nan on the diagonal.
        k: neighbour that sets the radius.
        n_real: N.
        counts: int64 [M], images of each member.
        extractor: content key of the embedding, empty when unknown.
        contents: content keys of the real set and of each member (1+M), empty when unknown.
        resamples: the same scores on random parts of the points and images, if they were asked for.
        spread: float32 [M,M], standard errors of ``directed`` where it was estimated from a share
            of the balls, 0 where it is exact; None where all of it is.

    Source: method.md §3–4 restates Naeem et al. 2020 (density, coverage) and
    Tronchin et al. 2026 (the two objectives).
    """

    names: tuple[str, ...]
    density: Float64Array
    coverage: Float64Array
    masks: UInt8Array
    directed: Float64Array
    k: int
    n_real: int
    counts: Int64Array
    extractor: str = ""
    contents: tuple[str, ...] = ()
    resamples: Resamples | None = None
    spread: Float32Array | None = None

    def __post_init__(self) -> None:
        m, width = len(self.names), (self.n_real + 7) // 8
        pair = (m, m)
        shapes = {"density": (m,), "coverage": (m,), "masks": (m, width), "counts": (m,)}
        shapes |= {"directed": pair} if self.spread is None else {"directed": pair, "spread": pair}
        wrong = _misfits(self, shapes)
        if len(set(self.names)) != m:
            repeated = sorted({name for name in self.names if self.names.count(name) > 1})
            wrong.append(f"member names repeat: {', '.join(repeated)}")
        if len(self.contents) not in (0, 1 + m):
            wrong.append(f"{len(self.contents)} content keys for {1 + m} sets")
        if self.resamples is not None:
            rounds = len(self.resamples)
            shapes = {"points": (rounds, width), "masks": (rounds, m, width)}
            shapes |= {"density": (rounds, m), "directed": (rounds, m, m)}
            wrong += _misfits(self.resamples, shapes, "resampled ")
        if wrong:
            raise DataError("scores do not fit together: " + "; ".join(wrong))

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        return f"PoolScores({counted(len(self), 'member')}, {self.n_real} real points, k {self.k})"

    def _repr_html_(self) -> str:
        """One row per member, the best first."""
        order = np.argsort(-self.intra_d, kind="stable")
        columns = (self.names, self.intra_d, self.density, self.coverage, self.counts)
        rows = [[column[i] for column in columns] for i in order]
        names = ("member", "Intra-d", "density", "coverage", "images")
        return table_html(names, rows, repr(self))

    def to_frame(self) -> pandas.DataFrame:
        """One row per member, in pool order: Intra-d, density, coverage, images, mean Inter-d."""
        import pandas

        columns: dict[str, Any] = {
            "intra_d": self.intra_d,
            "density": self.density,
            "coverage": self.coverage,
        }
        others = np.nansum(self.overlap, axis=1) / max(1, len(self) - 1)
        columns |= {"images": self.counts, "mean_inter_d": others}
        return pandas.DataFrame(columns, index=pandas.Index(self.names, name="member"))

    @property
    def overlap(self) -> Float64Array:
        """½·(directed + directedᵀ), float64 [M,M], nan on the diagonal; made at every call."""
        return (self.directed + self.directed.T) / 2

    @property
    def estimated(self) -> BoolArray:
        """Pairs that were estimated, bool [M,M], symmetric."""
        if self.spread is None:
            return np.zeros(self.directed.shape, np.bool_)
        return np.asarray((self.spread > 0) | (self.spread.T > 0))

    @property
    def intra_d(self) -> Float64Array:
        """Intra-d of every member alone as published, float64 [M]."""
        return harmonic_mean(self.density, self.coverage)

    @property
    def capped_density(self) -> Float64Array:
        """Densities of at most 1, float64 [M].

        A density above 1 says that images crowd the middle of the data, not that they are better
        than the data; uncapped, it hides missing coverage in the harmonic mean.
        """
        return np.minimum(self.density, 1.0)

    @property
    def capped_intra_d(self) -> Float64Array:
        """Intra-d of every member alone with its capped density, float64 [M], in [0, 1]."""
        return harmonic_mean(self.capped_density, self.coverage)

    def save(self, path: Path | str) -> None:
        """Write ``scores.npz`` (the contract others' tools read)."""
        equal = len(set(self.counts.tolist())) == 1
        optional = {} if self.resamples is None else vars(self.resamples)
        spread = {} if self.spread is None else {"spread": self.spread}
        write_npz(
            Path(path),
            names=np.array(self.names),
            **{name: getattr(self, name) for name in _ARRAYS},
            k=np.int64(self.k),
            n_real=np.int64(self.n_real),
            n_fake=np.int64(self.counts[0] if equal else -1),
            counts=self.counts,
            extractor=np.array(self.extractor),
            contents=np.array(self.contents, dtype=str),
            **{f"resampled_{name}": array for name, array in optional.items()},
            **spread,
        )

    @classmethod
    def load(cls, path: Path | str) -> PoolScores:
        """Read ``scores.npz``; ``counts`` may be absent when every member has ``n_fake`` images.

        Older files lack ``contents`` and the ``resampled_…`` arrays, and hold ``overlap``, which
        follows from ``directed``.

        Raises:
            DataError: the file is missing, truncated, its arrays do not fit together, or an early
                version counted them with ``--fast``, which was not exact.
        """
        path = Path(path)
        arrays = read_npz(path, ("names", *_ARRAYS, "k", "n_real", "n_fake"))
        if np.any(arrays.get("fast", False)):
            raise DataError(f"{path} holds inexact scores of an early --fast: score the pool again")
        with explained(f"{path} holds no scores of a pool"):
            names = tuple(str(name) for name in arrays["names"])
            counts = arrays.get("counts", np.full(len(names), int(arrays["n_fake"])))
            scores = cls(
                names,
                **{name: arrays[name].astype(kind) for name, kind in _ARRAYS.items()},
                k=int(arrays["k"]),
                n_real=int(arrays["n_real"]),
                counts=counts.astype(np.int64),
                extractor=str(arrays.get("extractor", "")),
                contents=tuple(str(key) for key in arrays.get("contents", ())),
                resamples=_resamples(path, arrays),
                spread=arrays["spread"].astype(np.float32) if "spread" in arrays else None,
            )
        _check_values(path, scores, arrays.get("overlap"))
        return scores

    def part(self, names: Sequence[str]) -> PoolScores:
        """The scores of these members alone, in this order."""
        rows = [self.names.index(name) for name in names]
        pairs = np.ix_(rows, rows)
        contents = self.contents and (self.contents[0], *(self.contents[1 + r] for r in rows))
        return replace(
            self,
            names=tuple(names),
            density=self.density[rows],
            coverage=self.coverage[rows],
            masks=self.masks[rows],
            directed=self.directed[pairs],
            spread=None if self.spread is None else self.spread[pairs],
            counts=self.counts[rows],
            contents=contents or (),
            resamples=None if self.resamples is None else self.resamples.part(rows),
        )

    def resample(self, number: int) -> PoolScores:
        """The scores of one round of ``resamples``, over the real points that it keeps.

        Raises:
            DataError: the scores hold no resamples.
        """
        if self.resamples is None:
            raise DataError("the scores hold no resamples: score with --resamples 200")
        kept = np.unpackbits(self.resamples.points[number], count=self.n_real).astype(np.bool_)
        drawn = np.unpackbits(self.resamples.masks[number], axis=1, count=self.n_real)[:, kept]
        directed = self.resamples.directed[number].astype(np.float64)
        return replace(
            self,
            density=self.resamples.density[number],
            coverage=drawn.mean(axis=1),
            masks=np.packbits(drawn, axis=1),
            directed=directed,
            n_real=int(kept.sum()),
            resamples=None,
        )


def _check_values(path: Path, scores: PoolScores, overlap: Float64Array | None) -> None:
    """Refuse values that no pool has; ``overlap`` as an older file holds it.

    Raises:
        DataError: which, and what they may be.
    """
    pairs = ~np.eye(len(scores), dtype=np.bool_)  # a member is not compared with itself
    ranges = {
        "density": (scores.density, scores.n_real),
        "coverage": (scores.coverage, 1),
        "directed": (scores.directed[pairs], 2),
        "spread": (np.zeros(0) if scores.spread is None else scores.spread[pairs], 2),
    }
    for name, (values, most) in ranges.items():
        if not np.all((values >= 0) & (values <= most)):  # NaN is in no range
            raise DataError(f"{path}: {name} must be numbers from 0 to {most}; score again")
    mean = scores.overlap
    if overlap is not None and (
        overlap.shape != mean.shape or not np.allclose(mean[pairs], overlap[pairs], atol=1e-6)
    ):
        raise DataError(f"{path}: overlap is not the mean of directed both ways; score again")


def _misfits(owner: Any, shapes: dict[str, tuple[int, ...]], prefix: str = "") -> list[str]:
    return [
        f"{prefix}{name} has shape {getattr(owner, name).shape}, expected {shape}"
        for name, shape in shapes.items()
        if getattr(owner, name).shape != shape
    ]


def _resamples(path: Path, arrays: dict[str, npt.NDArray[Any]]) -> Resamples | None:
    missing = [f"resampled_{name}" for name in _RESAMPLED if f"resampled_{name}" not in arrays]
    if len(missing) == len(_RESAMPLED):
        return None
    if missing:
        raise DataError(f"{path} holds a part of its resamples only, it lacks {', '.join(missing)}")
    kinds = _RESAMPLED.items()
    return Resamples(**{name: arrays[f"resampled_{name}"].astype(kind) for name, kind in kinds})


@dataclass(frozen=True)
class PairPrecision:
    """Precision and recall of a pool's members, each with its own balls.

    Attributes:
        names: member names, in pool order.
        precision: float64 [M], share of a member's images inside some real ball.
        masks: uint8 [M, ceil(N/8)] (``numpy.packbits`` order), real points inside some ball of
            the member: their share is its recall.
        between: float64 [M,M], ``between[g,h]`` = share of h's images inside some ball of g.
        points: N.

    Source: Kynkäänniemi et al. 2019.
    """

    names: tuple[str, ...]
    precision: Float64Array
    masks: UInt8Array
    between: Float64Array
    points: int
