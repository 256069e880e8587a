"""``ensgan score``, a whole pool, and ``ensgan prdc``, one generated set."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeAlias
from zipfile import BadZipFile, ZipFile

import typer

from ensgan import metrics
from ensgan.cli import output as out
from ensgan.cli.catalogue import AcceptOption, DataDirOption
from ensgan.cli.output import FittingTable
from ensgan.cli.pool import DataOption, PoolSource, RealSource, SizeOption, summary, tables
from ensgan.embedding import EXTRACTORS
from ensgan.errors import InputError, unknown_name
from ensgan.files import content_key
from ensgan.launch.executors import mapper_at
from ensgan.metrics.extend import still_valid
from ensgan.metrics.features import PoolFeatures, load_array, open_features
from ensgan.metrics.reference import CHEAP_DIM, frechet_distances
from ensgan.outputs import one_at_a_time
from ensgan.types import PoolScores

BackendOption: TypeAlias = Annotated[
    str, typer.Option(help="auto (torch), torch or faiss; the numbers are the same.")
]
MemoryOption: TypeAlias = Annotated[
    float, typer.Option(help="Working memory, GB; of each task on Ray.")
]
ClassesOption: TypeAlias = Annotated[
    str,
    typer.Option(
        help="joint, or per-class: balls and points within each class only, classes combined by "
        "their shares of the real points (needs labels)."
    ),
]
ResamplesOption: TypeAlias = Annotated[
    int,
    typer.Option(
        help="Also score so many random parts of the points and images (200, say): what "
        "'ensgan select --bootstrap' needs for intervals of both objectives."
    ),
]
FrechetOption: TypeAlias = Annotated[
    bool | None,
    typer.Option(help="Fréchet distance too (seconds per member at 2048).  [default: up to 512]"),
]
InterOption: TypeAlias = Annotated[
    str, typer.Option(help="Overlap shown (and searched by): symmetric or directed.")
]
ApproximateOption: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--approximate-inter",
        metavar="SHARE",
        help="Estimate overlaps from this share of each member's balls (.2, say), and score those "
        "that the front hangs on exactly.",
    ),
]
ExtractorOption: TypeAlias = Annotated[
    str,
    typer.Option(
        help=f"For folders of images: which network embeds them: {', '.join(EXTRACTORS.names())}."
    ),
]
WeightsOption: TypeAlias = Annotated[
    Path | None, typer.Option(help="For folders of images: weight file of the extractor.")
]
HeldOutOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        help="Real images never trained on (.npy features, or for a pool of images a folder of "
        "images): show memorisation.  [default: held_out/ of a pool of images]"
    ),
]
ExtendOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(help="Scores of an earlier pool: only new members and pairs are computed."),
]
FreshOption: TypeAlias = Annotated[
    bool, typer.Option("--fresh", help="Discard an interrupted run.")
]
CpusOption: TypeAlias = Annotated[
    float, typer.Option("--cpus-per-task", help="CPUs that a task on Ray reserves.")
]
GpusOption: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--gpus-per-task", help="GPUs that a task on Ray reserves; 0.25 shares. Else 1, if any."
    ),
]

_MOST_GB = 1e6


def score(
    features: Annotated[
        Path, typer.Argument(help="features.npz, or a folder of features.", show_default=False)
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Where to write scores.npz.")],
    k: Annotated[int, typer.Option("-k", help="Radii reach to the k-th neighbour.")] = 5,
    backend: BackendOption = "auto",
    memory: MemoryOption = 2.0,
    classes: ClassesOption = "joint",
    resamples: ResamplesOption = 0,
    frechet: FrechetOption = None,
    inter: InterOption = "symmetric",
    approximate_inter: ApproximateOption = None,
    extractor: ExtractorOption = "random",
    weights: WeightsOption = None,
    held_out: HeldOutOption = None,
    address: out.AddressOption = "none",
    allow_open_cluster: out.OpenClusterOption = False,
    cpus_per_task: CpusOption = 1.0,
    gpus_per_task: GpusOption = None,
    extend: ExtendOption = None,
    data: DataOption = None,
    data_dir: DataDirOption = None,
    image_size: SizeOption = None,
    accept_checksum: AcceptOption = None,
    fresh: FreshOption = False,
    force: out.ForceOption = False,
    as_json: out.JsonOption = False,
) -> None:
    """Score a pool of generators; run again after an interruption, it continues.

    FEATURES is an .npz with real [N,D], fake [M,S,D] and names [M]; or a folder with real.npy and
    one NAME.npy per member; or a folder with real/ and fake/NAME/ of .npy files or of images (or
    fake/NAME.npz). Generators may join later: --extend takes over what has been scored already.

    Memory stays under --memory however large the pool is: what is larger is mapped, not read. On
    Ray, the folder of the output must lie on storage that all nodes see.

    Example: ensgan score features.npz -o scores.npz --memory 4
    """
    _check("form of Inter-d", inter, ("symmetric", "directed"))
    _check("way to score classes", classes, ("joint", "per-class"))
    out.check_outputs((output, _holds_scores), inputs=(features, weights, held_out), force=force)
    start = time.perf_counter()
    real = RealSource(data, data_dir, image_size, accept_checksum)
    source = PoolSource(features, real, extractor, weights, held_out, classes == "per-class")
    with _checkpoint(output, fresh=fresh) as checkpoint:
        how: dict[str, Any] = {
            **{"k": k, "backend": backend, "memory_bytes": _memory_bytes(memory)},
            **{"resamples": resamples, "checkpoint": checkpoint},
            "approximate": _approximation(approximate_inter, inter),
        }
        pool = source.read(checkpoint, how["memory_bytes"])
        tasks = mapper_at(
            address, cpus=cpus_per_task, gpus=gpus_per_task, allow_open_cluster=allow_open_cluster
        )
        measures, distances = _score(pool, how, tasks, extend, frechet)
        replace(measures.scores, contents=pool.contents).save(output)
        rows = _memorisation(pool, backend)
    seconds = time.perf_counter() - start
    out.note(f"wrote {output}")
    out.emit(
        summary(measures, distances, seconds) | ({"memorisation": rows} if rows else {}),
        as_json=as_json,
        table=lambda: tables(measures, distances, rows, inter, seconds),
    )


def _memory_bytes(gigabytes: float) -> int:
    if not 0 < gigabytes <= _MOST_GB:  # neither does NaN
        raise InputError(f"--memory {gigabytes:g}: give gigabytes, above 0 and up to {_MOST_GB:g}")
    return round(gigabytes * 2**30)


def _check(kind: str, name: str, known: tuple[str, ...]) -> None:
    if name not in known:
        raise InputError(unknown_name(kind, name, known))


def _approximation(share: float | None, inter: str) -> metrics.Approximation | None:
    if share is None:
        return None
    from ensgan.search import pairs_to_score, search  # what scores exactly needs none of it

    front = partial(search, inter=inter)
    return metrics.Approximation(share, pairs_to_score(front, inter))


def _score(
    pool: PoolFeatures,
    how: Mapping[str, Any],
    tasks: AbstractContextManager[metrics.Mapper],
    extend: Path | None,
    frechet: bool | None,
) -> tuple[metrics.PoolMeasures, dict[str, float]]:
    """The scores, and Fréchet distances where they are wanted."""
    known = None
    if extend is not None:
        known = still_valid(PoolScores.load(extend), pool, how["k"], out.warn)
    if known is not None and known.resamples is not None and not how["resamples"]:
        out.warn(
            f"{extend} holds {len(known.resamples)} resamples, the new scores will not: add "
            f"--resamples {len(known.resamples)} to keep them"
        )
    with tasks as mapper:
        if mapper is not map:
            pool = pool.on_disk(how["checkpoint"])
        with out.progress("scoring", "products") as report:
            measures = metrics.measure_pool(
                *(pool.real, pool.fakes, pool.names),
                **how,
                labels=pool.labels,
                extractor=pool.extractor,
                known=known,
                mapper=mapper,
                on_progress=report,
                on_warning=out.warn,
            )
        if frechet is None:
            frechet = open_features(pool.real, "real features").shape[1] <= CHEAP_DIM
        if not frechet:
            return measures, {}
        with out.progress("Fréchet distances", "members") as report:
            distances = frechet_distances(
                *(pool.real, pool.fakes, pool.names),
                mapper=mapper,
                on_progress=report,
            )
        return measures, distances


def _memorisation(pool: PoolFeatures, backend: str) -> dict[str, dict[str, float]]:
    """One row per member and one for all of them; empty without held-out images."""
    if pool.held_out is None:
        return {}
    reference = metrics.MemorisationReference(pool.real, pool.held_out, backend=backend)
    measured = [
        reference.measure(source, name=name)
        for source, name in zip(pool.fakes, pool.names, strict=True)
    ]
    rows = {name: each.row() for name, each in zip(pool.names, measured, strict=True)}
    return {**rows, "(all members)": metrics.Memorisation.union(measured).row()}


@contextmanager
def _checkpoint(output: Path, *, fresh: bool) -> Iterator[Path]:
    """Folder of an interrupted run's finished work; removed at the end, or first by ``fresh``.

    Processes of this machine that score into the same output take turns.
    """
    checkpoint = output.with_name(f".{output.name}.blocks")
    key = content_key(str(output.resolve()), os.getuid())
    with one_at_a_time(Path(tempfile.gettempdir()) / f"ensgan-score-{key}.lock"):
        if fresh:
            _remove(checkpoint)
        yield checkpoint
        _remove(checkpoint)


def _remove(checkpoint: Path) -> None:
    with suppress(OSError):  # another node may still use the folder, or it holds other files
        for pattern in ("block-*.npz", "radii-*.npz", "features-*.npy"):
            for file in checkpoint.glob(pattern):
                file.unlink(missing_ok=True)
        checkpoint.rmdir()


def _holds_scores(path: Path) -> bool:
    """Whether a file is one that this command wrote: a table of all pairs is in it."""
    try:
        with ZipFile(path) as archive:
            return {"names.npy", "directed.npy"} <= set(archive.namelist())
    except (OSError, BadZipFile):
        return False


def prdc(
    real: Annotated[Path, typer.Argument(help="Real features [N,D], .npy.", show_default=False)],
    fake: Annotated[
        Path, typer.Argument(help="Generated features [M,D], .npy.", show_default=False)
    ],
    k: Annotated[int, typer.Option("-k", help="Radii reach to the k-th neighbour.")] = 5,
    backend: BackendOption = "auto",
    as_json: out.JsonOption = False,
) -> None:
    """Precision, recall, density and coverage of generated features.

    Example: ensgan prdc real.npy fake.npy -k 5 --json
    """
    result = metrics.prdc(
        load_array(real), load_array(fake), k, backend=backend, on_warning=out.warn
    )
    out.emit(asdict(result), as_json=as_json, table=lambda: _measures(result))


def _measures(result: metrics.PRDC) -> FittingTable:
    table = FittingTable("measure", "value", title=f"k = {result.k}, {result.backend}")
    for name in ("precision", "recall", "density", "coverage"):
        table.add_row(name, f"{getattr(result, name):.4f}")
    table.add_row("points", f"{result.n_real} real, {result.n_fake} generated")
    return table
