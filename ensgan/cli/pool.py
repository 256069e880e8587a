"""A pool as ``ensgan score`` and ``bundle`` read it, images embedded, and its scores shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import numpy as np
import torch
import typer
from rich.console import Group, RenderableType

from ensgan.caches import cache_folder
from ensgan.cli.output import LARGEST_SIDE, FittingTable, progress
from ensgan.data import DATASETS, image_set, load_dataset
from ensgan.data.pool import ImagePool, is_image_pool, read_pool
from ensgan.embedding import Extractor, embed, make_extractor
from ensgan.errors import InputError
from ensgan.metrics import PoolLabels, PoolMeasures
from ensgan.metrics.extend import feature_contents, labelled_contents
from ensgan.metrics.features import PoolFeatures, load_array, load_pool
from ensgan.text import counted
from ensgan.types import Dataset, Float32Array, Float64Array, PoolScores, UInt8Array

DataOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="NAME|DIR|FILE.npz",
        help="For pools of images: take the training images of this data set as the real ones.",
    ),
]
SizeOption: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--image-size",
        min=8,
        max=LARGEST_SIDE,
        help="For pools of images: side in pixels.  [default: as real images, --data: 32]",
    ),
]


@dataclass(frozen=True)
class RealSource:
    """Where the real images of a pool come from, when not from the pool's folder."""

    data: str | None = None
    data_dir: Path | None = None
    image_size: int | None = None
    accept_checksum: str | None = None

    def dataset(self) -> Dataset | None:
        """The named data set, None when none is named.

        Raises:
            InputError: there is none of that name, or it cannot be used.
        """
        if self.data is None:
            return None
        options = DATASETS.get(self.data).options if self.data in DATASETS else None
        takes = options is None or any(option.name == "accept_checksum" for option in options)
        accepted = self.accept_checksum if takes and not Path(self.data).is_dir() else None
        return load_dataset(
            self.data,
            root=self.data_dir,
            image_size=self.image_size or 32,
            options={} if accepted is None else {"accept_checksum": accepted},
        )


def read_images(folder: Path, real: RealSource) -> ImagePool:
    """A pool given as images.

    Raises:
        InputError: it holds features, or images that cannot be used.
    """
    if not is_image_pool(folder):
        raise InputError(
            f"{folder} is no pool of images: it needs real/ with images (or --data) and "
            "fake/NAME/ with images or fake/NAME.npz"
        )
    with progress("reading", "generators") as report:
        return read_pool(
            folder, dataset=real.dataset(), image_size=real.image_size, on_progress=report
        )


@dataclass(frozen=True)
class PoolSource:
    """Where a pool lies: features, or images with what embeds them.

    Attributes:
        path: file or folder.
        real: real images that are not in the pool's folder.
        extractor: name of the network that embeds images, on the GPU when there is one.
        weights: its weight file; None downloads or makes the weights (kept in the cache).
        held_out: real images never trained on, or their features.
        per_class: the labels are needed.
    """

    path: Path
    real: RealSource
    extractor: str
    weights: Path | None
    held_out: Path | None
    per_class: bool

    def read(self, scratch: Path, memory_bytes: int) -> PoolFeatures:
        """The features; what is larger than the memory is mapped, unpacked to ``scratch``.

        Raises:
            DataError: no pool, or one that cannot be read.
            InputError: real images given for a pool of features, no labels where they are needed,
                or an extractor that needs them.
        """
        if is_image_pool(self.path):
            return self._embedded()
        if self.real.data is not None:
            raise InputError(f"--data gives real images, but {self.path} holds features: drop it")
        pool = load_pool(self.path, scratch=scratch, memory_bytes=memory_bytes)
        if self.per_class and pool.labels is None:
            raise InputError(
                f"--classes per-class needs labels, which {self.path} lacks: add real_labels [N] "
                "and fake_labels [M,S] to features.npz, or score images in class folders"
            )
        held_out = None if self.held_out is None else load_array(self.held_out)
        labels = pool.labels if self.per_class else None
        contents = feature_contents(pool.real, pool.fakes, pool.names, labels)
        return replace(pool, contents=contents, labels=labels, held_out=held_out)

    def _embedded(self) -> PoolFeatures:
        """Features of images; ``held_out/`` of the pool is used unless other images are named."""
        images = read_images(self.path, self.real)
        labels: PoolLabels | None = None
        if self.per_class:
            unlabelled = [member.name for member in images.members if not member.labelled]
            if len(images.class_names) < 2 or unlabelled:
                raise InputError(
                    f"--classes per-class needs labelled images, and {self.path} has none for "
                    f"{', '.join(unlabelled) or 'the real ones'}: put them into class folders"
                )
            labels = images.real.labels, [member.samples.labels for member in images.members]
        held_out = self.held_out
        if held_out is None and (self.path / "held_out").is_dir():
            held_out = self.path / "held_out"
        sets = [images.real.images, *(member.samples.images for member in images.members)]
        if held_out is not None:
            sets.append(
                image_set.read_images(held_out, held_out.parent, images.real.shape, None)[0]
            )
        network = _extractor(self.extractor, self.weights, images)
        real, *fakes = _embed_all(sets, network)
        unseen = None if held_out is None else fakes.pop()
        names = tuple(member.name for member in images.members)
        contents = images.contents
        if labels is not None:
            contents = labelled_contents(contents, labels)
        return PoolFeatures(real, tuple(fakes), names, network.key, contents, unseen, labels)


