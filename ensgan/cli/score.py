"""``ensgan score``: densities, coverage masks and overlaps of a pool."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ensgan.cli.output import JsonOption, emit, note, progress, warn
from ensgan.errors import InputError, unknown_name

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from ensgan.metrics import PoolMeasures
    from ensgan.metrics.files import PoolFeatures
    from ensgan.types import PoolScores


def score(
    features: Annotated[
        Path, typer.Argument(help="features.npz, or a folder of features.", show_default=False)
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Where to write scores.npz.")],
    k: Annotated[int, typer.Option("-k", help="Neighbour that sets the radius.")] = 5,
    backend: Annotated[str, typer.Option(help="auto, torch or faiss.")] = "auto",
    memory: Annotated[float, typer.Option(help="Working memory, GB.")] = 2.0,
    inter: Annotated[str, typer.Option(help="Overlap shown: symmetric or directed.")] = "symmetric",
    extractor: Annotated[
        str, typer.Option(help="For folders of images: which network embeds them.")
    ] = "random",
    weights: Annotated[
        Path | None, typer.Option(help="For folders of images: weight file of the extractor.")
    ] = None,
    held_out: Annotated[
        Path | None,
        typer.Option(help="Features of real images never trained on (.npy): show memorisation."),
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget an interrupted run.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Score a pool of generators; run again after an interruption, it continues.

    FEATURES is an .npz with real [N,D], fake [M,S,D] and names [M]; or a folder with real.npy and
    one NAME.npy a member; or a folder with real/ and fake/NAME/ of .npy files or of images.

    Example: ensgan score features.npz -o scores.npz --memory 4
    """
    from ensgan import metrics

    if inter not in ("symmetric", "directed"):
        raise InputError(unknown_name("form of Inter-d", inter, ("symmetric", "directed")))
    start = time.perf_counter()
    pool = _pool(features, extractor, weights)
    checkpoint = output.with_name(f".{output.name}.blocks")
    if fresh:
        _remove(checkpoint)
    with progress("scoring", "pairs") as report:
        measures = metrics.measure_pool(
            pool.real,
            pool.fakes,
            pool.names,
            k=k,
            backend=backend,
            memory_bytes=round(memory * 2**30),
            extractor=pool.extractor,
            checkpoint=checkpoint,
            on_progress=report,
            on_warning=warn,
        )
    measures.scores.save(output)
    _remove(checkpoint)
    rows = _memorisation(pool, held_out, backend)
    seconds = time.perf_counter() - start
    note(f"wrote {output}")
    emit(
        _summary(measures.scores, seconds) | ({"memorisation": rows} if rows else {}),
        as_json=as_json,
        table=lambda: _tables(measures, rows, inter, seconds),
    )


def _pool(features: Path, extractor: str, weights: Path | None) -> PoolFeatures:
    from ensgan.cli.pool_images import embed_pool, is_image_pool
    from ensgan.metrics.files import load_pool

    if not is_image_pool(features):
        return load_pool(features)
    with progress("embedding", "images") as report:
        return embed_pool(features, extractor, weights, report)


def _memorisation(
    pool: PoolFeatures, held_out: Path | None, backend: str
) -> dict[str, dict[str, float]]:
    """One row a member and one for all of them; empty without held-out images."""
    if held_out is None:
        return {}
    from ensgan.metrics import Memorisation, MemorisationReference
    from ensgan.metrics.files import load_array

    reference = MemorisationReference(pool.real, load_array(held_out), backend=backend)
    found = [
        reference.measure(source, name=name)
        for source, name in zip(pool.fakes, pool.names, strict=True)
    ]
    rows = {name: each.row() for name, each in zip(pool.names, found, strict=True)}
    return {**rows, "(all members)": Memorisation.union(found).row()}


def _remove(checkpoint: Path) -> None:
    for pattern in ("block-*.npz", "radii-*.npz", "features-*.npy"):
        for file in checkpoint.glob(pattern):
            file.unlink()
    if checkpoint.is_dir() and not any(checkpoint.iterdir()):
        checkpoint.rmdir()


def _summary(scores: PoolScores, seconds: float) -> dict[str, object]:
    return {
        "members": len(scores),
        "k": scores.k,
        "seconds": round(seconds, 3),
        "density": dict(zip(scores.names, scores.density.tolist(), strict=True)),
        "coverage": dict(zip(scores.names, scores.coverage.tolist(), strict=True)),
    }


def _tables(
    measures: PoolMeasures, rows: dict[str, dict[str, float]], inter: str, seconds: float
) -> RenderableType:
    from rich.console import Group

    scores = _table(measures, inter, seconds)
    return Group(scores, _memorisation_table(rows)) if rows else scores


def _table(measures: PoolMeasures, inter: str, seconds: float) -> Table:
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
    title = f"{len(scores)} members, k = {scores.k}, {seconds:.1f} s"
    table = Table("member", *columns, title=title)
    for index in np.argsort(-scores.intra_d, kind="stable").tolist():
        table.add_row(scores.names[index], *(f"{each[index]:.4f}" for each in columns.values()))
    return table


def _memorisation_table(rows: dict[str, dict[str, float]]) -> Table:
    from rich.table import Table

    names = ("copy_candidates", "copy_share", "baseline_share", "c_t", "p_value")
    headings = ("copies", "share", "of held-out", "C_T", "p")
    table = Table("member", *headings, title="memorisation")
    for member, row in sorted(rows.items(), key=lambda item: -item[1]["copy_share"]):
        table.add_row(member, *(f"{row[name]:.4g}" for name in names))
    return table
