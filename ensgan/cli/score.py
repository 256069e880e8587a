"""``ensgan score``: densities, coverage masks and overlaps of a pool."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ensgan.cli.output import JsonOption, emit, note, progress, warn
from ensgan.errors import InputError, unknown_name

if TYPE_CHECKING:
    from rich.table import Table

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
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget an interrupted run.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Score a pool of generators; run again after an interruption, it continues.

    Example: ensgan score features.npz -o scores.npz --memory 4
    """
    from ensgan import metrics
    from ensgan.metrics.files import load_pool

    if inter not in ("symmetric", "directed"):
        raise InputError(unknown_name("form of Inter-d", inter, ("symmetric", "directed")))
    start = time.perf_counter()
    pool = load_pool(features)
    checkpoint = output.with_name(f".{output.name}.blocks")
    if fresh:
        _remove(checkpoint)
    with progress("scoring", "pairs") as report:
        scores = metrics.score_pool(
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
    scores.save(output)
    _remove(checkpoint)
    seconds = time.perf_counter() - start
    note(f"wrote {output}")
    emit(_summary(scores, seconds), as_json=as_json, table=lambda: _table(scores, inter, seconds))


def _remove(checkpoint: Path) -> None:
    for block in checkpoint.glob("block-*.npz"):
        block.unlink()
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


def _table(scores: PoolScores, inter: str, seconds: float) -> Table:
    import numpy as np
    from rich.table import Table

    overlap = scores.overlap if inter == "symmetric" else scores.directed
    others = max(1, len(scores) - 1)
    mean = np.nan_to_num(overlap).sum(axis=1) / others
    table = Table(
        "member",
        "density",
        "coverage",
        "Intra-d",
        f"mean {inter} overlap",
        title=f"{len(scores)} members, k = {scores.k}, {seconds:.1f} s",
    )
    for index in np.argsort(-scores.intra_d, kind="stable").tolist():
        table.add_row(
            scores.names[index],
            f"{scores.density[index]:.4f}",
            f"{scores.coverage[index]:.4f}",
            f"{scores.intra_d[index]:.4f}",
            f"{mean[index]:.4f}",
        )
    return table