def _embed_all(sets: Sequence[UInt8Array], network: Extractor) -> list[Float32Array]:
    """Features of sets of images; what was embedded before is read from the cache."""
    total, done = sum(map(len, sets)), 0
    features = []
    with progress("embedding", "images") as report:
        for images in sets:
            embedded = embed(
                images,
                network,
                cache=cache_folder() / "features",
                on_progress=lambda part, _, before=done: report(before + part, total),  # type: ignore[misc]
            )
            features.append(embedded.features)
            done += len(images)
            report(done, total)
    return features


def _extractor(name: str, weights: Path | None, pool: ImagePool) -> Extractor:
    if name == "medical" and weights is None and len(pool.class_names) < 2:
        raise InputError(
            "the extractor 'medical' is trained on labelled images, which this pool does not "
            "have: put the real images into class folders, give --weights, or choose another "
            "extractor"
        )
    real = pool.real
    dataset = Dataset("real", real, real, real, pool.class_names)
    return make_extractor(
        name,
        weights=weights,
        dataset=dataset,
        cache=cache_folder() / "extractors",
        device="cuda" if torch.cuda.is_available() else "cpu",
    )


def summary(
    measures: PoolMeasures, distances: dict[str, float], seconds: float
) -> dict[str, object]:
    """What ``ensgan score --json`` prints."""
    scores, classes = measures.scores, measures.by_class
    value: dict[str, object] = {
        "members": len(scores),
        "k": scores.k,
        "seconds": round(seconds, 3),
        **{name: _by_name(scores.names, each) for name, each in _columns(measures).items()},
    }
    if classes is not None:
        macro = zip(("density", "coverage"), classes.macro(), strict=True)
        value["macro"] = {name: _by_name(scores.names, each) for name, each in macro}
    if scores.spread is not None:
        value["overlaps"] = _estimates(scores)
    if distances:
        value["frechet"] = distances
    if scores.resamples is not None:
        value["resamples"] = len(scores.resamples)
    return value


def _estimates(scores: PoolScores) -> dict[str, Any]:
    """How many overlaps are exact, and the mean of all with its 95 % interval."""
    from ensgan.search import CONFIDENCE  # late: exact scores need nothing of the search

    assert scores.spread is not None
    pairs = max(1, len(scores) * (len(scores) - 1))
    left = int(np.count_nonzero(scores.estimated)) // 2
    mean = float(np.nansum(scores.directed)) / pairs
    # A member's errors come from its own balls, so they may all have the same sign: add them up.
    error = 1.96 * float(np.linalg.norm(scores.spread.astype(np.float64).sum(axis=1))) / pairs
    interval = [max(0.0, mean - error), mean + error]
    return {
        "exact": pairs // 2 - left,
        "estimated": left,
        "mean": mean,
        "mean_interval": interval,
        "front_confidence": CONFIDENCE,
    }


def _exactness(scores: PoolScores) -> str:
    """How exact the overlaps are, in a sentence."""
    estimates = _estimates(scores)
    low, high = estimates["mean_interval"]
    return (
        f"{estimates['exact']} overlaps exact, {estimates['estimated']} estimated; their mean is "
        f"{estimates['mean']:.4f} ({low:.4f} to {high:.4f}, 95 %); the front is that of exact "
        f"overlaps with {estimates['front_confidence']:.0%} confidence"
    )


def _columns(measures: PoolMeasures) -> dict[str, Float64Array]:
    return {
        "density": measures.scores.density,
        "coverage": measures.scores.coverage,
        "precision": measures.precision,
        "recall": measures.recall,
    }


def _by_name(names: tuple[str, ...], values: Float64Array) -> dict[str, float | None]:
    # JSON has no NaN.
    return {
        name: None if value != value else value
        for name, value in zip(names, values.tolist(), strict=True)
    }


def tables(
    measures: PoolMeasures,
    distances: dict[str, float],
    rows: dict[str, dict[str, float]],
    inter: str,
    seconds: float,
) -> RenderableType:
    """Scores by member, and the memorisation table where there is one."""
    scores = measures.scores
    overlap = scores.overlap if inter == "symmetric" else scores.directed
    mean = np.nan_to_num(overlap).sum(axis=1) / max(1, len(scores) - 1)
    columns = {**_columns(measures), "Intra-d": scores.capped_intra_d}
    columns |= {"as paper": scores.intra_d, "overlap": mean}
    if distances:
        columns["Fréchet"] = np.array([distances[name] for name in scores.names])
    title = (
        f"{counted(len(scores), 'member')}, k = {scores.k}, {seconds:.1f} s; overlap: mean, {inter}"
    )
    spare = [name for name in reversed(columns) if name != "Intra-d"]
    table = FittingTable("member", *columns, title=title, spare=spare, wraps=("member",))
    for index in np.argsort(-scores.capped_intra_d, kind="stable").tolist():
        # Members taken over from known scores have no precision and recall.
        values = (float(each[index]) for each in columns.values())
        table.add_row(scores.names[index], *map(_cell, values))
    below: list[RenderableType] = [] if scores.spread is None else [_exactness(scores)]
    below += [_memorisation_table(rows)] if rows else []
    return Group(table, *(part for each in below for part in ("", each)))


def _cell(value: float) -> str:
    """Four decimals; four digits where a distance is huge."""
    if np.isnan(value):
        return "–"
    return f"{value:.4f}" if abs(value) < 1e6 else f"{value:.4g}"


def _memorisation_table(rows: dict[str, dict[str, float]]) -> FittingTable:
    names = ("copy_candidates", "copy_share", "baseline_share", "c_t", "p_value")
    headings = ("copies", "share", "of held-out", "C_T", "p")
    spare = headings[:0:-1]
    table = FittingTable("member", *headings, title="memorisation", spare=spare, wraps=("member",))
    for member, row in sorted(rows.items(), key=lambda item: -item[1]["copy_share"]):
        table.add_row(member, *(f"{row[name]:.4g}" for name in names))
    return table
