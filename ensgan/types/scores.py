"""The scores of a pool of generators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ensgan.errors import DataError
from ensgan.files import read_npz, write_npz
from ensgan.types.arrays import Float64Array, Int64Array, UInt8Array
from ensgan.types.resamples import Resamples

_RESAMPLED = ("points", "masks", "density", "directed")


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
        overlap: float64 [M,M], ½·(directed + directedᵀ), symmetric, nan on the diagonal.
        k: neighbour that sets the radius.
        n_real: N.
        counts: int64 [M], images of each member.
        extractor: content key of the embedding, empty when unknown.
        contents: content keys of the real set and of each member (1+M), empty when unknown.
        resamples: the same scores on random parts of the points and images, if they were asked for.

    Source: method.md §3–4 restates Naeem et al. 2020 (density, coverage) and
    Tronchin et al. 2026 (the two objectives).
    """

    names: tuple[str, ...]
    density: Float64Array
    coverage: Float64Array
    masks: UInt8Array
    directed: Float64Array
    overlap: Float64Array
    k: int
    n_real: int
    counts: Int64Array
    extractor: str = ""
    contents: tuple[str, ...] = ()
    resamples: Resamples | None = None

    def __post_init__(self) -> None:
        m, width = len(self.names), (self.n_real + 7) // 8
        expected = {
            "density": (m,),
            "coverage": (m,),
            "masks": (m, width),
            "directed": (m, m),
            "overlap": (m, m),
            "counts": (m,),
        }
        wrong = [
            f"{name} has shape {getattr(self, name).shape}, expected {shape}"
            for name, shape in expected.items()
            if getattr(self, name).shape != shape
        ]
        if len(set(self.names)) != m:
            repeated = sorted({name for name in self.names if self.names.count(name) > 1})
            wrong.append(f"member names repeat: {', '.join(repeated)}")
        if len(self.contents) not in (0, 1 + m):
            wrong.append(f"{len(self.contents)} content keys for {1 + m} sets")
        if self.resamples is not None:
            wrong += self.resamples.problems(m, width)
        if wrong:
            raise DataError("scores do not fit together: " + "; ".join(wrong))

    def __len__(self) -> int:
        return len(self.names)

    @property
    def intra_d(self) -> Float64Array:
        """Intra-d of every member alone, float64 [M]."""
        return harmonic_mean(self.density, self.coverage)

    def save(self, path: Path) -> None:
        """Write ``scores.npz`` (the contract others' tools read)."""
        equal = len(set(self.counts.tolist())) == 1
        optional = {} if self.resamples is None else vars(self.resamples)
        write_npz(
            path,
            names=np.array(self.names),
            density=self.density,
            coverage=self.coverage,
            masks=self.masks,
            directed=self.directed,
            overlap=self.overlap,
            k=np.int64(self.k),
            n_real=np.int64(self.n_real),
            n_fake=np.int64(self.counts[0] if equal else -1),
            counts=self.counts,
            extractor=np.array(self.extractor),
            contents=np.array(self.contents, dtype=str),
            **{f"resampled_{name}": array for name, array in optional.items()},
        )

    @classmethod
    def load(cls, path: Path) -> PoolScores:
        """Read ``scores.npz``; ``counts`` may be absent when every member has ``n_fake`` images.

        Older files lack ``contents`` and the ``resampled_…`` arrays.

        Raises:
            DataError: the file is missing, truncated, its arrays do not fit together, or an older
                version counted them with ``--fast``, which is not exact.
        """
        fields = ("density", "coverage", "masks", "directed", "overlap")
        arrays = read_npz(path, ("names", *fields, "k", "n_real", "n_fake"))
        if arrays.get("fast", False):
            raise DataError(
                f"{path} holds inexact scores of an older version's --fast: score the pool again"
            )
        names = tuple(str(name) for name in arrays["names"])
        counts = arrays.get("counts", np.full(len(names), int(arrays["n_fake"])))
        return cls(
            names,
            density=arrays["density"].astype(np.float64),
            coverage=arrays["coverage"].astype(np.float64),
            masks=arrays["masks"].astype(np.uint8),
            directed=arrays["directed"].astype(np.float64),
            overlap=arrays["overlap"].astype(np.float64),
            k=int(arrays["k"]),
            n_real=int(arrays["n_real"]),
            counts=counts.astype(np.int64),
            extractor=str(arrays.get("extractor", "")),
            contents=tuple(str(key) for key in arrays.get("contents", ())),
            resamples=_resamples(path, arrays),
        )

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
            overlap=self.overlap[pairs],
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
            overlap=0.5 * (directed + directed.T),
            n_real=int(kept.sum()),
            resamples=None,
        )


def _resamples(path: Path, arrays: dict[str, npt.NDArray[Any]]) -> Resamples | None:
    found = [name for name in _RESAMPLED if f"resampled_{name}" in arrays]
    if not found:
        return None
    if len(found) < len(_RESAMPLED):
        missing = ", ".join(f"resampled_{name}" for name in _RESAMPLED if name not in found)
        raise DataError(f"{path} holds a part of its resamples only, it lacks {missing}")
    points, masks, density, directed = (arrays[f"resampled_{name}"] for name in _RESAMPLED)
    return Resamples(
        points.astype(np.uint8),
        masks.astype(np.uint8),
        density.astype(np.float64),
        directed.astype(np.float32),
    )


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
