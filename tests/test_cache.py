"""The cache of features and decoded images stays within its bound, whoever reads meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ensgan.caches import CACHE_MARK, cache_limit, read_cached, trim_cache, write_cached
from ensgan.embedding import embed, make_extractor
from ensgan.errors import InputError

A, B, C, D = ("0123456789abcde" + letter for letter in "abcd")
"""Names that ensgan gives: content keys."""


def put(folder: Path, name: str, kilobytes: int, age: float, *, mark: str = CACHE_MARK) -> Path:
    path = folder / f"{name}.npz"
    np.savez(path, features=np.zeros(kilobytes * 125), **{mark: np.array(1)})  # type: ignore[arg-type]
    used = time.time() - age
    os.utime(path, (used, used))
    return path


def test_the_longest_unused_go_first_and_reading_is_using(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, middle, new = (
        put(tmp_path, name, 100, age) for name, age in zip((A, B, C), (3, 2, 1), strict=True)
    )
    assert read_cached(old, ("features",)) is not None
    monkeypatch.setenv("ENSGAN_CACHE_GB", "0.00032")  # three of four
    write_cached(tmp_path / f"{D}.npz", features=np.zeros(12_500))
    assert (
        not middle.exists() and old.exists() and new.exists() and (tmp_path / f"{D}.npz").exists()
    )


def test_the_newest_stays_whatever_its_size_and_zero_keeps_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, A, 10, 5)
    monkeypatch.setenv("ENSGAN_CACHE_GB", "0.00002")
    write_cached(tmp_path / f"{B}.npz", features=np.zeros(12_500))
    assert [path.name for path in tmp_path.iterdir()] == [f"{B}.npz"]
    monkeypatch.setenv("ENSGAN_CACHE_GB", "0")
    write_cached(tmp_path / f"{C}.npz", features=np.zeros(3))
    assert not (tmp_path / f"{C}.npz").exists()


def test_others_files_and_those_being_written_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    kept = [
        put(tmp_path / "sub", A, 10, 9),
        put(tmp_path, f".{B}.npz.tmp", 10, 9),
        put(tmp_path, "my-scans-1", 10, 9),
        put(tmp_path, C, 10, 9, mark="mine"),
        put(tmp_path, D, 10, 1, mark="extractor"),
        put(tmp_path, ".notes.npz.killed", 10, 2 * 86_400),
    ]
    (tmp_path / "notes.txt").write_text("mine")
    stale = put(tmp_path, f".{C}.npz.killed", 10, 2 * 86_400)
    gone = put(tmp_path, A, 10, 1)
    trim_cache(tmp_path, 0)
    assert not stale.exists() and not gone.exists()
    assert all(path.exists() for path in kept) and (tmp_path / "notes.txt").exists()


@pytest.mark.parametrize("text", ["ten", "-1", "nan", "inf"])
def test_a_limit_that_is_none_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENSGAN_CACHE_GB", text)
    with pytest.raises(InputError, match=f"ENSGAN_CACHE_GB is '{text}': give gigabytes"):
        cache_limit()
    monkeypatch.setenv("ENSGAN_CACHE_GB", "")
    assert cache_limit() == 10_000_000_000


def test_a_damaged_or_vanished_result_is_computed_again(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 32, 32), dtype=np.uint8)
    extractor = make_extractor("random")
    first = embed(images, extractor, cache=tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:100])
    np.testing.assert_array_equal(embed(images, extractor, cache=tmp_path).features, first.features)
    path.unlink()
    np.testing.assert_array_equal(embed(images, extractor, cache=tmp_path).features, first.features)


READER = """
import sys, time
from pathlib import Path
from ensgan.caches import read_cached
found = missed = 0
until = time.monotonic() + float(sys.argv[2])
while time.monotonic() < until:
    for path in sorted(Path(sys.argv[1]).glob("[!.]*.npz")):
        arrays = read_cached(path, ("features",))
        found, missed = found + (arrays is not None), missed + (arrays is None)
        assert arrays is None or (arrays["features"] == int(path.stem, 16)).all(), path
print(found, missed)
"""


def test_readers_beside_a_writer_that_trims_see_whole_results_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENSGAN_CACHE_GB", "0.0005")
    command = [sys.executable, "-c", READER, str(tmp_path), "1.0"]
    readers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    number = 0
    while any(reader.poll() is None for reader in readers):
        write_cached(tmp_path / f"{number:016x}.npz", features=np.full(12_500, number))
        number += 1
        assert sum(path.stat().st_size for path in tmp_path.glob("*.npz")) <= 500_000
    counts = [reader.communicate()[0].split() for reader in readers]
    assert all(reader.returncode == 0 for reader in readers)
    assert sum(int(found) for found, _ in counts) > 0 and number > 10
