"""``ensgan score``: densities, coverage masks and overlaps of a pool."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ensgan.cli.output import JsonOption, emit, note, progress, warn
from ensgan.cli.pool_images import (
    AcceptOption,
    DataDirOption,
    DataOption,
    RealSource,
    SizeOption,
    embed_pool,
    known_part,
    read_images,
)
from ensgan.cli.score_options import (
    AddressOption,
    BackendOption,
    CpusOption,
    ExtendOption,
    ExtractorOption,
    FastOption,
    FrechetOption,
    FreshOption,
    GpusOption,
    HeldOutOption,
    InterOption,
    MemoryOption,
    WeightsOption,
)
from ensgan.errors import InputError, unknown_name

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from ensgan.metrics import Mapper, PoolMeasures
    from ensgan.metrics.files import PoolFeatures


def score(
    features: Annotated[
        Path, typer.Argument(help="features.npz, or a folder of features.", show_default=False)
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Where to write scores.npz.")],
    k: Annotated[int, typer.Option("-k", help="Neighbour that sets the radius.")] = 5,
    backend: BackendOption = "auto",
    memory: MemoryOption = 2.0,
    fast: FastOption = False,
    frechet: FrechetOption = None,
    inter: InterOption = "symmetric",
    extractor: ExtractorOption = "random",
    weights: WeightsOption = None,
    held_out: HeldOutOption = None,
    address: AddressOption = "none",
    cpus_per_task: CpusOption = 1.0,
    gpus_per_task: GpusOption = 0.0,
    extend: ExtendOption = None,
    data: DataOption = None,
    data_dir: DataDirOption = None,
    image_size: SizeOption = None,
    accept_checksum: AcceptOption = None,
    fresh: FreshOption = False,
    as_json: JsonOption = False,
) -> None:
    """Score a pool of generators; run again after an interruption, it continues.

    FEATURES is an .npz with real [N,D], fake [M,S,D] and names [M]; or a folder with real.npy and
    one NAME.npy a member; or a folder with real/ and fake/NAME/ of .npy files or of images (or
    fake/NAME.npz). Generators may join later: --extend takes over what has been scored already.

    Memory stays under --memory however large the pool is: what is larger is mapped, not read. On
    Ray, the folder of the output must lie on storage that all nodes see.

    Example: ensgan score features.npz -o scores.npz --memory 4
    """
    if inter not in ("symmetric", "directed"):
        raise InputError(unknown_name("form of Inter-d", inter, ("symmetric", "directed")))
    start = time.perf_counter()
    checkpoint = output.with_name(f".{output.name}.blocks")
    if fresh:
        _remove(checkpoint)
    budget = round(memory * 2**30)
    real = RealSource(data, data_dir, image_size, accept_checksum)
    if _are_images(features):
        pool = _embedded(features, real, extractor, weights, held_out)
    else:
        pool = _read(features, real, held_out, checkpoint, budget)
    say_backend(backend)
    settings = {"k": k, "backend": backend, "memory_bytes": budget, "fast": fast}
    settings["known"] = None if extend is None else known_part(extend, pool, k, warn)
    with _mapper(address, cpus_per_task, gpus_per_task) as mapper:
        if mapper is not map:
            pool = pool.on_disk(checkpoint)
        measures = _measure(pool, settings, checkpoint, mapper)
        distances = _frechet(pool, frechet, checkpoint, mapper)
    replace(measures.scores, contents=pool.contents).save(output)
    _remove(checkpoint)
    if measures.fast_error is not None:
        warn(str(measures.fast_error))
    rows = _memorisation(pool, backend)
    seconds = time.perf_counter() - start
    note(f"wrote {output}")
    emit(
        _summary(measures, distances, seconds) | ({"memorisation": rows} if rows else {}),
        as_json=as_json,
        table=lambda: _tables(measures, distances, rows, inter, seconds),
    )


def say_backend(name: str) -> None:
    """Say on a terminal what ``auto`` stands for, and why."""
    if name == "auto":
        from ensgan.metrics.choice import chosen

        note(f"backend: {chosen().reason}")


def _measure(
    pool: PoolFeatures, settings: dict[str, Any], checkpoint: Path, mapper: Mapper
) -> PoolMeasures:
    from ensgan.metrics import measure_pool

    with progress("scoring", "products") as report:
        return measure_pool(
            pool.real,
            pool.fakes,
            pool.names,
            **settings,
            extractor=pool.extractor,
            checkpoint=checkpoint,
            on_progress=report,
            on_warning=warn,
            mapper=mapper,
        )


@contextmanager
def _mapper(address: str, cpus: float, gpus: float) -> Iterator[Mapper]:
    """Where the blocks are computed: in this process, or on Ray."""
    if address == "none":
        yield map
        return
    from ensgan.cluster.spread import task_mapper

    with task_mapper(address, cpus=cpus, gpus=gpus) as mapper:
        yield mapper


def _frechet(
    pool: PoolFeatures, wanted: bool | None, checkpoint: Path, mapper: Mapper
) -> dict[str, float]:
    """Fréchet distance of every member; empty where it is not wanted."""
    from ensgan.metrics.features import open_features
    from ensgan.metrics.frechet import CHEAP_DIM, frechet_distances

    if wanted is None:
        wanted = open_features(pool.real, "real features").shape[1] <= CHEAP_DIM
    if not wanted:
        return {}
    with progress("Fréchet distances", "members") as report:
        return frechet_distances(
            pool.real,
            pool.fakes,
            pool.names,
            checkpoint=checkpoint,
            mapper=mapper,
            on_progress=report,
        )


def _are_images(features: Path) -> bool:
    from ensgan.data.pool import is_image_pool

    return is_image_pool(features)


def _embedded(
    folder: Path, real: RealSource, extractor: str, weights: Path | None, held_out: Path | None
) -> PoolFeatures:
    """Features of a pool of images; images in its ``held_out/`` count when nothing else is said."""
    from ensgan.data.pool import read_others

    images = read_images(folder, real)
    if held_out is None and (folder / "held_out").is_dir():
        held_out = folder / "held_out"
    unseen = None if held_out is None else read_others(held_out, images.real.shape)
    with progress("embedding", "images") as report:
        return embed_pool(images, extractor, weights, report, unseen)


def _read(
    path: Path, real: RealSource, held_out: Path | None, scratch: Path, memory_bytes: int
) -> PoolFeatures:
    from ensgan.metrics.files import load_array, load_pool
    from ensgan.metrics.growing import feature_contents

    if real.data is not None:
        raise InputError(f"--data gives real images, but {path} holds features: drop it")
    pool = load_pool(path, scratch=scratch, memory_bytes=memory_bytes)
    return replace(
        pool,
        contents=feature_contents(pool.real, pool.fakes, pool.names),
        held_out=None if held_out is None else load_array(held_out),
    )


def _memorisation(pool: PoolFeatures, backend: str) -> dict[str, dict[str, float]]:
    """One row a member and one for all of them; empty without held-out images."""
    if pool.held_out is None:
        return {}
    from ensgan.metrics import Memorisation, MemorisationReference

    reference = MemorisationReference(pool.real, pool.held_out, backend=backend)
    found = [
        reference.measure(source, name=name)
        for source, name in zip(pool.fakes, pool.names, strict=True)
    ]
    rows = {name: each.row() for name, each in zip(pool.names, found, strict=True)}
    return {**rows, "(all members)": Memorisation.union(found).row()}


def _remove(checkpoint: Path) -> None:
    for pattern in ("block-*.npz", "radii-*.npz", "frechet-*.json", "features-*.npy"):
        for file in checkpoint.glob(pattern):
            file.unlink()
    if checkpoint.is_dir() and not any(checkpoint.iterdir()):
        checkpoint.rmdir()


def _summary(
    measures: PoolMeasures, distances: dict[str, float], seconds: float
) -> dict[str, object]:
    scores = measures.scores
    columns = {
        "density": scores.density,
        "coverage": scores.coverage,
        "precision": measures.precision,
        "recall": measures.recall,
    }
    named = {
        name: {
            member: None if value != value else value  # JSON has no NaN
            for member, value in zip(scores.names, values.tolist(), strict=True)
        }
        for name, values in columns.items()
    }
    error = measures.fast_error
    return {
        "members": len(scores),
        "k": scores.k,
        "seconds": round(seconds, 3),
        **named,
        **({"frechet": distances} if distances else {}),
        **({"fast_error": error.to_json()} if error is not None else {}),
    }


def _tables(
    measures: PoolMeasures,
    distances: dict[str, float],
    rows: dict[str, dict[str, float]],
    inter: str,
    seconds: float,
) -> RenderableType:
    from rich.console import Group

    scores = _table(measures, distances, inter, seconds)
    return Group(scores, _memorisation_table(rows)) if rows else scores


def _table(
    measures: PoolMeasures, distances: dict[str, float], inter: str, seconds: float
) -> Table:
    import numpy as np
    from rich.table import Table

    scores = measures.scores
    overlap = scores.overlap if inter == "symmetric" else scores.directed
    mean = np.nan_to_num(overlap).sum(axis=1) / max(1, len(scores) - 1)
    columns = {
        "density": scores.density,
        "coverage": scores.coverage,
        "precision": measures.precision,
        "recall": measures.recall,
        "Intra-d": scores.intra_d,
        f"mean {inter} overlap": mean,
    }
    if distances:
        columns["Fréchet"] = np.array([distances[name] for name in scores.names])
    title = f"{len(scores)} members, k = {scores.k}, {seconds:.1f} s"
    table = Table("member", *columns, title=title)
    for index in np.argsort(-scores.intra_d, kind="stable").tolist():
        # Members taken over from known scores have no precision and recall.
        cells = (f"{each[index]:.4f}".replace("nan", "–") for each in columns.values())
        table.add_row(scores.names[index], *cells)
    return table


def _memorisation_table(rows: dict[str, dict[str, float]]) -> Table:
    from rich.table import Table

    names = ("copy_candidates", "copy_share", "baseline_share", "c_t", "p_value")
    headings = ("copies", "share", "of held-out", "C_T", "p")
    table = Table("member", *headings, title="memorisation")
    for member, row in sorted(rows.items(), key=lambda item: -item[1]["copy_share"]):
        table.add_row(member, *(f"{row[name]:.4g}" for name in names))
    return table
