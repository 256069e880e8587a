"""``ensgan score``: densities, coverage masks and overlaps of a pool."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ensgan.cli.output import JsonOption, check_output, emit, note, progress, warn
from ensgan.cli.pool_images import (
    AcceptOption,
    DataDirOption,
    DataOption,
    RealSource,
    SizeOption,
    known_part,
)
from ensgan.cli.score_inputs import PoolSource, read_pool
from ensgan.cli.score_options import (
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
    ResamplesOption,
    WeightsOption,
)
from ensgan.cli.score_table import summary, tables
from ensgan.cli.sweep import AddressOption, OpenClusterOption
from ensgan.errors import InputError, unknown_name

if TYPE_CHECKING:
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
    resamples: ResamplesOption = 0,
    frechet: FrechetOption = None,
    inter: InterOption = "symmetric",
    extractor: ExtractorOption = "random",
    weights: WeightsOption = None,
    held_out: HeldOutOption = None,
    address: AddressOption = "none",
    allow_open_cluster: OpenClusterOption = False,
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
    check_output(output)
    start = time.perf_counter()
    checkpoint = _checkpoint(output, fresh=fresh)
    settings = {"k": k, "backend": backend, "memory_bytes": round(memory * 2**30)}
    settings |= {"fast": fast, "resamples": resamples}
    source = RealSource(data, data_dir, image_size, accept_checksum)
    given = PoolSource(features, source, extractor, weights, held_out)
    pool = read_pool(given, checkpoint, round(memory * 2**30))
    say_backend(backend)
    from ensgan.launch.executors import mapper_at

    tasks = mapper_at(
        address, cpus=cpus_per_task, gpus=gpus_per_task, allow_open_cluster=allow_open_cluster
    )
    measures, distances = _score(pool, settings, extend, frechet, checkpoint, tasks)
    replace(measures.scores, contents=pool.contents).save(output)
    _remove(checkpoint)
    rows = _memorisation(pool, backend)
    seconds = time.perf_counter() - start
    note(f"wrote {output}")
    emit(
        summary(measures, distances, seconds) | ({"memorisation": rows} if rows else {}),
        as_json=as_json,
        table=lambda: tables(measures, distances, rows, inter, seconds),
    )


def _score(
    pool: PoolFeatures,
    settings: dict[str, Any],
    extend: Path | None,
    frechet: bool | None,
    checkpoint: Path,
    tasks: AbstractContextManager[Mapper],
) -> tuple[PoolMeasures, dict[str, float]]:
    """The scores, and Fréchet distances where they are wanted."""
    known = None if extend is None else known_part(extend, pool, settings["k"], warn)
    if known is not None and known.resamples is not None and not settings["resamples"]:
        warn(
            f"{extend} holds {len(known.resamples)} resamples, the new scores will not: add "
            f"--resamples {len(known.resamples)} to keep them"
        )
    with tasks as mapper:
        if mapper is not map:
            pool = pool.on_disk(checkpoint)
        measures = _measure(pool, settings | {"known": known}, checkpoint, mapper)
        if measures.fast_error is not None:
            warn(str(measures.fast_error))
        return measures, _frechet(pool, frechet, checkpoint, mapper)


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


def _checkpoint(output: Path, *, fresh: bool) -> Path:
    """Where finished work of an interrupted run lies; emptied when it shall be forgotten."""
    checkpoint = output.with_name(f".{output.name}.blocks")
    if fresh:
        _remove(checkpoint)
    return checkpoint


def _remove(checkpoint: Path) -> None:
    for pattern in ("block-*.npz", "radii-*.npz", "frechet-*.json", "features-*.npy"):
        for file in checkpoint.glob(pattern):
            file.unlink()
    if checkpoint.is_dir() and not any(checkpoint.iterdir()):
        checkpoint.rmdir()
