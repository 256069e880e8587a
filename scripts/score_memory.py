"""Peak memory of scoring a pool that is larger than its budget, in a process of its own.

The features are written to a folder of .npy files, which ``score`` maps. The child checks and
hashes every set and measures its radii as ``ensgan score`` does, then scores the largest block of
pairs: all its rows, which stay in memory, against the first few of its columns, which pass through
one at a time. Nothing that comes later holds more.

Usage: scripts/score_memory.py FOLDER BUDGET_BYTES COLUMNS (called by bench_score.py)
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

MEBI = 2**20
POLL_SECONDS = 0.01


def peak_memory(
    members: int,
    points: int,
    dim: int,
    *,
    dtype: str,
    different: int,
    budget: int,
    columns: int,
    folder: Path | None,
) -> dict[str, Any]:
    """Write the pool, score a part of it in a child, and watch the child's memory.

    Args:
        members, points, dim: of the pool; the real set has as many points.
        dtype: float32 or float16.
        different: members of different content; the others are copies of these in files of their
            own, whose radii ``score`` finds by content.
        budget: bytes, as ``--memory``.
        columns: sets that pass through the block.
        folder: where to write; None for the system's temporary folder.
    """
    if not Path("/proc/self/status").exists():
        raise SystemExit("--parts memory reads /proc, which this system lacks")
    place = Path(tempfile.mkdtemp(prefix="ensgan-memory-", dir=folder))
    try:
        begin = time.perf_counter()
        write_pool(place / "pool", members, points, dim, dtype, different)
        written = time.perf_counter() - begin
        result = watch([str(place / "pool"), str(budget), str(columns)])
    finally:
        shutil.rmtree(place)
    size = np.dtype(dtype).itemsize
    return {
        "members": members,
        "points": points,
        "dim": dim,
        "dtype": dtype,
        "different_members": different,
        "features_mib": (members + 1) * points * dim * size / MEBI,
        "budget_mib": budget / MEBI,
        "seconds_to_write": written,
        **result,
        "within_budget": result["anonymous_growth_mib"] <= budget / MEBI,
    }


def write_pool(
    folder: Path, members: int, points: int, dim: int, dtype: str, different: int
) -> None:
    folder.mkdir()
    random = np.random.default_rng(0)
    first, second = (random.standard_normal((points, dim), dtype=np.float32) for _ in range(2))
    np.save(folder / "real.npy", first.astype(dtype))
    for member in range(members):
        # Mixtures of two draws, each in an order of its own: no two sets share a point.
        angle = np.float32(np.pi * (1 + member % different) / (2 * different + 2))
        mixed = np.cos(angle) * first + np.sin(angle) * np.roll(second, member % different, axis=0)
        np.save(folder / f"G{member:03d}@1.npy", mixed.astype(dtype))


def watch(words: list[str]) -> dict[str, Any]:
    """Run the child; its anonymous and mapped memory before it scores and at the peak."""
    command = [sys.executable, str(Path(__file__)), *words]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    if child.stdout.readline() != "ready\n":
        raise SystemExit(f"the child could not start (exit code {child.wait()})")
    base, _ = resident(child.pid)
    anonymous = mapped = 0
    while child.poll() is None:
        now = resident(child.pid)
        anonymous, mapped = max(anonymous, now[0]), max(mapped, now[1])
        time.sleep(POLL_SECONDS)
    if child.returncode:
        raise SystemExit(f"scoring failed in the child (exit code {child.returncode})")
    return {
        "anonymous_before_mib": base / MEBI,
        "anonymous_peak_mib": anonymous / MEBI,
        "anonymous_growth_mib": (anonymous - base) / MEBI,
        "mapped_peak_mib": mapped / MEBI,
        **json.loads(child.stdout.read()),
    }


def resident(pid: int) -> tuple[int, int]:
    """Anonymous (private) and file-backed resident bytes; zero once the process is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0, 0
    found = dict(line.split(":", 1) for line in lines)
    return tuple(1024 * int(found.get(key, "0").split()[0]) for key in ("RssAnon", "RssFile"))  # type: ignore[return-value]


class _EnoughError(Exception):
    """The block was scored as far as asked for."""


def score_part(folder: Path, budget: int, columns: int) -> dict[str, Any]:
    """What ``ensgan score`` does with the folder, up to the first columns of one block."""
    from ensgan.metrics import measure_pool, prdc
    from ensgan.metrics.blocks import BlockScorer
    from ensgan.metrics.extend import feature_contents
    from ensgan.metrics.features import load_pool

    warm = np.random.default_rng(0).standard_normal((600, 64))
    prdc(warm, warm + 1)  # the libraries' own memory
    print("ready", flush=True)
    begin = time.perf_counter()
    done: dict[str, Any] = {}

    def mapper(work: Callable[[Any], Any], tasks: Iterable[Any]) -> Iterator[Any]:
        if not isinstance(work, BlockScorer):
            yield from map(work, tasks)
            return
        done["seconds_of_radii"] = time.perf_counter() - begin
        largest = max(tasks, key=lambda task: int(task.wanted.sum()))
        wanted = largest.wanted[:, -columns:]
        block = work(replace(largest, columns=largest.columns[-columns:], wanted=wanted))
        done["rows_in_memory"] = len(largest.rows)
        done["products"] = int(block.wanted.sum())
        done["seconds_of_block"] = time.perf_counter() - begin - done["seconds_of_radii"]
        raise _EnoughError

    pool = load_pool(folder, scratch=folder.parent, memory_bytes=budget)
    feature_contents(pool.real, pool.fakes, pool.names)
    kept = folder.parent / "blocks"
    try:
        measure_pool(
            pool.real, pool.fakes, pool.names, memory_bytes=budget, checkpoint=kept, mapper=mapper
        )
    except _EnoughError:
        return done
    raise AssertionError("no block was scored")


def show_memory(result: dict[str, Any]) -> None:
    print(
        f"{result['members']} × {result['points']:,} × {result['dim']:,} {result['dtype']}: "
        f"features {result['features_mib']:,.0f} MiB, budget {result['budget_mib']:,.0f} MiB\n"
        f"anonymous memory {result['anonymous_peak_mib']:,.0f} MiB at its peak, "
        f"{result['anonymous_growth_mib']:,.0f} MiB more than the libraries before "
        f"({'within' if result['within_budget'] else 'ABOVE'} the budget); "
        f"mapped pages of the features {result['mapped_peak_mib']:,.0f} MiB\n"
        f"{result['products']} products with {result['rows_in_memory']} sets in memory"
    )


if __name__ == "__main__":
    print(json.dumps(score_part(Path(sys.argv[1]), *map(int, sys.argv[2:4]))))
