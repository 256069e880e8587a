"""The frozen values that the stages hand to one another."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ensgan.errors import DataError, InputError
from ensgan.files import read_json, read_npz, sha256_arrays, write_json, write_npz

UInt8Array = npt.NDArray[np.uint8]
Int64Array = npt.NDArray[np.int64]
Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+@-]*")


def harmonic_mean(density: npt.ArrayLike, coverage: npt.ArrayLike) -> Float64Array:
    """d = 2·density·coverage / (density + coverage), and 0 where both are 0 (elementwise)."""
    a, b = np.asarray(density, np.float64), np.asarray(coverage, np.float64)
    total = a + b
    return np.where(total > 0, 2 * a * b / np.where(total > 0, total, 1), 0.0)


@dataclass(frozen=True)
class ImageShape:
    """Square images: ``channels`` (1 grey, 3 RGB) by ``size`` × ``size`` pixels."""

    channels: int
    size: int

    def array_shape(self, n: int) -> tuple[int, ...]:
        """Shape of ``n`` stored images: [n,H,W] for grey, [n,H,W,C] otherwise."""
        base = (n, self.size, self.size)
        return base if self.channels == 1 else (*base, self.channels)


@dataclass(frozen=True, order=True)
class MemberId:
    """A generator of the pool: a GAN at one snapshot, written ``GAN@STEP``."""

    gan: str
    step: int

    def __str__(self) -> str:
        return f"{self.gan}@{self.step}"

    @classmethod
    def parse(cls, text: str) -> MemberId:
        """Read ``GAN@STEP``.

        Raises:
            InputError: the text has another form.
        """
        gan, _, step = text.rpartition("@")
        if not gan or not step.isdigit() or not _NAME.fullmatch(gan):
            raise InputError(f"'{text}' is not a member name: write GAN@STEP, e.g. SNGAN@20000")
        return cls(gan, int(step))


@dataclass(frozen=True)
class Samples:
    """Images with labels.

    Attributes:
        images: uint8 [n,H,W] (grey) or [n,H,W,C], 0…255.
        labels: int64 [n], class indices from 0.
        members: for generated images, which member made each: int64 [n] into ``member_names``.
        member_names: names of the members, empty when unknown.
    """

    images: UInt8Array
    labels: Int64Array
    members: Int64Array | None = None
    member_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.ndim not in (3, 4):
            raise DataError(
                f"images must be uint8 [n,H,W] or [n,H,W,C], not "
                f"{self.images.dtype} {list(self.images.shape)}"
            )
        if self.labels.shape != (len(self.images),):
            raise DataError(f"{len(self.images)} images but labels of shape {self.labels.shape}")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> ImageShape:
        """Shape of one image."""
        channels = 1 if self.images.ndim == 3 else self.images.shape[3]
        return ImageShape(channels, self.images.shape[1])

    @cached_property
    def key(self) -> str:
        """SHA-256 over images and labels."""
        return sha256_arrays(self.images, self.labels)

    def save(self, path: Path) -> None:
        """Write ``images``, ``labels`` and, where known, ``members``/``member_names`` (npz)."""
        extra: dict[str, npt.ArrayLike] = {}
        if self.members is not None:
            extra = {"members": self.members, "member_names": np.array(self.member_names)}
        write_npz(path, images=self.images, labels=self.labels, **extra)

    @classmethod
    def load(cls, path: Path) -> Samples:
        """Read what :meth:`save` wrote.

        Raises:
            DataError: the file is missing, truncated or has other arrays.
        """
        arrays = read_npz(path, ("images", "labels"))
        names = tuple(str(name) for name in arrays.get("member_names", np.array([], dtype=str)))
        return cls(
            arrays["images"], arrays["labels"].astype(np.int64), arrays.get("members"), names
        )


@dataclass(frozen=True)
class Dataset:
    """A real image set with its three splits, all at the GAN's size.

    Attributes:
        name: registry name or folder name.
        train, val, test: the splits; ``members`` is None.
        class_names: one name a class, in label order.
        licence: how the data may be used, empty when unknown.
        source: where it came from, for the record.
        modes: for ``phantom`` only, the known mode of every image by split name, int64 [n].
    """

    name: str
    train: Samples
    val: Samples
    test: Samples
    class_names: tuple[str, ...]
    licence: str = ""
    source: str = ""
    modes: dict[str, Int64Array] = field(default_factory=dict)

    @property
    def shape(self) -> ImageShape:
        """Shape of one image."""
        return self.train.shape

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @cached_property
    def key(self) -> str:
        """SHA-256 over the images and labels of all splits."""
        return sha256_arrays(
            *(array for split in self.splits().values() for array in (split.images, split.labels))
        )

    def splits(self) -> dict[str, Samples]:
        """The splits by name, in the order train, val, test."""
        return {"train": self.train, "val": self.val, "test": self.test}


@dataclass(frozen=True)
class Embeddings:
    """Feature vectors: float32 [n,D], and the content key of the extractor that made them."""

    features: Float32Array
    extractor: str

    def __post_init__(self) -> None:
        if self.features.ndim != 2:
            raise DataError(f"features must be [n,D], not {list(self.features.shape)}")

    def __len__(self) -> int:
        return len(self.features)


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
        )

    @classmethod
    def load(cls, path: Path) -> PoolScores:
        """Read ``scores.npz``; ``counts`` may be absent when every member has ``n_fake`` images.

        Raises:
            DataError: the file is missing, truncated or its arrays do not fit together.
        """
        fields = ("density", "coverage", "masks", "directed", "overlap")
        arrays = read_npz(path, ("names", *fields, "k", "n_real", "n_fake"))
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
        )


@dataclass(frozen=True)
class FrontPoint:
    """One Pareto-optimal ensemble: its members (pool order) and exact objective values.

    ``weights`` are the members' shares (sum 1) or None for uniform.
    """

    members: tuple[str, ...]
    intra_d: float
    inter_d: float
    density: float
    coverage: float
    weights: tuple[float, ...] | None = None

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
    )


@dataclass(frozen=True)
class Selection:
    """G*: the chosen point of a front, by which rule, and why in one sentence."""

    rule: str
    point: FrontPoint
    reason: str
    alternatives: Sequence[FrontPoint] = ()
